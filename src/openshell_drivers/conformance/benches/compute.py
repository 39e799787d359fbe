"""`ComputeBench`: a compute driver under test, with sandboxes that are always cleaned away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import SILENT
from openshell_drivers.conformance._outcomes import Blocked, NotApplicable
from openshell_drivers.conformance.benches._base import unhurried
from openshell_drivers.conformance.benches._compute_calls import Created
from openshell_drivers.conformance.benches._compute_sights import ComputeSights
from openshell_drivers.conformance.report.model import Leak
from openshell_drivers.testing.gateway import Gateway, Phase

#: Until a list may lag behind what Get and the watch say: gateways look once a minute.
LAG: Final = 6.0
#: How many sandboxes are deleted at once.
_DELETING: Final = 16


class ComputeBench(ComputeSights):
    """The eleven RPCs, the watch, a gateway, and waits for what a user would wait for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._rests: dict[str, Phase] = {}
        self._mute = False

    # Whole steps, of which other checks judge the parts

    async def made(self, sandbox: wire.DriverSandbox | None = None) -> wire.DriverSandbox:
        """Create one that the driver accepts. `Blocked` if it does not."""
        sandbox = self.sandbox() if sandbox is None else sandbox
        reply = await self.create_with_room(sandbox)
        self.need(reply.ok, str(reply), "COMP-CREATE-01")
        return sandbox

    async def create_with_room(self, sandbox: wire.DriverSandbox) -> Created:
        """Create; `Blocked` if the platform is full."""
        reply = await self.create(sandbox)
        if reply.code == "RESOURCE_EXHAUSTED":
            limit = self.profile.compute.max_sandboxes
            raise Blocked(
                f"there is no room: {reply}; how many may exist at once is the profile's"
                f" compute.max_sandboxes, now {limit}",
                "COMP-CREATE-01",
            )
        return reply

    async def made_ready(self, sandbox: wire.DriverSandbox | None = None) -> wire.DriverSandbox:
        """Create one and wait until its compute runs."""
        sandbox = await self.made(sandbox)
        await self.reaches(sandbox.id, "Ready")
        return sandbox

    async def made_settled(self, sandbox: wire.DriverSandbox | None = None) -> wire.DriverSandbox:
        """Create one and wait until it runs; if it does not, it will do as it is.

        For checks that need a sandbox that is there, whatever state it shows.
        """
        sandbox = await self.made(sandbox)
        await self.settles(sandbox.id)
        return sandbox

    async def made_going(self) -> wire.DriverSandbox:
        """Create one that runs as far as can be told: some leave Ready to the supervisor."""
        sandbox = await self.made_settled()
        phase = self.at_rest(sandbox.id)
        self.need(phase != "Error", f"the sandbox did not get Ready but {phase}", "COMP-STAT-04")
        return sandbox

    async def settles(self, sandbox_id: str) -> None:
        """Wait until one runs; `at_rest` is what it shows after a time in which others would."""
        try:
            await self.reaches(sandbox_id, "Ready")
        except Blocked:
            seen = await self.observed(sandbox_id)
            if seen is None:
                raise
            self._rests[sandbox_id] = self.phase(seen)
            self.note(f"judged with a sandbox that does not get Ready: {self.described(seen)}")

    def rested(self, sandbox_id: str) -> Phase | None:
        """The phase of one that has settled without getting Ready; None for all others."""
        return self._rests.get(sandbox_id)

    def at_rest(self, sandbox_id: str) -> Phase:
        """The phase of one that has settled: Ready, or what it shows instead."""
        return self._rests.get(sandbox_id, "Ready")

    async def made_stopped(self) -> wire.DriverSandbox:
        """Create one, wait until it runs, and stop it. `NotApplicable` without StopSandbox."""
        await self.can_stop()
        sandbox = await self.made_going()
        reply = await self.stop(sandbox.id)
        self.need(reply.ok, str(reply), "COMP-STOP-01")
        await self.rests(sandbox.id)
        return sandbox

    async def rests(self, sandbox_id: str) -> None:
        """Wait until one that was stopped shows it; words that gateways do not know will do.

        One that shows still what it showed before the stop is `Blocked`.
        """
        try:
            await self.halts(sandbox_id)
        except Blocked:
            seen = await self.observed(sandbox_id)
            if seen is None or self.phase(seen) == self.at_rest(sandbox_id):
                raise
            self.note(f"judged with a stopped sandbox that is shown as {self.described(seen)}")

    async def can_stop(self) -> None:
        """`NotApplicable` if the driver does not stop sandboxes, and does not say it does."""
        if not await self.implements("StopSandbox"):
            capabilities = await self.capabilities()
            if not capabilities.gateway_manages_lifecycle:
                raise NotApplicable("the driver does not implement StopSandbox")

    @asynccontextmanager
    async def gateway(self, **options: Any) -> AsyncIterator[Gateway]:
        """The model of the line's gateway at this driver; `clean` deletes what it made.

        Raises `openshell_drivers.testing.gateway.GatewayRefused` if it would not start.
        """
        async with Gateway(self.instance.socket, preset=self.preset, **options) as gateway:
            try:
                yield gateway
            finally:
                asked = [each for each in gateway.records if each.spec is not None]
                for record in asked:  # the fork adopts what belongs to others
                    self.remember(
                        wire.DriverSandbox(
                            id=record.id, name=record.name, workspace=record.workspace
                        )
                    )

    # After the check

    def words(self) -> list[str]:
        """The ids and names of its sandboxes."""
        made = self._made.values()
        return [word for each in made for word in (each.id, each.name) if word]

    async def clean(self) -> list[Leak]:
        """Delete all that was created, until it is seen gone."""
        if not self._made:
            return []
        leaks: list[Leak] = []
        await self.reconnect()

        gate = asyncio.Semaphore(_DELETING)

        async def remove(sandbox: wire.DriverSandbox) -> None:
            async with gate:
                removed = not self._mute and await self._removed(sandbox)
            if removed:
                self.world.ledger.write("gone", id=sandbox.id)
            else:
                name = f"{sandbox.name} ({sandbox.id})"
                leaks.append(Leak(kind="sandbox", name=name, attributed=self.check.id))

        async with anyio.create_task_group() as tasks:
            for sandbox in self._made.values():
                tasks.start_soon(remove, sandbox)
        return leaks

    async def _removed(self, sandbox: wire.DriverSandbox) -> bool:
        deadline = time.monotonic() + self.profile.compute.timeouts.gone
        pause = 0.01
        who = (sandbox.id, sandbox.name)
        while (asked := time.monotonic()) < deadline:
            reply = await self.delete(*who)
            if reply.code == "INVALID_ARGUMENT":  # by one of the two, then
                for who in ((sandbox.id, ""), ("", sandbox.name), (sandbox.id, sandbox.name)):
                    reply = await self.delete(*who)
                    if reply.ok:
                        break
            if reply.ok and not reply.answer.deleted:
                return True
            if reply.code == SILENT:  # it hangs: do not wait again for each of the others
                self._mute = True
                return False
            seen = await self.get(*who)
            if seen.code in {"NOT_FOUND", "INVALID_ARGUMENT"} or (
                seen.ok and not seen.answer.HasField("sandbox")
            ):
                return True
            await anyio.sleep(unhurried(pause, asked))
            pause = min(pause * 1.6, 0.5)
        return False
