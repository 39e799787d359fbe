"""`Hub`: who watches, and what each of them has yet to be told.

A watcher keeps ids, not messages: what is sent is the state when its reader comes to it, so one
that stalls costs no more than an entry for each sandbox (COMP-WATCH-10).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.conformance.bare.errors import Unavailable

SANDBOX: Final = "sandbox"
DELETED: Final = "deleted"
EVENT: Final = "event"


@dataclass(frozen=True)
class Note:
    """One thing to tell: what kind, of which sandbox."""

    kind: str
    id: str
    number: int = 0
    """Tells platform events apart; of the other kinds the newest is enough."""
    event: Any = None


class Watcher:
    """One open watch."""

    most_events = 256

    def __init__(self) -> None:
        self._notes: dict[tuple[str, str, int], Note] = {}
        self._woken = asyncio.Event()
        self._end: Exception | None = None

    def add(self, note: Note) -> None:
        """Remember to tell it. A sandbox keeps its place in the queue; a removal takes it."""
        if note.kind == DELETED:
            self._notes.pop((SANDBOX, note.id, 0), None)
        if note.kind == EVENT and len(self._notes) > self.most_events:
            return  # only for information
        self._notes.setdefault((note.kind, note.id, note.number), note)
        self._woken.set()

    def end(self, reason: Exception) -> None:
        """Let the reader raise this before anything else."""
        self._end = reason
        self._woken.set()

    async def take(self) -> Note:
        """Wait for the next thing to tell."""
        while True:
            if self._end is not None:
                raise self._end
            if self._notes:
                return self._notes.pop(next(iter(self._notes)))
            self._woken.clear()
            await self.rest()

    async def rest(self) -> None:
        """Wait until there is something."""
        await self._woken.wait()


class Hub:
    """All open watches."""

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()
        self._closing = False
        self._events = 0

    @contextmanager
    def watch(self) -> Iterator[Watcher]:
        """Open a watch; it hears of everything from here on, and is forgotten at the end."""
        watcher = self.new_watcher()
        self.watchers.add(watcher)
        if self._closing:
            watcher.end(self.reason())
        try:
            yield watcher
        finally:
            self.watchers.discard(watcher)

    def new_watcher(self) -> Watcher:
        return Watcher()

    def sandbox(self, sandbox_id: str) -> None:
        """A sandbox has changed."""
        self.tell(Note(SANDBOX, sandbox_id))

    def deleted(self, sandbox_id: str) -> None:
        """A sandbox is gone."""
        self.tell(Note(DELETED, sandbox_id))

    def event(self, sandbox_id: str, event: Any) -> None:
        """The platform has something to say about a sandbox."""
        self._events += 1
        self.tell(Note(EVENT, sandbox_id, self._events, event))

    def tell(self, note: Note) -> None:
        for watcher in self.watchers:
            watcher.add(note)

    def reason(self) -> Exception:
        """How watches end: with an error, so that the gateway opens them anew (COMP-WATCH-03)."""
        return Unavailable("the driver is shutting down")

    def close(self) -> None:
        """End all watches, and those to come."""
        self._closing = True
        for watcher in self.watchers:
            watcher.end(self.reason())
