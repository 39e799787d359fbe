"""Phase derivation and composition, line by line, against the contract's tables."""

from __future__ import annotations

from typing import Any

import pytest

from openshell_drivers.compute import Condition, SandboxStatus
from openshell_drivers.testing.gateway import PRESETS, Phase, derive_phase
from openshell_drivers.testing.gateway._phases import (
    compose,
    explain,
    next_phase,
    stop_confirmed,
    stop_in_progress,
)

F, U, N = PRESETS["fork-mvp"], PRESETS["0.0.111"], PRESETS["0.1-latest"]
COMMON = ["ReconcilerError", "DependenciesNotReady", "Starting", "ContainerStarting"]
COMMON += ["HealthCheckStarting", "InspectFailed"]
UPSTREAM = ["SupervisorNotConnected", "ContainerCreated"]


def c(kind: str, status: str, reason: str = "R", message: str = "m") -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message)


def status(*conditions: Condition, deleting: bool = False) -> SandboxStatus:
    return SandboxStatus(conditions=conditions, deleting=deleting)


READY = c("Ready", "True")
SUSPENDED = c("Suspended", "True")


@pytest.mark.parametrize(
    ("seen", "fork", "old", "new"),
    [
        (None, "Unknown", "Unknown", "Unknown"),
        (status(), "Provisioning", "Provisioning", "Provisioning"),
        (status(READY), "Ready", "Ready", "Ready"),
        (status(c("Ready", "TRUE")), "Ready", "Ready", "Ready"),
        (status(c("Ready", "Unknown", "")), "Provisioning", "Provisioning", "Provisioning"),
        (status(c("Ready", "bogus", "")), "Provisioning", "Provisioning", "Provisioning"),
        (status(c("Ready", "False", "")), "Error", "Error", "Error"),
        (status(c("Ready", "False", "ImagePullFailed")), "Error", "Error", "Error"),
        (status(c("Ready", "fALSE", "starting")), "Provisioning", "Provisioning", "Provisioning"),
        (status(READY, deleting=True), "Deleting", "Deleting", "Deleting"),
        (status(SUSPENDED, deleting=True), "Deleting", "Deleting", "Deleting"),
        (status(READY, SUSPENDED), "Ready", "Stopped", "Ready"),
        (status(SUSPENDED, READY), "Ready", "Stopped", "Ready"),
        (status(c("ready", "true"), SUSPENDED), "Provisioning", "Stopped", "Ready"),
        (status(c("ready", "true")), "Provisioning", "Provisioning", "Ready"),
        (status(c("sUSPENDED", "tRUE")), "Provisioning", "Stopped", "Stopped"),
        (status(c("Suspended", "False")), "Provisioning", "Provisioning", "Provisioning"),
        (status(c("Ready", "False", "Dead"), SUSPENDED), "Error", "Stopped", "Stopped"),
        (status(c("Ready", "Unknown"), READY), "Provisioning", "Provisioning", "Ready"),
        (status(c("Ready", "False", "Dead"), READY), "Error", "Error", "Ready"),
        (status(c("Stopped", "True", "ComputeStopped")), *["Provisioning"] * 3),
    ],
)
def test_the_first_rule_that_matches_decides(
    seen: SandboxStatus | None, fork: Phase, old: Phase, new: Phase
) -> None:
    assert [derive_phase(seen, each) for each in PRESETS] == [fork, old, new, new]


@pytest.mark.parametrize("reason", COMMON + UPSTREAM)
@pytest.mark.parametrize("spelled", [str, str.lower, str.upper])
def test_transient_reasons_are_a_closed_list(reason: str, spelled: Any) -> None:
    seen = status(c("Ready", "False", spelled(reason)))

    assert derive_phase(seen, F) == ("Provisioning" if reason in COMMON else "Error")
    assert derive_phase(seen, U) == derive_phase(seen, N) == "Provisioning"


@pytest.mark.parametrize("reason", ["ContainerRestarting", "HealthCheckFailed", "Starting "])
def test_any_other_reason_is_terminal(reason: str) -> None:
    seen = status(c("Ready", "False", reason))

    assert {derive_phase(seen, each) for each in PRESETS} == {"Error"}


@pytest.mark.parametrize(
    ("phase", "session", "readiness", "fork", "old", "new"),
    [
        ("Ready", False, False, "Ready", "Provisioning", "Provisioning"),
        ("Ready", True, False, "Ready", "Ready", "Ready"),
        ("Ready", False, True, "Ready", "Provisioning", "Ready"),
        ("Provisioning", True, False, "Ready", "Ready", "Ready"),
        ("Provisioning", False, True, "Provisioning", "Provisioning", "Provisioning"),
        ("Unknown", True, False, "Ready", "Ready", "Ready"),
        ("Unknown", False, False, "Unknown", "Provisioning", "Provisioning"),
        ("Error", True, True, "Error", "Error", "Error"),
        ("Deleting", True, True, "Deleting", "Deleting", "Deleting"),
        ("Stopped", True, True, "Stopped", "Stopped", "Stopped"),
    ],
)
def test_phase_and_session_compose(
    phase: Phase, session: bool, readiness: bool, fork: Phase, old: Phase, new: Phase
) -> None:
    found = [compose(phase, each, session=session, readiness=readiness) for each in (F, U, N)]

    assert found == [fork, old, new]


BOOT = c("Bootstrapping", "True")
EXITED = c("Ready", "False", "ContainerExited")


@pytest.mark.parametrize(
    ("old", "seen", "fork", "upstream", "newest"),
    [
        ("Error", status(READY), "Ready", "Error", "Error"),
        ("Error", status(deleting=True), "Deleting", "Error", "Error"),
        ("Deleting", status(READY), "Ready", "Ready", "Ready"),  # as after arbitration
        ("Stopped", status(READY), "Ready", "Stopped", "Stopped"),
        ("Stopped", status(BOOT), "Ready", "Stopped", "Ready"),
        ("Stopped", status(BOOT, SUSPENDED), "Ready", "Stopped", "Stopped"),
        ("Stopping", status(READY), "Ready", "Stopping", "Stopping"),
        ("Stopping", status(SUSPENDED), "Ready", "Stopped", "Stopped"),
        ("Stopping", status(EXITED), "Error", "Stopped", "Stopped"),
        ("Stopping", status(c("X", "false", "containerSTOPPED")), "Ready", "Stopped", "Stopped"),
        ("Stopping", status(c("X", "True", "ContainerStopped")), "Ready", "Stopping", "Stopping"),
        ("Stopping", status(c("Ready", "False", "Dead")), "Error", "Stopping", "Stopping"),
        ("Starting", status(SUSPENDED), "Ready", "Starting", "Starting"),
        ("Starting", status(EXITED), "Error", "Error", "Error"),
        ("Starting", status(READY), "Ready", "Ready", "Ready"),
        ("Ready", status(SUSPENDED), "Ready", "Stopped", "Stopped"),
        ("Ready", status(c("Ready", "False", "Dead")), "Error", "Error", "Error"),
    ],
)
def test_what_a_snapshot_makes_of_a_phase(
    old: Phase, seen: SandboxStatus, fork: Phase, upstream: Phase, newest: Phase
) -> None:
    found = [next_phase(old, seen, each, session=True) for each in (F, U, N)]

    assert found == [fork, upstream, newest]


def test_a_stop_in_progress_is_told_by_a_false_suspended_only() -> None:
    going = status(c("suspended", "False", "PodTerminating"))

    assert stop_in_progress(going)
    assert stop_in_progress(status(c("Suspended", "false", "podNOTterminated")))
    assert not stop_in_progress(status(c("Suspended", "Unknown", "PodTerminating")))
    assert not stop_in_progress(status(c("Ready", "False", "PodTerminating")))
    assert not stop_confirmed(going)


def test_a_user_is_told_why() -> None:
    dead = status(c("Other", "False", "Other"), c("Ready", "False", "Dead", "it died"))

    assert explain(dead, "Error", U) == ("Dead", "it died")
    assert explain(status(READY), "Provisioning", U)[0] == "SupervisorNotConnected"
    assert explain(status(READY, c("Suspended", "True", "Slept")), "Stopped", U)[0] == "Slept"
    assert explain(status(), "Provisioning", U) == ("", "")
