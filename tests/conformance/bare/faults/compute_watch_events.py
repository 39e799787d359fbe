"""The watch: what its events hold, and who is told."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._later import can_tell_stale, tell_later
from tests.conformance.bare.faults._tools import fault, override
from tests.conformance.bare.hub import SANDBOX, Note
from tests.conformance.bare.resources import RUNNING, STARTING


@fault("watch-tells-an-old-state-last", kills=("COMP-WATCH-08.a",), also=("COMP01-START-01.a",))
def _(driver: Driver) -> None:
    """After a start, Starting is told again when the sandbox is ready."""
    can_tell_stale(driver)

    @override(driver.observer, "take")
    def _(original: Any, change: Any, *, first: bool) -> None:
        original(change, first=first)
        now = change.resource
        if now is not None and now.state == RUNNING and now.instance > 1:
            tell_later(driver, 0.2, dataclasses.replace(now, state=STARTING))


@fault("watch-has-the-platforms-names", kills=("COMP-WATCH-08.b",))
def _(driver: Driver) -> None:
    """Events have the name of a pod where the sandbox's belongs."""

    @override(driver.compute, "told")
    def _(original: Any, note: Note) -> Any:
        event = original(note)
        if event is not None and event.HasField("sandbox"):
            event.sandbox.sandbox.name = f"pod-{note.id[:8]}"
        return event


@fault("watch-events-lack-the-status", kills=("COMP-GET-04.b",))
def _(driver: Driver) -> None:
    """The events of a sandbox that starts have no status."""

    @override(driver.compute, "told")
    def _(original: Any, note: Note) -> Any:
        event = original(note)
        found = driver.observer.view.get(note.id)
        starts = found is not None and found.state == STARTING
        if event is not None and event.HasField("sandbox") and starts:
            event.sandbox.sandbox.ClearField("status")
        return event


@fault("watch-has-other-instances", kills=("COMP-GET-07.b",), also=("COMP-WATCH-10.a",))
def _(driver: Driver) -> None:
    """The watch gives another instance_id than Get."""

    @override(driver.compute, "told")
    def _(original: Any, note: Note) -> Any:
        event = original(note)
        if event is not None and event.HasField("sandbox"):
            event.sandbox.sandbox.status.instance_id += "-watch"
        return event


@fault("watch-forgets-restarts", kills=("COMP-START-03.b",), also=("COMP-WATCH-08.a",))
def _(driver: Driver) -> None:
    """That a sandbox runs again after a start is not told."""

    @override(driver.compute, "told")
    def _(original: Any, note: Note) -> Any:
        found = driver.observer.view.get(note.id)
        restarted = found is not None and found.state == RUNNING and found.instance > 1
        return None if restarted and note.kind == SANDBOX else original(note)


@fault("watch-repeats-itself", kills=("COMP-WATCH-09",))
def _(driver: Driver) -> None:
    """All sandboxes are told again every 500 ms."""

    async def repeat() -> None:
        while True:
            await asyncio.sleep(0.5)
            for sandbox_id in driver.observer.view:
                driver.hub.tell(Note(SANDBOX, sandbox_id))

    @override(driver.observer, "run")
    async def _(original: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(repeat())
            await original()


@fault("watch-drops-what-a-slow-reader-lacks", kills=("COMP-WATCH-10.a",))
def _(driver: Driver) -> None:
    """A watch remembers 20 things to tell; what comes then is dropped."""

    @override(driver.hub, "new_watcher")
    def _(original: Any) -> Any:
        watcher = original()

        @override(watcher, "add")
        def _(add: Any, note: Note) -> None:
            if len(watcher._notes) < 20 or watcher not in driver.hub.watchers:
                add(note)

        return watcher


@fault(
    "watch-waits-for-the-slowest",
    kills=("COMP-WATCH-10.b",),
    also=("COMP-WATCH-10.a", "COMP-WATCH-02.a"),
)
def _(driver: Driver) -> None:
    """While one reader has 30 things to read, nobody is told anything."""

    @override(driver.hub, "tell")
    def _(original: Any, note: Note) -> None:
        if all(len(each._notes) < 30 for each in driver.hub.watchers):
            original(note)


@fault("watch-is-never-freed", kills=("COMP-WATCH-11",))
def _(driver: Driver) -> None:
    """Who went away is told on, for ever."""

    @override(driver.hub, "watch")
    @contextmanager
    def _(original: Any) -> Iterator[Any]:
        with original() as watcher:
            try:
                yield watcher
            finally:
                driver.hub.forgotten = [*getattr(driver.hub, "forgotten", []), watcher]  # type: ignore[attr-defined]

    @override(driver.hub, "tell")
    def _(original: Any, note: Note) -> None:
        original(note)
        for watcher in getattr(driver.hub, "forgotten", []):
            watcher.add(note)


@fault("platform-events-are-of-1970", kills=("COMP-WATCH-12",))
def _(driver: Driver) -> None:
    """The time of an event is in seconds where milliseconds belong."""

    @override(driver.snapshots, "event")
    def _(original: Any, *words: Any) -> Any:
        made = original(*words)
        made.timestamp_ms //= 1000
        made.event_time.FromMilliseconds(made.timestamp_ms)
        return made
