"""The watch: when it opens and ends, and when what has gone is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import FailedPrecondition, Unavailable
from tests.conformance.bare.faults._later import can_tell_stale, tell_later
from tests.conformance.bare.faults._tools import fault, override
from tests.conformance.bare.hub import DELETED, Note
from tests.conformance.bare.resources import DELETING, STARTING, Resource


@fault("watch-headers-are-late", kills=("COMP-WATCH-04",))
def _(driver: Driver) -> None:
    """Headers go out with the first message."""

    @override(driver.calls, "headers")
    async def _(_original: Any, _context: Any) -> None:
        return


@fault(
    "watch-never-says-deleted",
    kills=("COMP-WATCH-05", "COMP-DEL-01.c"),
    also=("COMP-WATCH-02.a", "COMP-WATCH-10"),
)
def _(driver: Driver) -> None:
    """Of a sandbox that is gone nothing is told."""

    @override(driver.hub, "deleted")
    def _(_original: Any, _sandbox_id: str) -> None:
        return


@fault("watch-misses-what-others-remove", kills=("COMP-WATCH-05.b", "COMP-WATCH-05.c"))
def _(driver: Driver) -> None:
    """Only the end of a delete of its own is told."""

    @override(driver.observer, "take")
    def _(original: Any, change: Any, *, first: bool) -> None:
        before = driver.observer.view.get(change.id)
        if change.resource is None and before is not None and before.state != DELETING:
            driver.observer.view.pop(change.id)
        original(change, first=first)


@fault("watch-has-no-snapshot", kills=("COMP-WATCH-01",), also=("COMP-WATCH-02",))
def _(driver: Driver) -> None:
    """A new watch is told of changes alone."""

    @override(driver.compute, "greet")
    async def _(_original: Any, _watcher: Any) -> None:
        await driver.observer.known()


@fault("watch-snapshot-has-256-places", kills=("COMP-WATCH-01.b",))
def _(driver: Driver) -> None:
    """A snapshot is cut at 256 sandboxes."""

    @override(driver.observer, "known")
    async def _(original: Any) -> list[str]:
        return list(await original())[:256]


@fault("watch-subscribes-late", kills=("COMP-WATCH-02.a",), also=("COMP-WATCH-11",))
def _(driver: Driver) -> None:
    """What changes within 40 ms after the snapshot is not told."""

    @override(driver.compute, "greet")
    async def _(original: Any, watcher: Any) -> None:
        driver.hub.watchers.discard(watcher)
        await original(watcher)
        asyncio.get_running_loop().call_later(0.04, driver.hub.watchers.add, watcher)


@fault("watch-forgets-an-outage", kills=("COMP-WATCH-02.b",), also=("COMP-WATCH-05.c",))
def _(driver: Driver) -> None:
    """What changes in an outage is never told."""

    @override(driver.platform, "reach")
    async def _(original: Any) -> None:
        try:
            await original()
        except Unavailable:
            driver.observer._rev = driver.ledger.rev
            raise


def _ending(driver: Driver, idle: float) -> None:
    @override(driver.compute, "watch_sandboxes")
    async def _(original: Any, request: Any) -> AsyncGenerator[Any, None]:
        events = original(request)
        while True:
            try:
                yield await asyncio.wait_for(anext(events), idle)
            except TimeoutError:
                return


@fault("watch-ends-when-all-is-told", kills=("COMP-WATCH-03",))
def _(driver: Driver) -> None:
    """With nothing more to tell for 300 ms, the watch returns."""
    _ending(driver, 0.3)


@fault("watch-has-an-idle-limit", kills=("COMP-WATCH-03.b",))
def _(driver: Driver) -> None:
    """With nothing more to tell for three seconds, the watch returns."""
    _ending(driver, 3.0)


@fault(
    "watch-says-deleted-too-early",
    kills=("COMP-LIST-04",),
    also=("COMP-WATCH-06", "COMP-STAT-05", "COMP-DEL-01.c"),
)
def _(driver: Driver) -> None:
    """The event comes when the delete is accepted, four seconds before the end."""
    driver.platform.resources.delete_seconds = 4.0

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        driver.hub.deleted(request.sandbox_id)
        return answer


@fault("watch-brings-back-the-dead", kills=("COMP-WATCH-06.a",), also=("COMP-DEL-01.c",))
def _(driver: Driver) -> None:
    """An old state follows the deleted event."""
    can_tell_stale(driver)

    @override(driver.observer, "take")
    def _(original: Any, change: Any, *, first: bool) -> None:
        before = driver.observer.view.get(change.id)
        original(change, first=first)
        if change.resource is None and before is not None:
            tell_later(driver, 0.1, before)


@fault("watch-tells-of-a-refused-create", kills=("COMP-WATCH-06.b",), also=("COMP-CREATE-02",))
def _(driver: Driver) -> None:
    """Of what was refused a state is told half a second later."""
    can_tell_stale(driver)

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        try:
            return await original(sandbox)
        except FailedPrecondition:
            tell_later(driver, 0.5, _made_up(sandbox))
            raise


def _made_up(sandbox: Any) -> Resource:
    where = {"id": sandbox.id, "name": sandbox.name, "workspace": sandbox.workspace}
    none: dict[str, Any] = {"uid": "0", "image": "", "generation": "", "rev": 0, "due": None}
    return Resource(**where, **none, managed=1, state=STARTING, since=time.time(), instance=1)


@fault("watch-takes-an-outage-for-the-end", kills=("COMP-WATCH-07.a",), also=("COMP-GET-05.c",))
def _(driver: Driver) -> None:
    """What cannot be seen is told as deleted."""

    @override(driver.platform, "reach")
    async def _(original: Any) -> None:
        try:
            await original()
        except Unavailable:
            for sandbox_id in driver.observer.view:
                driver.hub.deleted(sandbox_id)
            raise


@fault("watch-never-forgets-the-dead", kills=("COMP-WATCH-07.b",))
def _(driver: Driver) -> None:
    """A new watch is told of every removal there was, also of ids that live again."""
    gone: set[str] = set()

    @override(driver.hub, "deleted")
    def _(original: Any, sandbox_id: str) -> None:
        gone.add(sandbox_id)
        original(sandbox_id)

    @override(driver.compute, "greet")
    async def _(original: Any, watcher: Any) -> None:
        await original(watcher)
        for sandbox_id in gone:
            watcher.add(Note(DELETED, sandbox_id))


@fault("watch-tells-of-strangers", kills=("COMP-WATCH-06.c",))
def _(driver: Driver) -> None:
    """What others make on the platform is told, and not listed."""
    can_tell_stale(driver)

    @override(driver.observer, "take")
    def _(original: Any, change: Any, *, first: bool) -> None:
        original(change, first=first)
        if change.resource is not None and not driver.observer.mine(change.resource):
            tell_later(driver, 0, change.resource)
