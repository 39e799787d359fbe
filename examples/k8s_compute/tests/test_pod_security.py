"""Who the workload is, and what the supervisor may do."""

from __future__ import annotations

from typing import Any

import pytest

from examples.k8s_compute.tests.pods import agent, environment, made, request, settings

USUAL = ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYSLOG"]
SEPARATE = ["SETUID", "SETGID", "DAC_READ_SEARCH"]
UID = "openshift.io/sa.scc.uid-range"
GROUPS = "openshift.io/sa.scc.supplemental-groups"


def context(**security: Any) -> dict[str, Any]:
    return dict(agent(made(config=settings({"security": security})))["securityContext"])


def test_supervisor_is_root_with_four_capabilities_and_not_privileged() -> None:
    assert context() == {"runAsUser": 0, "capabilities": {"add": USUAL}}


def test_privileged_has_to_be_asked_for() -> None:
    assert context(privileged=True)["privileged"] is True


def test_capabilities_can_be_added() -> None:
    assert context(capabilities=["NET_RAW", "SYSLOG"])["capabilities"] == {
        "add": [*USUAL, "NET_RAW"]
    }


@pytest.mark.parametrize(
    ("profile", "written"),
    [
        ("RuntimeDefault", {"type": "RuntimeDefault"}),
        ("Unconfined", {"type": "Unconfined"}),
        ("Localhost/my/box", {"type": "Localhost", "localhostProfile": "my/box"}),
    ],
)
def test_apparmor_profile_is_a_field(profile: str, written: dict[str, str]) -> None:
    assert context(apparmor=profile)["appArmorProfile"] == written


@pytest.mark.parametrize(
    ("asked", "default", "host_users"),
    [
        (None, False, None),
        (None, True, False),
        (True, False, False),
        (True, True, False),
        (False, False, True),
        (False, True, True),
    ],
)
def test_user_namespaces_are_the_requests_or_the_settings(
    asked: bool | None, default: bool, host_users: bool | None
) -> None:
    template = made(
        request(template={"user_namespaces": asked}),
        settings({"security": {"user_namespaces": default}}),
    )

    assert template["spec"].get("hostUsers") is host_users
    assert agent(template)["securityContext"]["capabilities"]["add"] == (
        [*USUAL, *SEPARATE] if host_users is False else USUAL
    )


@pytest.mark.parametrize(
    ("security", "annotations", "identity"),
    [
        ({}, {}, ("1000", "1000")),
        ({"uid": 2000}, {}, ("2000", "2000")),
        ({"uid": 2000, "gid": 3000}, {UID: "7/1"}, ("2000", "3000")),
        ({"uid": 2000}, {GROUPS: "9/1"}, ("2000", "2000")),
        ({}, {UID: "1000680000/10000"}, ("1000680000", "1000680000")),
        ({}, {UID: "1000680000/10000", GROUPS: "5000/10,7000/10"}, ("1000680000", "5000")),
        ({"gid": 3000}, {UID: "1000680000-1000689999", GROUPS: "5/5"}, ("1000680000", "3000")),
        ({}, {UID: "0/10000"}, ("1000", "1000")),
        ({}, {UID: "9999999999/1", GROUPS: "many"}, ("1000", "1000")),
    ],
)
def test_workload_is_whom_settings_or_openshift_say(
    security: dict[str, int], annotations: dict[str, str], identity: tuple[str, str]
) -> None:
    template = made(config=settings({"security": security}), scc_annotations=annotations)
    variables = environment(template)

    assert (variables["OPENSHELL_SANDBOX_UID"], variables["OPENSHELL_SANDBOX_GID"]) == identity
