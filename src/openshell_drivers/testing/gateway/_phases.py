"""Which phase a user sees, from what the driver says: pure functions over one status.

The first rule that matches decides, in the order and with the upper and lower case of the lines
(contract 3.10 and 8 of its second part).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from openshell_drivers.compute import Condition, SandboxStatus
from openshell_drivers.testing.gateway._preset import PRESETS, Preset

Phase: TypeAlias = Literal[
    "Provisioning", "Ready", "Error", "Deleting", "Unknown", "Stopping", "Stopped", "Starting"
]
NOT_CONNECTED: Final = "SupervisorNotConnected"
_EXITED: Final = frozenset({"containerexited", "containerstopped"})
_TERMINATING: Final = frozenset({"podterminating", "podnotterminated"})


def derive_phase(status: SandboxStatus | None, preset: Preset | str = "0.1-latest") -> Phase:
    """Read a status as the line does, without regard to sessions and to what was before."""
    line = PRESETS[preset] if isinstance(preset, str) else preset
    if status is None:
        return "Unknown"
    if status.deleting:
        return "Deleting"
    if line.suspended == "after ready" and any(_true(each) for each in _named(status, "ready")):
        return "Ready"
    if line.suspended != "ignored" and is_suspended(status):
        return "Stopped"
    ready = ready_condition(status)
    return "Provisioning" if ready is None else _from_ready(ready, line)


def _from_ready(ready: Condition, line: Preset) -> Phase:
    match ready.status.lower():
        case "true":
            return "Ready"
        case "false" if ready.reason.lower() not in line.transient_reasons:
            return "Error"
        case _:
            return "Provisioning"


def ready_condition(status: SandboxStatus) -> Condition | None:
    """Give the first condition spelled exactly ``Ready``; no other counts (COMP-STAT-01)."""
    return next((each for each in status.conditions if each.type == "Ready"), None)


def is_suspended(status: SandboxStatus) -> bool:
    """Say whether some condition ``Suspended`` is true."""
    return any(_true(each) for each in _named(status, "suspended"))


def says_ready(status: SandboxStatus, preset: Preset) -> bool:
    """Say whether the driver calls the compute ready."""
    return derive_phase(status, preset) == "Ready"


def stop_confirmed(status: SandboxStatus) -> bool:
    """Say whether this ends a stop (COMP-STAT-06)."""
    exited = (
        each.status.lower() == "false" and each.reason.lower() in _EXITED
        for each in status.conditions
    )
    return is_suspended(status) or any(exited)


def stop_in_progress(status: SandboxStatus) -> bool:
    """Say whether compute is still going down."""
    return any(
        each.status.lower() == "false" and each.reason.lower() in _TERMINATING
        for each in _named(status, "suspended")
    )


def compose(phase: Phase, preset: Preset, *, session: bool, readiness: bool = False) -> Phase:
    """Put the driver's phase and the supervisor's session together.

    `readiness` is the capability ``driver_reports_runtime_readiness``.
    """
    if not preset.ready_needs_session:
        return "Ready" if session and phase in {"Provisioning", "Unknown"} else phase
    if phase in {"Error", "Deleting", "Stopped"}:
        return phase
    authoritative = phase == "Ready" and preset.honours_readiness and readiness
    return "Ready" if session or authoritative else "Provisioning"


def next_phase(
    old: Phase, status: SandboxStatus, preset: Preset, *, session: bool, readiness: bool = False
) -> Phase:
    """Say where a snapshot leads a sandbox that is in the phase `old`."""
    phase = compose(derive_phase(status, preset), preset, session=session, readiness=readiness)
    if not preset.sticky:
        return phase
    match old:
        case "Error":
            return "Error"
        case "Stopped":
            return phase if preset.bootstrapping_wakes and _bootstrapping(status) else "Stopped"
        case "Stopping":
            return "Stopped" if stop_confirmed(status) else "Stopping"
        case "Starting":
            return phase if phase in {"Ready", "Error"} else "Starting"
        case _:
            return phase


def explain(status: SandboxStatus, phase: Phase, preset: Preset) -> tuple[str, str]:
    """Give the reason and the message that a user sees with a phase."""
    if phase == "Provisioning" and says_ready(status, preset):
        return NOT_CONNECTED, "compute runs; the supervisor has not connected"
    if phase == "Stopped":
        found = next((each for each in _named(status, "suspended") if _true(each)), None)
    else:
        found = ready_condition(status)
    return ("", "") if found is None else (found.reason, found.message)


def _bootstrapping(status: SandboxStatus) -> bool:
    return not is_suspended(status) and any(_true(each) for each in _named(status, "bootstrapping"))


def _named(status: SandboxStatus, name: str) -> Iterator[Condition]:
    return (each for each in status.conditions if each.type.lower() == name)


def _true(condition: Condition) -> bool:
    return condition.status.lower() == "true"
