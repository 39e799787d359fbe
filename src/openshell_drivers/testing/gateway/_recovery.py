"""What a gateway does with all its sandboxes: at its start, at its end, and when one's main process
ends (contract 3.11, and 8 of its second part)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable
from typing import Final

import anyio

from openshell_drivers.errors import DriverError
from openshell_drivers.testing.gateway._core import Core
from openshell_drivers.testing.gateway._creation import Creation
from openshell_drivers.testing.gateway._driver import Kick
from openshell_drivers.testing.gateway._lifecycle import Lifecycle
from openshell_drivers.testing.gateway._phases import ready_condition
from openshell_drivers.testing.gateway._table import Row

_RUNNING: Final = frozenset({"Provisioning", "Ready", "Starting", "Unknown"})
_RESTARTABLE: Final = frozenset({"containerruntimerestart", "containerstopped"})
_SHORTEST_RETRY: Final = 10.0
_GONE: Final = ("BackendResourceMissing", "the compute of this sandbox is gone")


class Recovery:
    """Sweeps over the lifecycle of all sandboxes."""

    def __init__(self, core: Core, lifecycle: Lifecycle, creation: Creation) -> None:
        self._core = core
        self._lifecycle = lifecycle
        self._creation = creation

    async def start_up(self) -> None:
        """Take up what an earlier life of the gateway left, one sandbox after the other."""
        core = self._core
        if not core.preset.stops or not core.options.recover:
            return
        managed = core.capabilities.gateway_manages_lifecycle
        for row in core.table:
            if row.phase == "Stopping":
                await self._noting(row, self._lifecycle.stop_now(row))
            elif managed and (row.phase in _RUNNING or self._can_restart(row)):
                await self._start_managed(row)
            elif row.phase == "Starting":
                await self._noting(row, self._restart_left_over(row))

    def _can_restart(self, row: Row) -> bool:
        ready = None if row.status is None else ready_condition(row.status)
        return (
            self._core.preset.line == "N"
            and row.phase == "Error"
            and ready is not None
            and ready.reason.lower() in _RESTARTABLE
        )

    async def _restart_left_over(self, row: Row) -> None:
        await self._core.reread()
        await self._lifecycle.start_now(row)  # without launch_authentication

    async def _noting(self, row: Row, work: Awaitable[None]) -> None:
        try:
            await work
        except DriverError as error:
            self._core.table.journal.note(f"recovery of {row.name} failed: {error.code}")

    async def _start_managed(self, row: Row) -> None:
        """Start; any error condemns the sandbox (COMP-START-02)."""
        core, why = self._core, "start-up sweep"
        try:
            self._creation.admit(row.spec)
        except DriverError as error:
            core.table.move(row, "Error", why, "ResourceAdmissionDenied", error.message)
            return
        kick = Kick(
            launch=None if row.phase == "Starting" else self._lifecycle.launch(row),
            generation=row.generation if row.phase == "Starting" else str(uuid.uuid4()),
            identity=row.runtime_identity,
        )
        row.generation = kick.generation
        try:
            await core.reread()
            identity = await core.driver.start(row.ref, kick)
        except DriverError as error:
            missing = error.code == "NOT_FOUND"
            reason, message = _GONE if missing else ("StartFailed", error.message)
            core.table.move(row, "Error", why, reason, message)
            return
        row.runtime_identity = identity or row.runtime_identity
        if row.phase == "Error":
            core.table.move(row, "Starting", why)

    async def shut_down(self) -> None:
        """Stop all that runs, for a driver that wants it, without recording a stop."""
        core = self._core
        if not core.preset.stops or not core.capabilities.gateway_manages_lifecycle:
            return
        limiter = anyio.CapacityLimiter(core.preset.parallel_stops)

        async def stop(row: Row) -> None:
            async with limiter:
                await self._noting(row, core.driver.stop(row.ref))

        async with anyio.create_task_group() as tasks:
            for row in core.table:
                if row.phase in _RUNNING:
                    tasks.start_soon(stop, row)

    async def restart(self, row: Row) -> None:
        """Stop and start a sandbox whose main process has ended, until it is ready again."""
        row.restarting = True
        for delay in self._core.preset.restart_backoff or ():
            async with row.gate:
                if not row.restarting or not self._core.table.holds(row):
                    return
                code = await self._restart_once(row)
            if code == "NOT_FOUND":
                self._core.table.move(row, "Error", "restart of the main process", *_GONE)
            if code == "NOT_FOUND" or (code == "OK" and await self._gets_ready(row)):
                row.restarting = False
                return
            await self._core.clock.sleep(delay if code == "OK" else max(delay, _SHORTEST_RETRY))

    async def _restart_once(self, row: Row) -> str:
        core, why = self._core, "the main process ended"
        row.session = False
        core.table.move(row, "Stopping", why, "MainProcessExited")
        try:
            await core.driver.stop(row.ref)
            core.table.move(row, "Starting", why, "MainProcessExited")
            await core.reread()
            row.generation = str(uuid.uuid4())
            kick = Kick(
                launch=self._lifecycle.launch(row),
                generation=row.generation,
                identity=row.runtime_identity,
            )
            row.runtime_identity = await core.driver.start(row.ref, kick) or row.runtime_identity
        except DriverError as error:
            core.table.journal.note(f"restart of {row.name} failed: {error.code}")
            return error.code
        return "OK"

    async def _gets_ready(self, row: Row) -> bool:
        """Wait for Ready, as long as the watchdog lets it; Error ends the waiting too."""
        core = self._core
        with anyio.move_on_after(core.clock.real(core.preset.readiness_limit)):
            while core.table.holds(row) and row.phase not in {"Ready", "Error"}:
                await core.table.journal.changed()
            return True
        core.table.journal.note(f"{row.name} did not get ready in time")
        return False
