"""The pod's configuration: what is refused at start rather than at every create."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from openshell_compute_k8s._rules import Frozen
from openshell_compute_k8s.config import KubernetesConfig
from openshell_compute_k8s.pod_config import PodConfig
from pydantic import ValidationError

REF = {"secret": "s", "key": "k"}
OWN = (
    "OPENSHELL_SANDBOX_ID",
    "OPENSHELL_SANDBOX_TOKEN",
    "OPENSHELL_SANDBOX_TOKEN_FILE",
    "OPENSHELL_ENDPOINT",
    "OPENSHELL_SANDBOX_UID",
    "OPENSHELL_LAUNCH_FILE",
)


def problem(pod: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        PodConfig.model_validate(pod)
    return str(caught.value)


@pytest.mark.parametrize(
    ("pod", "rule"),
    [
        ({"unknown": 1}, "unknown"),
        ({"supervisor": {"delivery": "sh"}}, "init-container"),
        ({"supervisor": {"image": "two words"}}, "white space"),
        ({"supervisor": {"mount_path": "relative"}}, "absolute"),
        ({"supervisor": {"mount_path": "/a$b"}}, "must not hold"),
        ({"endpoint": "gateway:8080"}, "http"),
        ({"endpoint": "https://user:pw@gateway"}, "without user"),
        ({"image_pull_policy": "missing"}, "IfNotPresent"),
        ({"image_pull_secrets": ["Not-A-Name"]}, "lower-case"),
        ({"service_account": ""}, "lower-case"),
        ({"sa_token": {"path": "/token"}}, "folder"),
        ({"sa_token": {"audience": "a b"}}, "audience"),
        ({"client_tls": {"layout": "single"}}, "secret must be set"),
        ({"client_tls": {"secret": "x"}}, "secret must be set"),
        ({"client_tls": {"layout": "split"}}, "ca_secret must be set"),
        ({"client_tls": {"client_secret": "x"}}, "client_secret has no meaning"),
        ({"security": {"uid": 0}}, "greater than or equal to 1"),
        ({"security": {"gid": 2**31}}, "less than or equal"),
        ({"security": {"apparmor": "Localhost/"}}, "Localhost/ and a profile"),
        ({"security": {"capabilities": ["CAP_NET_RAW"]}}, "without CAP_"),
        ({"workspace": {"size": ""}}, "size must be set"),
        ({"workspace": {"size": "0"}}, "above zero"),
        ({"workspace": {"mount_path": "/opt"}}, "may be, hold or lie in another"),
        ({"ssh_socket_path": "/run/openshell/launch/s"}, "may be, hold or lie in another"),
        ({"resources": {"limits": {"gpu": "1"}}}, "device with a domain"),
        ({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}, "above its limit"),
        ({"node_selector": {"a": "b c"}}, "63 letters"),
        ({"tolerations": [{"operator": "Equal"}]}, "must be Exists"),
        ({"host_aliases": [{"ip": "here", "hostnames": ["a"]}]}, "IPv4"),
        ({"host_aliases": [{"ip": "192.0.2.1", "hostnames": []}]}, "at least 1"),
        ({"environment": {"1A": "x"}}, "not beginning with a digit"),
        ({"environment": {"A": "\0"}}, "NUL"),
        ({"environment": {"OPENSHELL_SSH_HANDSHAKE_SECRET": "x"}}, "environment_from_secrets"),
        ({"environment": {"A": "x"}, "environment_from_secrets": {"A": REF}}, "share a name"),
        ({"environment_from_secrets": {"A": {"secret": "s", "key": "a/b"}}}, "253 letters"),
        ({"termination_grace_seconds": 0}, "greater than or equal to 1"),
    ],
)
def test_setting_that_cannot_be_is_named_with_its_rule(pod: dict[str, Any], rule: str) -> None:
    assert rule in problem(pod)


@pytest.mark.parametrize("name", OWN)
def test_variable_of_the_drivers_own_is_not_configured(name: str) -> None:
    assert "the driver itself sets" in problem({"environment": {name: "x"}})
    assert "the driver itself sets" in problem({"environment_from_secrets": {name: REF}})


def test_message_has_no_value_in_it() -> None:
    for pod in (
        {"environment": {"OPENSHELL_SSH_HANDSHAKE_SECRET": "CANARY"}},
        {"environment": {"A": "CANARY\0"}},
        {"endpoint": "https://CANARY@gateway"},
        {"image_pull_secrets": ["CANARY"]},
    ):
        assert "CANARY" not in problem(pod)


@pytest.mark.parametrize(
    ("settings", "works"),
    [
        ({}, True),
        ({"stop_timeout": 31}, True),
        ({"stop_timeout": 30}, False),
        ({"stop_timeout": 5, "pod": {"termination_grace_seconds": 4}}, True),
        ({"pod": {"termination_grace_seconds": 89}}, True),
        ({"pod": {"termination_grace_seconds": 90}}, False),
        ({"stop_timeout": 600, "pod": {"termination_grace_seconds": 600}}, False),
    ],
)
def test_a_stop_outlasts_the_grace_of_its_pod(settings: dict[str, Any], works: bool) -> None:
    if works:
        KubernetesConfig.model_validate(settings)
        return
    with pytest.raises(ValidationError) as caught:
        KubernetesConfig.model_validate({**settings, "default_image": "canary"})
    (error,) = caught.value.errors()
    assert error["msg"] == "stop_timeout must be greater than pod.termination_grace_seconds"


def test_workspace_path_may_be_anywhere_where_there_is_none() -> None:
    PodConfig.model_validate({"workspace": {"volume": "none", "mount_path": "/opt"}})


def test_configuration_cannot_be_changed_and_can_be_copied() -> None:
    config = KubernetesConfig.model_validate({"pod": {"node_selector": {"a": "b"}}})

    assert isinstance(config.pod.node_selector, Frozen)
    assert isinstance(PodConfig().node_selector, Frozen)
    assert copy.deepcopy(config) == config
    assert hash(config.pod) == hash(copy.deepcopy(config.pod))
    assert KubernetesConfig.model_validate(config.model_dump()) == config
    assert config.model_dump(mode="json")["pod"]["node_selector"] == {"a": "b"}


def test_secrets_of_tls_are_listed() -> None:
    def listed(**tls: str) -> tuple[str, ...]:
        return PodConfig.model_validate({"client_tls": tls}).client_tls.secrets

    assert listed() == ()
    assert listed(layout="single", secret="one") == ("one",)
    assert listed(layout="split", ca_secret="ca", client_secret="own") == ("ca", "own")
    assert listed(layout="split", ca_secret="ca") == ("ca",)


def test_the_schema_can_be_printed_whole() -> None:
    schema = KubernetesConfig.model_json_schema()  # a warning of pydantic's is an error here
    assert {"pod", "workspaces", "gateway_id"} <= set(schema["properties"])
