"""A pretended platform with 10,000 sandboxes that change when they are told to.

Both fleets observe it, so that they have the same work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

SANDBOXES: Final = 10_000
MARKER: Final = str(UUID(int=2**128 - 1))
"""The id of a further sandbox, which changes last."""
_SINCE: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """What a platform says of a sandbox; it is ready."""

    id: str
    name: str
    workspace: str
    instance_id: str
    message: str
    since: datetime
    generation: str = "1"
    digest: str = "d" * 64


class Backend:
    """`width` is the length of a message, by which the size of an event is chosen."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._ids = [str(UUID(int=(n << 64) + n)) for n in range(SANDBOXES)]
        self._next = 0
        self._orders: asyncio.Queue[str] = asyncio.Queue()

    def all(self) -> Iterator[Record]:
        """Every sandbox, the marker last."""
        yield from (self._record(n, "as it was found") for n in range(SANDBOXES))
        yield self._marker("as it was found")

    def order(self, text: str) -> None:
        """Make changes: ``number.batch.milliseconds.mark``. Each changes the next sandbox, with a
        pause after each batch; at last the marker's message begins with the mark."""
        self._orders.put_nowait(text)

    async def changes(self) -> AsyncIterator[list[Record]]:
        """Give the changes that are ordered, in batches, for ever."""
        while True:
            number, batch, milliseconds, mark = (await self._orders.get()).split(".")
            for first in range(0, int(number), int(batch)):
                size = min(int(batch), int(number) - first)
                yield [self._changed() for _ in range(size)]
                await asyncio.sleep(int(milliseconds) / 1000)
            yield [self._marker(mark)]

    def _changed(self) -> Record:
        self._next += 1
        return self._record(self._next % SANDBOXES, f"revision {self._next}")

    def _record(self, number: int, message: str) -> Record:
        sandbox_id = self._ids[number]
        return Record(
            id=sandbox_id,
            name=f"sandbox-{number:06}",
            workspace="workspace",
            instance_id=sandbox_id,
            message=message.ljust(self._width, "."),
            since=_SINCE,
        )

    def _marker(self, message: str) -> Record:
        text = message.ljust(self._width, ".")
        return Record(MARKER, "marker", "workspace", MARKER, text, _SINCE)
