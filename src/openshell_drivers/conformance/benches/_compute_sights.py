"""`ComputeSights`: what Get, List and the watch show, and waits for what a user would wait for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from openshell_drivers._codec.compute import decode_sandbox
from openshell_drivers._sandboxes import SandboxStatus
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import Caller
from openshell_drivers.conformance._outcomes import Blocked, TooSlow
from openshell_drivers.conformance.benches._base import unhurried
from openshell_drivers.conformance.benches._compute_calls import ComputeCalls, Observed
from openshell_drivers.conformance.benches._watchlog import HEADERS, WatchLog
from openshell_drivers.testing.gateway import Phase, derive_phase
from openshell_drivers.testing.gateway._phases import stop_confirmed

#: How long headers are waited for that have come with the first event only before.
_LATE: Final = 0.4
#: How long a phase is waited for that no sandbox has reached in all the time it may take.
_VAIN: Final = 3.0


class ComputeSights(ComputeCalls):
    """Sandboxes as the line reads them, asked for or watched."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._looked_elsewhere = False

    def phase(self, sandbox: wire.DriverSandbox) -> Phase:
        """What the line reads in an observation, without regard to sessions."""
        return derive_phase(self.status(sandbox), self.preset)

    def status(self, sandbox: wire.DriverSandbox) -> SandboxStatus | None:
        """The status as the line reads it; None where there is none."""
        heard = wire.DriverSandbox()
        heard.CopyFrom(sandbox)
        heard.ClearField("spec")
        self.caller.cut(heard)
        if not heard.HasField("status"):
            return None
        return decode_sandbox(heard).status

    async def observed(self, sandbox_id: str) -> wire.DriverSandbox | None:
        """Get it; None if it is gone. `UNAVAILABLE` is waited out for a while."""
        deadline = time.monotonic() + 10
        while True:
            reply = await self.get(sandbox_id)
            if reply.ok:  # an OK without a sandbox means to gateways what NOT_FOUND means
                return reply.answer.sandbox if reply.answer.HasField("sandbox") else None
            if reply.code == "NOT_FOUND":
                return None
            if reply.code == "INVALID_ARGUMENT":
                return (await self._instead(reply)).get(sandbox_id)
            if reply.code != "UNAVAILABLE" or time.monotonic() > deadline:
                raise Blocked(str(reply), "COMP-GET-01")
            await anyio.sleep(0.1)

    async def _instead(self, reply: Observed) -> dict[str, wire.DriverSandbox]:
        """What List shows, where Get refuses to answer. `Blocked` if that is no help either."""
        listed = await self.list_all()
        self.need(listed.ok, str(reply), "COMP-GET-01")
        if not self._looked_elsewhere:
            self._looked_elsewhere = True
            self.note(f"judged by ListSandboxes, since {reply}")
        return {each.id: each for each in listed.answer.sandboxes}

    async def listed(self) -> dict[str, wire.DriverSandbox]:
        """List; by id. Errors are waited out for a while: gateways just list again."""
        deadline = time.monotonic() + 10
        while True:
            reply = await self.list_all()
            if reply.ok:
                return {each.id: each for each in reply.answer.sandboxes}
            if reply.code == "UNIMPLEMENTED" or time.monotonic() > deadline:
                raise Blocked(str(reply), "COMP-LIST-01")
            await anyio.sleep(0.1)

    async def reaches(
        self, sandbox_id: str, *phases: Phase, within: float | None = None
    ) -> wire.DriverSandbox:
        """Wait until Get shows one of the phases. `Blocked` if it does not."""
        times = self.profile.compute.timeouts
        limit = within or max(times.ready, times.stopped)
        vain = (self.preset.name, phases)
        if vain in self.world.vain:
            limit = min(limit, _VAIN)
        last = "nothing"
        deadline = time.monotonic() + limit + 2
        pause = 0.005
        while (asked := time.monotonic()) < deadline:
            seen = await self.observed(sandbox_id)
            if seen is None:
                last = "no such sandbox"
            else:
                last = self.described(seen)
                if self.phase(seen) in phases:
                    self.world.vain.discard(vain)
                    return seen
            await anyio.sleep(unhurried(pause, asked))
            pause = min(pause * 1.4, 0.15)
        self.world.vain.add(vain)
        raise TooSlow(
            f"the sandbox did not get {' or '.join(phases)} within {limit:g} s: Get shows {last}",
            "COMP-STAT-04",
        )

    def halted(self, sandbox: wire.DriverSandbox) -> bool:
        """Whether an observation ends a stop: not every way to say so is the phase Stopped."""
        status = self.status(sandbox)
        return status is not None and stop_confirmed(status)

    async def halts(self, sandbox_id: str) -> wire.DriverSandbox:
        """Wait until Get confirms a stop. `Blocked` if it does not."""
        vain = (self.preset.name, ("Stopped",))
        limit = self.profile.compute.timeouts.stopped
        limit = min(limit, _VAIN) if vain in self.world.vain else limit
        asked = time.monotonic()
        deadline = asked + limit
        while (seen := await self.observed(sandbox_id)) is None or not self.halted(seen):
            if time.monotonic() > deadline:
                last = "no such sandbox" if seen is None else self.described(seen)
                self.world.vain.add(vain)
                raise TooSlow(
                    f"the stop was not confirmed within {limit:g} s: Get shows {last}",
                    "COMP-STAT-06",
                )
            await anyio.sleep(unhurried(0.02, asked))
            asked = time.monotonic()
        self.world.vain.discard(vain)
        return seen

    def described(self, sandbox: wire.DriverSandbox) -> str:
        """A sandbox's state in words, and the phase that the line's gateway makes of it."""
        status = sandbox.status
        conditions = [f"{c.type}={c.status}/{c.reason}" for c in status.conditions]
        words = [*conditions, *(["deleting"] if status.deleting else [])]
        shown = ", ".join(words) or "no conditions"
        return f"{shown}, which a gateway reads as {self.phase(sandbox)}"

    async def gone(self, sandbox_id: str, within: float | None = None) -> None:
        """Wait until Get says NOT_FOUND. `Blocked` if it does not."""
        limit = within or self.profile.compute.timeouts.gone
        deadline = time.monotonic() + limit
        pause = 0.005
        asked = time.monotonic()
        while await self.observed(sandbox_id) is not None:
            if time.monotonic() > deadline:
                raise TooSlow(f"the sandbox was not gone within {limit:g} s", "COMP-DEL-01")
            await anyio.sleep(unhurried(pause, asked))
            asked = time.monotonic()
            pause = min(pause * 1.4, 0.15)

    @asynccontextmanager
    async def watching(
        self, *, reopen: bool = True, caller: Caller | None = None
    ) -> AsyncIterator[WatchLog]:
        """Keep a watch open, as a gateway does; what it says is in the log."""
        log = WatchLog(caller or self.caller, reopen=reopen, mine=self._made.__contains__)
        task = asyncio.create_task(log.run())
        late = (self.instance, "headers of a watch come late")
        try:
            if not await log.open(patience=_LATE if late in self.world.facts else HEADERS):
                self.world.facts[late] = True
            yield log
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def watch_until(
        self,
        log: WatchLog,
        sandbox_id: str,
        holds: Callable[[wire.DriverSandbox], bool],
        within: float,
        expected: str,
    ) -> float:
        """Wait until the newest event of a sandbox is as wished; fail if it does not get so."""

        def newest() -> bool:
            last = log.last(sandbox_id)
            return last is not None and holds(last)

        return await log.until(newest, within, expected, lambda: log.described(sandbox_id))
