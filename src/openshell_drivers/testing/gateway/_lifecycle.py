"""`Lifecycle`: a user's stop, start and delete, and a GetSandbox that judges what failed."""

from __future__ import annotations

import uuid

import anyio

from openshell_drivers.compute import Sandbox, SandboxStatus
from openshell_drivers.errors import DriverError
from openshell_drivers.secrets import Secret
from openshell_drivers.testing.gateway._core import Core
from openshell_drivers.testing.gateway._creation import Creation
from openshell_drivers.testing.gateway._driver import Kick
from openshell_drivers.testing.gateway._errors import UserError
from openshell_drivers.testing.gateway._phases import (
    Phase,
    derive_phase,
    stop_confirmed,
    stop_in_progress,
)
from openshell_drivers.testing.gateway._preparation import Preparation, TookTooLong
from openshell_drivers.testing.gateway._requests import launch_document, mint_token
from openshell_drivers.testing.gateway._snapshots import Snapshots
from openshell_drivers.testing.gateway._table import Row

MISSING = ("ComputeResourceMissing", "the compute of this sandbox is gone")


class Lifecycle:
    """Stops, starts and deletes sandboxes, one operation on each at a time (contract 3.11)."""

    def __init__(
        self, core: Core, snapshots: Snapshots, creation: Creation, preparation: Preparation
    ) -> None:
        self._core = core
        self._snapshots = snapshots
        self._creation = creation
        self._preparation = preparation

    async def stop(self, row: Row) -> None:
        """Do what a user's stop does. Raises `UserError`."""
        self._require_stops()
        await self._core.apart(lambda: self._stop(row))

    async def start(self, row: Row) -> None:
        """Do what a user's start does. Raises `UserError`."""
        self._require_stops()
        await self._core.apart(lambda: self._start(row))

    async def delete(self, row: Row) -> None:
        """Do what a user's delete does; returns when the driver has answered."""
        if self._core.preset.arbitrates:
            await self._core.apart(lambda: self._delete(row))
        else:
            await self._delete_once(row)

    def _require_stops(self) -> None:
        if not self._core.preset.stops:
            raise UserError("UNIMPLEMENTED", "this gateway neither stops nor starts sandboxes")

    def _require_free(self, row: Row) -> None:
        if not self._core.table.holds(row):
            raise UserError("NOT_FOUND", "sandbox not found")
        self._core.refuse_pending(row)

    # Stop

    async def _stop(self, row: Row) -> None:
        self._core.refuse_pending(row)
        row.restarting = False
        async with row.gate:
            self._require_free(row)
            if row.phase not in {"Ready", "Stopping"}:
                raise UserError("FAILED_PRECONDITION", f"sandbox is {row.phase}, not Ready")
            self._core.table.move(row, "Stopping", "user stop")
            await self.stop_now(row)

    async def stop_now(self, row: Row) -> None:
        """Stop a row in Stopping. Raises `UserError` with the driver's own code."""
        core = self._core
        try:
            await core.driver.stop(row.ref)
        except DriverError as error:
            await self._judge_stop(row)
            raise UserError(error.code, f"stop sandbox: {error.message}") from None
        row.session = False
        if row.phase == "Stopping":
            core.table.move(row, "Stopped", "StopSandbox answered OK")

    async def _judge_stop(self, row: Row) -> None:
        table = self._core.table
        seen, status = await self._look_up(row)
        if row.phase != "Stopping" or not seen or status is None:
            return  # unknown: tried again at the gateway's next start
        why = "GetSandbox after a failed stop"
        if stop_confirmed(status):
            row.session = False
            table.move(row, "Stopped", why)
        elif not stop_in_progress(status):
            if derive_phase(status, self._core.preset) in {"Ready", "Provisioning"}:
                table.move(row, "Ready", why)
            else:
                self._snapshots.adopt_state(row, status, why)

    # Start

    async def _start(self, row: Row) -> None:
        core = self._core
        core.refuse_pending(row)
        async with row.gate:
            self._require_free(row)
            if row.phase not in {"Stopped", "Starting"}:
                raise UserError("FAILED_PRECONDITION", f"sandbox is {row.phase}, not Stopped")
            self._creation.admit(row.spec)
            try:
                await core.reread()
            except DriverError as error:
                raise UserError(error.code, error.message) from None
            if row.phase == "Stopped" or not row.generation:
                row.generation = str(uuid.uuid4())
            row.session = False
            core.table.move(row, "Starting", "user start")
            await self.start_now(row, launch=self.launch(row))

    def launch(self, row: Row) -> Secret | None:
        """Make what the supervisor of a started sandbox authenticates with."""
        core = self._core
        if not core.preset.sends_launch or not core.options.signs:
            return None
        tokens = mint_token(), mint_token()
        core.tokens.extend(tokens)
        return launch_document(*tokens, generation=row.generation or str(uuid.uuid4()))

    async def start_now(self, row: Row, launch: Secret | None = None) -> None:
        """Start a row in Starting. Raises `UserError` with the driver's own code."""
        core = self._core
        kick = Kick(launch=launch, generation=row.generation, identity=row.runtime_identity)
        try:
            identity = await self._preparation.limited(
                row, lambda: core.driver.start(row.ref, kick), "Stopped"
            )
        except TookTooLong:
            raise
        except DriverError as error:
            if error.code == "NOT_FOUND" and core.preset.recreates_missing and row.spec:
                await self._recreate(row)
                return
            await self._judge_start(row)
            raise UserError(error.code, f"start sandbox: {error.message}") from None
        if core.capabilities.supports_sandbox_authentication and not identity:
            await self._undo_start(row)
            raise UserError("INTERNAL", "the driver gave no runtime identity")
        row.runtime_identity = identity or row.runtime_identity

    async def _recreate(self, row: Row) -> None:
        table = self._core.table
        table.move(row, "Provisioning", "StartSandbox found nothing; creating again")
        try:
            await self._creation.provision(row)
        except TookTooLong:
            raise
        except DriverError as error:
            table.move(row, "Error", "creating again failed", *MISSING)
            raise error

    async def _undo_start(self, row: Row) -> None:
        try:
            await self._core.driver.stop(row.ref)
        except DriverError as error:
            self._core.table.journal.note(f"compensation for {row.name} failed: {error.code}")
        self._core.table.move(row, "Stopped", "the start was undone")

    async def _judge_start(self, row: Row) -> None:
        table = self._core.table
        seen, status = await self._look_up(row)
        if row.phase != "Starting" or not table.holds(row):
            return
        why = "GetSandbox after a failed start"
        if seen is not None and not seen:
            table.move(row, "Error", why, *MISSING)
        elif status is not None:
            if stop_confirmed(status):
                table.move(row, "Stopped", why)
            elif derive_phase(status, self._core.preset) in {"Error", "Deleting"}:
                self._snapshots.adopt_state(row, status, why)

    async def _look_up(self, row: Row) -> tuple[bool | None, SandboxStatus | None]:
        """Look at a sandbox after an ambiguous error: whether it is there (None: nobody knows),
        and its status."""
        core, limit = self._core, self._core.preset.lookup_limit
        try:
            with anyio.fail_after(None if limit is None else core.clock.real(limit)):
                sandbox = await core.driver.get(row.ref)
        except TimeoutError:
            core.table.journal.note(f"the look-up of {row.name} took too long")
            return None, None
        except DriverError as error:
            core.table.journal.note(f"the look-up of {row.name} failed: {error.code}")
            return None, None
        return sandbox is not None, _status(sandbox)

    # Delete

    async def _delete_once(self, row: Row) -> None:
        """Delete as the fork does: the record stays in Deleting until something else ends it."""
        core = self._core
        core.table.move(row, "Deleting", "user delete")
        try:
            deleted = await core.driver.delete(row.ref)
        except DriverError as error:
            raise UserError("INTERNAL", f"delete sandbox: {error.message}") from None
        if not deleted:
            core.table.remove(row, "DeleteSandbox: nothing was there")

    async def _delete(self, row: Row) -> None:
        core = self._core
        core.refuse_pending(row)
        row.restarting = False
        if self._is_deleting(row):
            return
        async with row.gate:
            self._require_free(row)
            if self._is_deleting(row):  # it was not, before the gate was waited for
                return
            before = row.phase, row.reason, row.message
            core.table.move(row, "Deleting", "user delete")
            try:
                deleted = await core.driver.delete(row.ref)
            except DriverError as error:
                await self._judge_delete(row, before)
                raise UserError("INTERNAL", f"delete sandbox: {error.message}") from None
            if not deleted:
                core.table.remove(row, "DeleteSandbox: nothing was there")

    def _is_deleting(self, row: Row) -> bool:
        """Whether the driver has been asked already: once is enough."""
        return row.phase == "Deleting"

    async def _judge_delete(self, row: Row, before: tuple[Phase, str, str]) -> None:
        core, why = self._core, "GetSandbox after a failed delete"
        try:
            sandbox = await core.driver.get(row.ref)
        except DriverError:
            core.table.move(row, before[0], "the delete failed", before[1], before[2])
            return
        status = _status(sandbox)
        if sandbox is None:
            core.table.remove(row, f"{why}: NOT_FOUND")
        elif status is not None:
            self._snapshots.adopt_state(row, status, why)
        else:
            core.table.move(row, before[0], "the delete failed", before[1], before[2])


def _status(sandbox: Sandbox | None) -> SandboxStatus | None:
    return None if sandbox is None else sandbox.status
