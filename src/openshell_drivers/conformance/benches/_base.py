"""`Bench`: what the benches of all services have in common."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import anyio

from openshell_drivers.conformance._backend import Backend
from openshell_drivers.conformance._caller import (
    PATIENCE,
    Caller,
    Reply,
    Transcript,
    channel_to,
)
from openshell_drivers.conformance._canaries import Canaries
from openshell_drivers.conformance._checks import NEEDS, Check
from openshell_drivers.conformance._instances import Instance, TargetNotReady
from openshell_drivers.conformance._ledger import Ledger
from openshell_drivers.conformance._outcomes import (
    Blocked,
    Broken,
    NotApplicable,
    NotTestable,
)
from openshell_drivers.conformance._profile import Profile
from openshell_drivers.conformance.report.model import Leak
from openshell_drivers.testing.gateway import Preset

ValueT = TypeVar("ValueT")
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.15
_MOST_STALL: Final = 2.0
"""Of what the suite may have cost in a time that is judged, in seconds."""
_SLOWEST_PAUSE: Final = 2.0


@dataclass(slots=True)
class Stall:
    """How long the suite itself was kept from running: that is not the driver's time."""

    total: float = 0.0


@dataclass(slots=True, kw_only=True)
class World:
    """What all checks of a run share."""

    run: str
    profile: Profile
    canaries: Canaries
    ledger: Ledger
    stall: Stall
    seed: int
    counter: int = 0
    facts: dict[tuple[Instance, str], Any] = field(default_factory=dict)
    """What was found out once of an instance."""
    vain: set[tuple[str, tuple[str, ...]]] = field(default_factory=set)
    """Presets and phases that were waited for in vain: others need not wait as long."""

    def number(self) -> str:
        """Give a short text that is used once in the run."""
        self.counter += 1
        return _base36(self.counter)


def unhurried(pause: float, asked: float) -> float:
    """How long to wait until a driver is asked again that was asked at `asked`.

    At least as long as its answer took: some may ask their platform a few times a second only,
    and all checks at work share that.
    """
    return max(pause, min(time.monotonic() - asked, _SLOWEST_PAUSE))


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number:
        number, rest = divmod(number, 36)
        text = digits[rest] + text
    return text or "0"


class Bench:
    """One check under one preset at one instance."""

    service: str
    """The gRPC service's full name."""

    def __init__(self, world: World, check: Check, preset: Preset, instance: Instance) -> None:
        self.world = world
        self.check = check
        self.preset = preset
        self.instance = instance
        self.profile = world.profile
        self.transcript = Transcript(world.canaries.clean)
        self.backend = Backend(world.profile.backend, instance, self.transcript)
        self.notes: list[str] = []
        self.spare_log: list[str] = []
        """The newest lines of the last spare's log; it is gone when the check is over."""
        self._stack = AsyncExitStack()
        self._caller: Caller | None = None

    # Words to judge with

    def note(self, text: str) -> None:
        """Put an observation into the report that is no failure."""
        self.notes.append(text)

    def fail(self, expected: str, observed: str, *, sees: str = "", mend: str = "") -> NoReturn:
        """The clause is broken. The words are read by somebody who sees nothing else."""
        raise Broken(expected, observed, sees=sees, mend=mend)

    def hold(
        self, condition: object, expected: str, observed: str, *, sees: str = "", mend: str = ""
    ) -> None:
        """Fail unless the condition is true."""
        if not condition:
            self.fail(expected, observed, sees=sees, mend=mend)

    def code(self, reply: Reply[Any], *codes: str, when: str = "", mend: str = "") -> None:
        """Fail unless the reply has one of these status codes. `when` says what was asked."""
        if reply.code not in codes:
            asked = f" {when}" if when else ""
            self.fail(f"{reply.rpc}{asked} answers {' or '.join(codes)}", str(reply), mend=mend)

    def within(self, seconds: float, limit: float, what: str, *, mend: str = "") -> None:
        """Fail if something took longer than the limit, the suite's own delays taken off."""
        own = min(self.world.stall.total - self._stalled, _MOST_STALL)
        if seconds - own > limit:
            self.fail(f"{what} within {limit:g} s", f"it took {seconds:.2f} s", mend=mend)

    def apply(self, condition: object, why_not: str) -> None:
        """The check means something only if the condition is true."""
        if not condition:
            raise NotApplicable(why_not)

    def need(self, condition: object, why: str, clause: str = "") -> None:
        """Something that other checks judge must work for this one to begin."""
        if not condition:
            raise Blocked(why, clause)

    def require(self, need: str) -> None:
        """Ask for a backend verb that only this driver needs, once it is clear that it does."""
        if not self.backend.can(need):
            raise NotTestable(NEEDS[need])

    def secret(self, label: str) -> str:
        """Give a secret to send, which must show up nowhere."""
        return self.world.canaries.make(label)

    # Calls

    @property
    def caller(self) -> Caller:
        """One channel for the check, as a gateway has one."""
        if self._caller is None:
            raise RuntimeError("the bench has not begun")
        return self._caller

    async def ping(self, caller: Caller | None = None, *, patience: float = PATIENCE) -> Reply[Any]:
        """Ask the smallest thing that every driver of the service answers, backend or not."""
        raise NotImplementedError

    @property
    def authority(self) -> str:
        """What the line's client calls the driver."""
        return self.preset.authority

    @asynccontextmanager
    async def another_caller(
        self, service: str = "", *, socket: Path | None = None, authority: str = ""
    ) -> AsyncIterator[Caller]:
        """A channel of its own, as a second gateway has; for `service` instead of the bench's."""
        channel = channel_to(socket or self.instance.socket, authority or self.authority)
        try:
            yield Caller(channel, service or self.service, self.preset, self.transcript)
        finally:
            await channel.close(None)

    async def reconnect(self) -> None:
        """Begin with a new channel: after a restart, or to be another client."""
        await self._stack.aclose()
        self._caller = await self._stack.enter_async_context(self.another_caller())

    async def begin(self) -> None:
        """Get ready for the check."""
        self._stalled = self.world.stall.total
        self._caller = await self._stack.enter_async_context(self.another_caller())

    async def end(self) -> None:
        """Close what is open."""
        await self._stack.aclose()

    def log(self, since: int) -> list[str]:
        """What the driver has logged of this check, as far as that can be told.

        `since` is how long the log was at its begin.
        """
        return self.spare_log or self.instance.tail(since, self.words())

    def words(self) -> list[str]:
        """By what log lines of this check can be told from others'."""
        return []

    async def clean(self) -> list[Leak]:
        """Remove what the check has made; give what could not be removed."""
        return []

    # Waiting

    async def eventually(
        self,
        look: Callable[[], Awaitable[ValueT | None]],
        within: float,
        expected: str,
        seen: Callable[[], str] = lambda: "it did not happen",
        *,
        mend: str = "",
    ) -> ValueT:
        """Look again and again until the answer is not None; fail after `within` seconds."""
        began, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            asked = time.monotonic()
            found = await look()
            if found is not None:
                return found
            own = self.world.stall.total - self._stalled
            if time.monotonic() - began - own > within:
                self.fail(f"{expected}, within {within:g} s", seen(), mend=mend)
            await anyio.sleep(unhurried(pause, asked))
            pause = min(pause * 1.4, _LONGEST_PAUSE)

    async def known(self, fact: str, find: Callable[[], Awaitable[ValueT]]) -> ValueT:
        """Find something out once for the instance and the preset."""
        key = (self.instance, f"{self.preset.name} {fact}")
        if key not in self.world.facts:
            self.world.facts[key] = await find()
        value: ValueT = self.world.facts[key]
        return value

    # The process

    @asynccontextmanager
    async def spare(self) -> AsyncIterator[Instance]:
        """Another instance of the driver, not started, with a folder and a platform of its own."""
        folder = Path(tempfile.mkdtemp(prefix="x", dir=self.instance.folder.parent))
        made = Instance(self.instance.target, self.profile, folder, self.world.ledger)
        try:
            yield made
        finally:
            await made.close()
            self.spare_log = made.tail()
            shutil.rmtree(folder, ignore_errors=True)

    @asynccontextmanager
    async def started_spare(self) -> AsyncIterator[Instance]:
        """The same, serving. `Blocked` if it does not come up."""
        async with self.spare() as made:
            await self.started(made)
            yield made

    async def started(self, instance: Instance) -> None:
        """Start an instance. `Blocked` if it does not come up."""
        try:
            await instance.start()
        except TargetNotReady as error:
            raise Blocked(f"another process of the driver does not serve: {error}") from None

    async def kill_and_restart(self, *calls: asyncio.Task[Any]) -> None:
        """``kill -9`` the driver and start it again with what it kept.

        `calls` under way end before it serves again, so that none reaches the new process.
        """
        self.transcript.note("process", "kill -9")
        self.instance.kill()
        if calls:
            await asyncio.wait(calls)
        await self.restart()

    async def restart(self) -> None:
        """Start the driver again after its end."""
        self.transcript.note("process", "started again")
        try:
            await self.instance.restart()
        except TargetNotReady as error:
            raise Blocked(f"the driver does not come up again: {error}", "COMP-SOCK-04") from None
        await self.reconnect()
