"""`Sweep`: the List that is taken every minute, and what becomes of those it lacks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext

from openshell_drivers.compute import SandboxRef
from openshell_drivers.errors import DriverError
from openshell_drivers.testing.gateway._core import Core
from openshell_drivers.testing.gateway._snapshots import Snapshots
from openshell_drivers.testing.gateway._table import Row


class Sweep:
    """Compares the records with what the driver lists (contract 3.8)."""

    def __init__(self, core: Core, snapshots: Snapshots) -> None:
        self._core = core
        self._snapshots = snapshots

    async def forever(self) -> None:
        """Sweep at once and then at the line's interval."""
        while True:
            try:
                await self.once()
            except DriverError as error:
                note = f"the sweep was broken off: {error.code}: {error.message}"
                self._core.table.journal.note(note)
            await self._core.clock.sleep(self._core.preset.sweep_every)

    async def once(self) -> None:
        """Sweep; the first error ends it."""
        core = self._core
        began = core.clock.now()
        listed = {sandbox.id for sandbox in await core.driver.list_all()}
        for row in core.table:
            if row.id in listed and row.written < began:
                await self._refresh(row)
        for row in list(core.table)[: core.preset.prune_most]:
            old = core.clock.now() - row.born > core.preset.prune_after
            if row.id not in listed and old and not self._spared(row):
                await self._judge_missing(row)

    def _spared(self, row: Row) -> bool:
        """Whether an operation under way keeps a row from being pruned, as in the 0.1.x line."""
        return row.pending or (self._core.preset.deletes_pruned and row.gate.locked())

    def _turn(self) -> AbstractAsyncContextManager[object]:
        return self._core.order if self._core.preset.locks_in_get else nullcontext()

    async def _refresh(self, row: Row) -> bool:
        """Look at one sandbox and write what is seen; False if it is gone."""
        core = self._core
        async with self._turn():
            sandbox = await core.driver.get(row.ref)
            if sandbox is None:
                return False
            if not core.table.holds(row):
                return True
            if core.preset.adopts_unknown:
                self._snapshots.upsert(sandbox, "sweep")
            else:
                self._snapshots.apply(row, sandbox, "sweep")
        return True

    async def _judge_missing(self, row: Row) -> None:
        core = self._core
        if await self._refresh(row) or not core.table.holds(row):
            return
        if core.preset.missing_is_error and row.phase in {"Stopping", "Stopped", "Starting"}:
            core.table.move(
                row,
                "Error",
                "sweep: missing from List, NOT_FOUND from Get",
                "ComputeResourceMissing",
                "the compute of this sandbox is gone",
            )
            return
        core.table.remove(row, "sweep: pruned")
        if core.preset.deletes_pruned:
            core.tasks.start_soon(self._delete, row.ref)

    async def _delete(self, ref: SandboxRef) -> None:
        try:
            await self._core.driver.delete(ref)
        except DriverError as error:
            note = f"delete of the pruned {ref.name} failed: {error.code}: {error.message}"
            self._core.table.journal.note(note)
