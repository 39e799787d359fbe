"""Get and List."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import NotFound, Unavailable
from tests.conformance.bare.faults._tools import fault, override
from tests.conformance.bare.resources import DELETING, FAILED, RUNNING, STARTING, STOPPED, Resource


def _lists_only(driver: Driver, wanted: Callable[[Resource], bool]) -> None:
    @override(driver.compute, "list_sandboxes")
    async def _(_original: Any, _request: Any) -> Any:
        await driver.platform.reach()
        found = [each for each in driver.platform.resources.all() if driver.observer.mine(each)]
        listed = [driver.compute.listed(each) for each in found if wanted(each)]
        return driver.compute.messages.ListSandboxesResponse(sandboxes=listed)


def _changes_list(driver: Driver, change: Callable[[list[Any]], list[Any]]) -> None:
    @override(driver.compute, "list_sandboxes")
    async def _(original: Any, request: Any) -> Any:
        listed = change(list((await original(request)).sandboxes))
        return driver.compute.messages.ListSandboxesResponse(sandboxes=listed)


@fault("get-lacks-the-status", kills=("COMP-GET-04.a",))
def _(driver: Driver) -> None:
    """Get of a sandbox that starts has no status."""

    @override(driver.compute, "get_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        if driver.compute.expect(request.sandbox_id).state == STARTING:
            answer.sandbox.ClearField("status")
        return answer


@fault("list-lacks-the-status", kills=("COMP-GET-07.a",))
def _(driver: Driver) -> None:
    """What is listed has no status."""

    @override(driver.compute, "listed")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        made.ClearField("status")
        return made


@fault(
    "list-has-no-running-ones",
    kills=("COMP-LIST-01.a",),
    also=("COMP-GET-07.a", "COMP-SOCK-11", "COMP-LIST-01.e", "COMP-CREATE-01"),
)
def _(driver: Driver) -> None:
    """What runs is not listed."""
    _lists_only(driver, lambda each: each.state not in {RUNNING, STARTING})


@fault(
    "list-has-no-stopped-ones",
    kills=("COMP-LIST-01.b",),
    also=("COMP-GET-07.a", "COMP-SOCK-11.a"),
)
def _(driver: Driver) -> None:
    """What is stopped is not listed."""
    _lists_only(driver, lambda each: each.state != STOPPED)


@fault("list-has-no-failed-ones", kills=("COMP-LIST-01.c",), also=("COMP-CREATE-09",))
def _(driver: Driver) -> None:
    """What could not be made is not listed."""
    _lists_only(driver, lambda each: each.state != FAILED)


@fault("list-has-no-deleting-ones", kills=("COMP-LIST-01.d",))
def _(driver: Driver) -> None:
    """What is being removed, which takes a second, is not listed."""
    driver.platform.resources.delete_seconds = 1.0
    _lists_only(driver, lambda each: each.state != DELETING)


@fault("list-is-one-page", kills=("COMP-LIST-01.e",))
def _(driver: Driver) -> None:
    """A list ends after 250 sandboxes."""
    _changes_list(driver, lambda listed: listed[:250])


@fault("list-has-each-twice", kills=("COMP-LIST-05.a",))
def _(driver: Driver) -> None:
    """Every sandbox is listed twice."""
    _changes_list(driver, lambda listed: listed + listed)


@fault("list-is-shuffled", kills=("COMP-LIST-05.b",))
def _(driver: Driver) -> None:
    """Every list has an order of its own."""
    _changes_list(driver, lambda listed: random.sample(listed, len(listed)))


@fault("get-mixes-up-callers", kills=("COMP01-STAT-05",))
def _(driver: Driver) -> None:
    """Of five calls at the same time each is answered with the newest one's sandbox."""
    asked: list[str] = []

    @override(driver.compute, "get_sandbox")
    async def _(original: Any, request: Any) -> Any:
        asked.append(request.sandbox_id)
        try:
            await asyncio.sleep(0.003)
            if len(asked) >= 5 and driver.compute.find(asked[-1]) is not None:
                request.sandbox_id = asked[-1]
            return await original(request)
        finally:
            asked.pop(0)


def _absent(driver: Driver, rpc: str, answer: Callable[[], Any]) -> None:
    @override(driver.compute, rpc)
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except Unavailable:
            return answer()


def _not_found() -> None:
    raise NotFound("there is no sandbox with this id")


@fault("get-in-an-outage-is-not-found", kills=("COMP-GET-05.a",), also=("COMP-GET-05.b",))
def _(driver: Driver) -> None:
    """Get of what cannot be seen is NOT_FOUND."""
    _absent(driver, "get_sandbox", _not_found)


@fault("list-in-an-outage-is-empty", kills=("COMP-LIST-02",))
def _(driver: Driver) -> None:
    """List of what cannot be seen is empty."""
    _absent(driver, "list_sandboxes", driver.compute.messages.ListSandboxesResponse)


@fault(
    "an-outage-is-absence",
    kills=("COMP-GET-05.a", "COMP-GET-05.c", "COMP-LIST-02"),
    also=("COMP-GET-05.b",),
)
def _(driver: Driver) -> None:
    """What cannot be seen is in no list, and NOT_FOUND."""
    _absent(driver, "get_sandbox", _not_found)
    _absent(driver, "list_sandboxes", driver.compute.messages.ListSandboxesResponse)


@fault("get-waits-for-ever", kills=("COMP-GET-05.b",))
def _(driver: Driver) -> None:
    """A platform that hangs is waited for without limit."""
    driver.platform.quick_limit = 3600.0
    driver.calls.limit = 3600.0


@fault(
    "answers-hold-specs",
    kills=("COMP-SOCK-10",),
    also=("COMP-SEC-02", "COMP-WATCH-10.a", "COMP-WATCH-11"),
)
def _(driver: Driver) -> None:
    """Observations have the environment that a sandbox was given."""

    @override(driver.snapshots, "of")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        given = driver.platform.resources.workload(resource.id) or {}
        made.spec.environment.update(given.get("environment", {}))
        return made
