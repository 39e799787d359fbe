"""``driver_config``: keys as the gateway's own Kubernetes driver has them, read strictly."""

from __future__ import annotations

from typing import Any

import pytest
from openshell_compute_k8s.options import SandboxOptions

from examples.k8s_compute.tests.pods import claim
from openshell_drivers import InvalidArgument
from openshell_drivers.compute import parse_config


def read(config: dict[str, Any]) -> SandboxOptions:
    options: SandboxOptions = parse_config(SandboxOptions, config)
    return options


def refused(config: dict[str, Any]) -> str:
    with pytest.raises(InvalidArgument) as caught:
        read(config)
    return caught.value.message


def test_empty_is_nothing_asked_for() -> None:
    assert read({}) == SandboxOptions()


def test_claims_are_named_once_each() -> None:
    volumes = [
        {"name": name, "persistent_volume_claim": {"claim_name": claim_name}}
        for name, claim_name in (("a", "pvc-1"), ("b", "pvc-1"), ("c", "pvc-2"))
    ]

    assert read({"volumes": volumes}).claims == ("pvc-1", "pvc-2")


@pytest.mark.parametrize(
    "config",
    [
        {"cdi_devices": []},
        {"pod": {"host_network": True}},
        {"containers": {"sidecar": {}}},
        {"containers": {"agent": {"image": "x"}}},
        {"volumes": [{"name": "a", "host_path": {"path": "/"}}]},
        {"volumes": [{"name": "a", "persistent_volume_claim": {"claim_name": "b", "x": 1}}]},
    ],
)
def test_unknown_key_is_refused(config: dict[str, Any]) -> None:
    assert "unknown key" in refused(config)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/proc",
        "/proc/sys",
        "/sys/fs",
        "/dev/shm",
        "/etc",
        "/etc/openshell",
        "/etc/openshell/skills",
        "/etc/openshell-tls/client",
        "/opt",
        "/opt/openshell/bin",
        "/run",
        "/run/openshell/launch",
        "/run/netns/x",
        "/run/secrets",
        "/tls/ca",
        "/var",
        "/var/run",
        "/var/run/openshell",
        "/var/run/secrets/openshell",
        "/var/run/netns",
    ],
)
def test_reserved_path_is_refused(path: str) -> None:
    assert "a path of the sandbox's own" in refused(claim(path=path)) or path == "/"


@pytest.mark.parametrize(
    "path",
    ["", "data", "./data", "/a/../etc", "/a//b", "//a", "/a/./b", "/a/", "/a:b", "/a\nb", " /a"],
)
def test_path_with_another_spelling_is_refused(path: str) -> None:
    assert "driver_config.containers.agent.volume_mounts.0.mount_path" in refused(claim(path=path))


@pytest.mark.parametrize("path", ["/data", "/etc/openshell-tools", "/opt/tool", "/srv/me", "/tlsx"])
def test_other_paths_are_free(path: str) -> None:
    assert read(claim(path=path)).mounts[0].mount_path == path


@pytest.mark.parametrize("sub_path", ["", "/abs", "../up", "a/../b", " a", "a\0"])
def test_sub_path_stays_in_its_volume(sub_path: str) -> None:
    assert "sub_path" in refused(claim(sub_path=sub_path))


@pytest.mark.parametrize("name", ["workspace", "openshell-launch", "Upper", "a.b", "", "x" * 64])
def test_volume_has_a_name_of_its_own(name: str) -> None:
    assert "driver_config.volumes.0.name" in refused(claim(name=name))


def test_mount_is_of_a_known_volume() -> None:
    mounts = [{"name": "b", "mount_path": "/b"}]

    assert "one of volumes" in refused({"containers": {"agent": {"volume_mounts": mounts}}})


def test_read_only_claim_is_not_mounted_writable() -> None:
    assert "read-only claim" in refused(claim(read_only=False))


def test_yes_is_not_true() -> None:
    assert "read_only" in refused(claim(read_only="yes"))


def test_nothing_twice() -> None:
    config = claim()
    config["volumes"] *= 2
    assert "name twice" in refused(config)

    config = claim()
    config["containers"]["agent"]["volume_mounts"] *= 2
    assert "mount_path twice" in refused(config)


@pytest.mark.parametrize(
    "toleration",
    [
        {"key": "a", "operator": "Exists", "value": "b"},
        {"operator": "Equal", "value": "b"},
        {"key": "a", "tolerationSeconds": 5},
        {"key": "a", "effect": "Never"},
        {"key": "a b"},
    ],
)
def test_toleration_that_kubernetes_refuses_is_refused(toleration: dict[str, Any]) -> None:
    assert "driver_config.pod.tolerations.0" in refused({"pod": {"tolerations": [toleration]}})


def test_message_has_no_value_in_it() -> None:
    for config in (
        claim(path="CANARY"),
        claim(name="CANARY"),
        {"pod": {"runtime_class_name": "CANARY"}},
        {"pod": {"node_selector": {"a": "CANARY "}}},
        {"containers": {"agent": {"resources": {"limits": {"cpu": "CANARY"}}}}},
    ):
        assert "CANARY" not in refused(config)
