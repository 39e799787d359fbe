"""`WatchLog`: an open watch that keeps every event and opens itself anew, as a gateway does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import UNREADABLE, Caller
from openshell_drivers.conformance._outcomes import Broken

Kind = Literal["sandbox", "deleted", "platform_event", "empty"]
_REOPEN_AFTER: Final = 0.2
HEADERS: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event."""

    at: float
    """`time.monotonic`."""
    kind: Kind
    id: str
    stream: int
    """Which opening of the watch it came on, from 0."""
    raw: bytes
    message: wire.WatchSandboxesEvent
    sandbox: wire.DriverSandbox | None = None
    event: wire.DriverPlatformEvent | None = None


@dataclass(slots=True)
class Opening:
    """One opening of the watch."""

    began: float
    headers: float | None = None
    """Seconds until the response headers came."""
    ended: float | None = None
    code: str = ""
    """How the driver ended it; empty while it is open."""
    text: str = ""


@dataclass(slots=True)
class WatchLog:
    """All events, in order. Give it to `ComputeBench.watching`; do not make one."""

    caller: Caller
    reopen: bool = True
    mine: Callable[[str], bool] = lambda _id: False
    """Whether the events of a sandbox are for the transcript: others' would drown it."""
    events: list[Seen] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _headers: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, sandbox_id: str, *kinds: Kind) -> list[Seen]:
        """The events of one sandbox."""
        return [e for e in self.events if e.id == sandbox_id and (not kinds or e.kind in kinds)]

    def deleted(self, sandbox_id: str) -> int:
        """How many times it was called deleted."""
        return len(self.of(sandbox_id, "deleted"))

    def last(self, sandbox_id: str) -> wire.DriverSandbox | None:
        """The newest observation of a sandbox."""
        seen = self.of(sandbox_id, "sandbox")
        return seen[-1].sandbox if seen else None

    @property
    def broke(self) -> bool:
        """Whether the driver has ended the stream at least once."""
        return any(opening.code for opening in self.openings)

    async def until(
        self, holds: Callable[[], bool], within: float, expected: str, seen: Callable[[], str]
    ) -> float:
        """Wait until something holds, looked at with every event; the seconds it took."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(within):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise Broken(f"{expected}, within {within:g} s", seen()) from None
        return time.monotonic() - began

    def described(self, sandbox_id: str) -> str:
        """The events of a sandbox in words."""
        words = [_word(event) for event in self.of(sandbox_id)][-12:]
        ended = [f"the stream ended with {o.code}" for o in self.openings if o.code][-2:]
        return "the watch said: " + (", ".join([*words, *ended]) or "nothing")

    async def open(self, patience: float = HEADERS) -> bool:
        """Wait until the headers of the first stream came; whether they did.

        Many drivers send them with the first event only: that is a stream all the same.
        """
        try:
            async with asyncio.timeout(patience):
                await self._headers.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Read without end."""
        while True:
            await self._read_one()
            self._news.set()
            if not self.reopen:
                return
            await asyncio.sleep(_REOPEN_AFTER)

    async def _read_one(self) -> None:
        opening = Opening(began=time.monotonic())
        self.openings.append(opening)
        number = len(self.openings) - 1
        try:
            request = wire.WatchSandboxesRequest()
            async with self.caller.stream("WatchSandboxes", request) as call:
                await call.initial_metadata()
                opening.headers = time.monotonic() - opening.began
                self._headers.set()
                async for raw in call:
                    seen = read_event(raw, number)
                    self.events.append(seen)
                    self._news.set()
                    if self.mine(seen.id):
                        self.caller.transcript.note("WatchSandboxes", seen.message)
            opening.code = "OK"
        except DecodeError:
            opening.code, opening.text = UNREADABLE, "an event that cannot be read"
        except aio.AioRpcError as error:
            opening.code, opening.text = error.code().name, error.details() or ""
        except grpc.RpcError:
            opening.code = "UNKNOWN"
        finally:
            opening.ended = time.monotonic()


def read_event(raw: bytes, stream: int) -> Seen:
    """Read one event. Raises `DecodeError`."""
    message = wire.WatchSandboxesEvent.FromString(raw)
    kind = message.WhichOneof("payload")
    seen = partial(Seen, at=time.monotonic(), stream=stream, raw=raw, message=message)
    if kind == "sandbox":
        sandbox = message.sandbox.sandbox
        return seen(kind=kind, id=sandbox.id, sandbox=sandbox)
    if kind == "deleted":
        return seen(kind=kind, id=message.deleted.sandbox_id)
    if kind == "platform_event":
        happening = message.platform_event
        return seen(kind=kind, id=happening.sandbox_id, event=happening.event)
    return seen(kind="empty", id="")


def _word(event: Seen) -> str:
    if event.sandbox is None:
        return event.kind.replace("_", " ")
    if event.sandbox.status.deleting:
        return "deleting"
    conditions = [f"{c.type}={c.status}/{c.reason}" for c in event.sandbox.status.conditions]
    return "+".join(conditions) or "no condition"
