"""`Journal`: what happened, entry by entry, and how to hear of more. Holds no secret."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import anyio

from openshell_drivers.compute import PlatformEvent
from openshell_drivers.testing.gateway._phases import Phase

_MOST: Final = 10_000
_PREFIX: Final = "openshell.progress."


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a start has come, as clients show it (contract 3.9)."""

    complete_step: str = ""
    complete_label: str = ""
    active_step: str = ""
    active_detail: str = ""


def progress_of(event: PlatformEvent) -> Progress | None:
    """Read the progress out of a platform event; None if it tells none."""
    keys = ("complete_step", "complete_label", "active_step", "active_detail")
    found = {key: event.metadata.get(f"{_PREFIX}{key}", "") for key in keys}
    return Progress(**found) if any(found.values()) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened."""

    number: int
    time: datetime
    kind: Literal["phase", "gone", "event", "gateway"]
    """A phase or its reason changed, a record went, a platform event came, or the gateway itself
    did or met something."""
    id: str = ""
    name: str = ""
    workspace: str = ""
    phase: Phase | None = None
    reason: str = ""
    message: str = ""
    """What the user is shown."""
    why: str = ""
    """What made it happen."""
    event: PlatformEvent | None = None
    progress: Progress | None = None

    def __str__(self) -> str:
        head = f"{self.time:%H:%M:%S.%f} {self.name or '-'} "
        match self.kind:
            case "event" if self.event is not None:
                words = [self.event.type, self.event.reason, self.event.message]
                progress = self.progress
                if progress is not None:
                    words += [progress.complete_step, progress.complete_label]
                    words += [progress.active_step, progress.active_detail]
                return f"{head}event {' '.join(filter(None, words))}"
            case "gone":
                return f"{head}gone ({self.why})"
            case "gateway":
                return f"{head}{self.why}"
            case _:
                shown = ": ".join(part for part in (self.reason, self.message) if part)
                return f"{head}{self.phase}{f' {shown}' if shown else ''} ({self.why})"


class Journal:
    """The last ten thousand entries, and a signal at each new one."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_MOST)
        self._written = 0
        self._news = anyio.Event()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is remembered, oldest first."""
        return tuple(self._entries)

    def write(self, **fields: Any) -> None:
        """Add an entry and wake all who wait."""
        self._entries.append(Entry(number=self._written, time=datetime.now(UTC), **fields))
        self._written += 1
        self.stir()

    def note(self, why: str) -> None:
        """Add what concerns the gateway itself."""
        self.write(kind="gateway", why=why)

    def stir(self) -> None:
        """Wake all who wait, since something changed that is no entry."""
        news, self._news = self._news, anyio.Event()
        news.set()

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._news.wait()

    async def follow(self, start: int = 0) -> AsyncIterator[Entry]:
        """Give all entries from the number on, then each new one, without end."""
        while True:
            for entry in self.entries:
                if entry.number >= start:
                    start = entry.number + 1
                    yield entry
            if start >= self._written:
                await self.changed()
