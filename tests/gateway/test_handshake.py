"""The nine rejections, the admission policy and the listeners, rule by rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers._wire.extension_pb2 import PeerMetadata, ProtocolVersion
from openshell_drivers.testing.gateway import PRESETS, GatewayAdmission, GatewayRefused
from openshell_drivers.testing.gateway._admission import judge_acknowledgement, judge_policy
from openshell_drivers.testing.gateway._handshake import (
    LAUNCH,
    judge_extension,
    judge_listeners,
    metadata,
)

OLD, MID, NEW = PRESETS["0.0.111"], PRESETS["0.1.2"], PRESETS["0.1-latest"]
CONTRACT = "openshell.compute.contract"


def peer(**changes: Any) -> PeerMetadata:
    fields: dict[str, Any] = {
        "protocol_version": ProtocolVersion(major=1, minor=7),
        "implementation_name": "vendor/driver",
        "implementation_version": "1",
        "supported_capabilities": [CONTRACT, "openshell.compute.x-y"],
        "required_capabilities": [CONTRACT],
    }
    return PeerMetadata(**{**fields, **changes})


def refusal(judge: Callable[[], object]) -> str:
    with pytest.raises(GatewayRefused) as refused:
        judge()
    return refused.value.rule


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (None, "extension is missing"),
        (peer(protocol_version=None), "protocol_version is missing"),
        (peer(protocol_version=ProtocolVersion(major=2)), "protocol major version is not 1"),
        (peer(implementation_name=" \t"), "implementation_name is blank"),
        (peer(implementation_version=""), "implementation_version is blank"),
        (peer(implementation_name="é" * 65), "implementation_name is longer than 128 bytes"),
        (peer(implementation_version="1\x7f"), "implementation_version has a control character"),
        (
            peer(supported_capabilities=[f"openshell.a.b{n}" for n in range(129)]),
            "supported_capabilities has more than 128 entries",
        ),
        (
            peer(required_capabilities=["x"] * 129),
            "required_capabilities has more than 128 entries",
        ),
        (peer(supported_capabilities=[CONTRACT] * 2), "supported_capabilities has a duplicate"),
        (peer(required_capabilities=[CONTRACT] * 2), "required_capabilities has a duplicate"),
        (
            peer(supported_capabilities=["openshell.a.b"]),
            f"supported_capabilities lacks {CONTRACT}",
        ),
        (
            peer(required_capabilities=["openshell.compute.other"]),
            "required_capabilities names what this gateway does not offer",
        ),
    ],
)
def test_a_driver_is_refused_by_the_rule_it_breaks(said: PeerMetadata | None, rule: str) -> None:
    assert refusal(lambda: judge_extension(said, MID, "compute")) == rule


@pytest.mark.parametrize(
    "name",
    [
        *("vendor.compute.x", "openshell.compute", "openshell..x", "openshell.compute.X", ""),
        *("openshell.compute.x_y", "openshell.compute.é", f"openshell.a.{'b' * 117}"),
        "openshell.compute.x\n",
    ],
)
def test_a_malformed_capability_is_refused(name: str) -> None:
    said = peer(supported_capabilities=[CONTRACT, name])

    rule = refusal(lambda: judge_extension(said, MID, "compute"))

    assert rule == "supported_capabilities has a malformed entry"


def test_the_first_broken_rule_is_the_one_that_is_named() -> None:
    said = peer(implementation_name="", supported_capabilities=["bad"], required_capabilities=["x"])

    rule = refusal(lambda: judge_extension(said, MID, "compute"))
    assert rule == "implementation_name is blank"
    said.implementation_name = "n"
    said.required_capabilities.extend(["y"] * 128)
    rule = refusal(lambda: judge_extension(said, MID, "compute"))
    assert rule == "required_capabilities has more than 128 entries"


def test_another_minor_version_and_128_bytes_are_accepted() -> None:
    judge_extension(peer(implementation_name="n" * 128), MID, "compute")
    judge_extension(
        peer(supported_capabilities=[CONTRACT, "openshell.a." + "b" * 116]), MID, "compute"
    )


def test_only_the_newest_gateway_offers_launch_authentication() -> None:
    said = peer(supported_capabilities=[CONTRACT, LAUNCH], required_capabilities=[LAUNCH])

    judge_extension(said, NEW, "compute")
    assert "does not offer" in refusal(lambda: judge_extension(said, MID, "compute"))


def test_only_the_0_1_line_says_who_it_is() -> None:
    said = metadata(NEW, "compute")

    assert metadata(OLD, "compute") is metadata(PRESETS["fork-mvp"], "compute") is None
    assert said is not None
    assert said.implementation_name == "openshell/gateway"
    assert said.protocol_version == ProtocolVersion(major=1, minor=0)
    assert list(said.supported_capabilities) == [CONTRACT, LAUNCH]
    assert list(said.required_capabilities) == [CONTRACT]


# Admission

FULL = (
    '{"allow_driver_config":false,"resource_admission":{"enabled":true,"required_labels":'
    '{"openshell.ai/sandbox-attachable":"true",'
    '"openshell.ai/sandbox-attachable-workspace":"${workspace}"}}}'
)
DEFAULT = GatewayAdmission().filled(NEW)
OFF = GatewayAdmission(enabled=False).filled(NEW)


@pytest.mark.parametrize(
    ("said", "policy"),
    [
        ("v1:{}", DEFAULT),
        (f"v1:{FULL}", DEFAULT),
        (f"v1: {FULL.replace(':', ' : ').replace(' : //', '://')} \n", DEFAULT),
        ('v1:{"resource_admission":{}}', DEFAULT),
        ('v1:{"allow_driver_config":true}', GatewayAdmission(allow_driver_config=True).filled(NEW)),
        ('v1:{"resource_admission":{"enabled":false}}', OFF),
        ("", OFF),
        ("", GatewayAdmission(enabled=False, allow_driver_config=True).filled(NEW)),
        (
            'v1:{"resource_admission":{"required_labels":{"a":"b"}}}',
            GatewayAdmission(required_labels={"a": "b"}).filled(NEW),
        ),
    ],
)
def test_a_policy_is_compared_as_a_value_with_defaults(said: str, policy: GatewayAdmission) -> None:
    judge_acknowledgement(said, policy, NEW)


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ("", "does not acknowledge"),
        ("{}", "does not acknowledge"),
        (" v1:{}", "does not acknowledge"),
        ("v2:{}", "does not acknowledge"),
        ("v1:", "acknowledgement is invalid"),
        ("v1:null", "acknowledgement is invalid"),
        ("v1:{} x", "acknowledgement is invalid"),
        ('v1:{"other":1}', "acknowledgement is invalid"),
        ('v1:{"resource_admission":{"other":1}}', "acknowledgement is invalid"),
        ('v1:{"resource_admission":null}', "acknowledgement is invalid"),
        ('v1:{"resource_admission":{"required_labels":{"a":1}}}', "acknowledgement is invalid"),
        ('v1:{"allow_driver_config":1}', "acknowledgement is invalid"),
        (
            'v1:{"allow_driver_config":false,"allow_driver_config":false}',
            "acknowledgement is invalid",
        ),
        ("v1:" + "[" * 100_000, "acknowledgement is invalid"),
        ('v1:{"allow_driver_config":true}', "policy differs"),
        ('v1:{"resource_admission":{"enabled":false}}', "policy differs"),
        ('v1:{"resource_admission":{"required_labels":{}}}', "policy differs"),
        (
            'v1:{"resource_admission":{"required_labels":{"openshell.ai/sandbox-attachable":'
            '"true"}}}',
            "policy differs",
        ),
    ],
)
def test_another_policy_is_refused(said: str, rule: str) -> None:
    assert rule in refusal(lambda: judge_acknowledgement(said, DEFAULT, NEW))


@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        ({}, "required_labels is empty while enabled"),
        ({"a": "${workspace}"}, "no label has a fixed value"),
        ({"a": "b", "c": "x-${workspace}"}, "a label is malformed"),
        ({"-a": "b"}, "a label is malformed"),
        ({"a": "b" * 64}, "a label is malformed"),
        ({"a": "b", "openshell.ai/managed-by": "x"}, "a label is reserved"),
    ],
)
def test_a_bad_policy_of_the_gateway_s_own_is_refused(labels: dict[str, str], rule: str) -> None:
    policy = GatewayAdmission(required_labels=labels)

    assert refusal(lambda: judge_policy(policy)) == f"own policy: {rule}"


def test_labels_may_be_missing_where_admission_is_off() -> None:
    judge_policy(GatewayAdmission(enabled=False, required_labels={}))
    judge_policy(DEFAULT)


# Listeners


def exact(address: str) -> list[wire.GatewayListenerRequirement]:
    return [wire.GatewayListenerRequirement(reason="r", exact_bind_address=address)]


@pytest.mark.parametrize("address", ["10.0.0.1:8080", "[fd00::1]:8080", "127.0.0.1:8080"])
def test_a_listener_address_is_taken_over(address: str) -> None:
    assert judge_listeners(exact(address), 8080) == (address,)


@pytest.mark.parametrize(
    "address",
    [
        *("", "10.0.0.1", "localhost:8080", "fd00::1:8080", "[10.0.0.1]:8080", "10.0.0.1:http"),
        *("0.0.0.0:8080", "[::]:8080", "224.0.0.1:8080", "10.0.0.1:0", "10.0.0.1:8081"),
    ],
)
def test_a_bad_listener_address_is_refused(address: str) -> None:
    assert "a listener address" in refusal(lambda: judge_listeners(exact(address), 8080))


def test_a_listener_requirement_needs_a_selector() -> None:
    loopback = wire.GatewayListenerRequirement(reason="r")
    assert "no selector" in refusal(lambda: judge_listeners([loopback], 8080))

    loopback.loopback_interface.SetInParent()
    assert judge_listeners([loopback], 8080) == ("loopback_interface",)
