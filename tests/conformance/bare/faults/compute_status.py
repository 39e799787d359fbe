"""Conditions and status."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import Unavailable
from tests.conformance.bare.faults._later import can_tell_stale, tell_later
from tests.conformance.bare.faults._tools import fault, override
from tests.conformance.bare.resources import EXITED, FAILED, RUNNING, STARTING, STOPPED


@fault("provisioning-looks-like-failure", kills=("COMP-STAT-02",))
def _(driver: Driver) -> None:
    """A sandbox that is being made has a reason that gateways take for the end."""
    driver.platform.resources.ready_seconds = 0.3

    @override(driver.snapshots, "ready")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        if made.reason == "Starting" and resource.instance == 1:
            made.reason = "PullingImage"
        return made


@fault("outage-looks-like-failure", kills=("COMP-STAT-03",))
def _(driver: Driver) -> None:
    """When the platform cannot be seen, all sandboxes are told as failed."""
    can_tell_stale(driver)

    @override(driver.platform, "reach")
    async def _(original: Any) -> None:
        try:
            await original()
        except Unavailable:
            for resource in driver.observer.view.values():
                tell_later(driver, 0, dataclasses.replace(resource, state=FAILED))
            raise


@fault(
    "start-shows-the-old-exit",
    kills=("COMP-STAT-07",),
    also=("COMP-START-03.b", "COMP-WATCH-08.a"),
)
def _(driver: Driver) -> None:
    """After a start the end of the run before is told."""
    can_tell_stale(driver)

    @override(driver.compute, "begin")
    def _(original: Any, found: Any, generation: str) -> None:
        original(found, generation)
        if found.state == STOPPED:
            tell_later(driver, 0.02, dataclasses.replace(found, state=EXITED))


@fault("ready-comes-in-two-spellings", kills=("COMP-STAT-01.a",))
def _(driver: Driver) -> None:
    """Beside `Ready` there is a condition `ready`."""

    @override(driver.snapshots, "conditions")
    def _(original: Any, resource: Any) -> Any:
        second = driver.snapshots.condition("ready", "Unknown", "Second", "", resource.since)
        return [*original(resource), second]


@fault("ready-has-a-status-of-its-own", kills=("COMP-STAT-01.b",))
def _(driver: Driver) -> None:
    """While a sandbox starts, `Ready` is neither True nor False nor Unknown."""
    driver.platform.resources.ready_seconds = 0.3

    @override(driver.snapshots, "ready")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        if resource.state == STARTING:
            made.status = "Waiting"
        return made


@fault("ready-waits-for-the-supervisor", kills=("COMP-STAT-04.a",))
def _(driver: Driver) -> None:
    """What runs is not Ready before a supervisor has connected, and that with authority."""

    @override(driver.snapshots, "ready")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        if resource.state == RUNNING:
            made.status, made.reason = "Unknown", "SupervisorNotConnected"
        return made

    @override(driver.compute, "capabilities")
    def _(original: Any) -> Any:
        return {**original(), "driver_reports_runtime_readiness": True}


@fault(
    "ready-at-once",
    kills=("COMP-STAT-04.b", "COMP-STAT-04.c", "COMP01-STAT-04"),
    also=("COMP01-STAT-03",),
)
def _(driver: Driver) -> None:
    """What was accepted is called Ready, and that with authority."""

    @override(driver.snapshots, "ready")
    def _(original: Any, resource: Any) -> Any:
        starts = resource.state == STARTING
        return original(dataclasses.replace(resource, state=RUNNING) if starts else resource)

    @override(driver.compute, "capabilities")
    def _(original: Any) -> Any:
        return {**original(), "driver_reports_runtime_readiness": True}


@fault("deleting-is-not-said", kills=("COMP-STAT-05",))
def _(driver: Driver) -> None:
    """A sandbox that is being removed looks like one that starts, for a second."""
    driver.platform.resources.delete_seconds = 1.0

    @override(driver.snapshots, "deleting")
    def _(_original: Any, _resource: Any) -> bool:
        return False


@fault("stopped-in-words-of-its-own", kills=("COMP-STAT-06.a",))
def _(driver: Driver) -> None:
    """A stopped sandbox has a condition `Stopped`."""

    @override(driver.snapshots, "suspended")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        made.type = "Stopped"
        return made


@fault("suspended-stays", kills=("COMP-STAT-06.b",), also=("COMP01-STAT-03", "COMP-START-03.b"))
def _(driver: Driver) -> None:
    """After a start, `Suspended` is still True beside `Ready` True."""

    @override(driver.snapshots, "conditions")
    def _(original: Any, resource: Any) -> Any:
        again = resource.state == RUNNING and resource.instance > 1
        more = [driver.snapshots.suspended(resource)] if again else []
        return [*original(resource), *more]


@fault("ready-stays", kills=("COMP01-STAT-02",), also=("COMP-SOCK-11.a", "COMP-STAT-06.b"))
def _(driver: Driver) -> None:
    """A stopped sandbox is Suspended, and Ready as well."""

    @override(driver.snapshots, "suspended")
    def _(original: Any, resource: Any) -> Any:
        return original(resource)

    @override(driver.snapshots, "conditions")
    def _(original: Any, resource: Any) -> Any:
        stopped = resource.state == STOPPED
        ran = driver.snapshots.condition("Ready", "True", "Running", "", resource.since)
        return [*original(resource), *([ran] if stopped else [])]


@fault("suspended-until-ready", kills=("COMP01-STAT-03",), also=("COMP-START-03.b",))
def _(driver: Driver) -> None:
    """A start takes two seconds, and the sandbox is Suspended until it is up."""

    @override(driver.platform.resources, "begin_start")
    def _(_original: Any, sandbox_id: str, generation: str) -> None:
        driver.platform.resources._move(sandbox_id, STARTING, 2.0, generation=generation, run=1)

    @override(driver.snapshots, "conditions")
    def _(original: Any, resource: Any) -> Any:
        again = resource.state == STARTING and resource.instance > 1
        return original(dataclasses.replace(resource, state=STOPPED) if again else resource)


@fault("instances-are-all-the-same", kills=("COMP-STAT-08",))
def _(driver: Driver) -> None:
    """Every run has the same instance_id."""

    @override(driver.snapshots, "instance_id")
    def _(_original: Any, resource: Any) -> str:
        return f"bare-{resource.uid}"


@fault("status-has-the-platforms-name", kills=("COMP01-STAT-01",))
def _(driver: Driver) -> None:
    """Field 1 of the status is the name of a pod."""

    @override(driver.snapshots, "status")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        made.name = f"pod-{resource.uid}"
        return made


@fault("identity-is-root", kills=("COMP01-STAT-06",))
def _(driver: Driver) -> None:
    """The resolved identity is root's."""

    @override(driver.snapshots, "status")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        made.resolved_identity.SetInParent()
        return made


@fault(
    "times-are-broken",
    kills=("COMP01-TIME-01",),
    also=("COMPAT01-04", "COMP-STAT-02.b", "COMP-START-03.b", "COMP-DEL-01.c"),
)
def _(driver: Driver) -> None:
    """Nanoseconds of more than a second."""

    @override(driver.snapshots, "condition")
    def _(original: Any, *words: Any) -> Any:
        made = original(*words)
        made.transition_time.nanos += 1_500_000_000
        return made


@fault("times-are-of-now", kills=("COMP01-TIME-02",))
def _(driver: Driver) -> None:
    """Each look gives a condition the time of the look."""

    @override(driver.snapshots, "condition")
    def _(original: Any, type_: str, status: str, reason: str, message: str, _at: float) -> Any:
        return original(type_, status, reason, message, time.time())


@fault("times-are-of-one-line", kills=("COMPAT01-04",))
def _(driver: Driver) -> None:
    """The older time of a condition is left out."""

    @override(driver.snapshots, "condition")
    def _(original: Any, *words: Any) -> Any:
        made = original(*words)
        made.ClearField("last_transition_time")
        return made
