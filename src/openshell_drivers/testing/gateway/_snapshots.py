"""`Snapshots`: what the driver says of a sandbox becomes what the user sees of it."""

from __future__ import annotations

from openshell_drivers.compute import Sandbox, SandboxStatus
from openshell_drivers.errors import Internal
from openshell_drivers.testing.gateway._core import Core
from openshell_drivers.testing.gateway._phases import (
    Phase,
    derive_phase,
    explain,
    next_phase,
    ready_condition,
)
from openshell_drivers.testing.gateway._table import Row


class Snapshots:
    """Applies snapshots, one at a time, by the rules of the line."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._readiness = core.capabilities.driver_reports_runtime_readiness

    def apply(self, row: Row, sandbox: Sandbox, why: str) -> None:
        """Let a snapshot change a known sandbox. `Internal` if its name is another (COMP-GET-03).

        A sandbox that is being deleted is not changed, except in a line without arbitration.
        """
        if sandbox.name != row.name:
            raise Internal("the driver's snapshot has another name than the sandbox")
        if row.phase == "Deleting" and self._core.preset.arbitrates:
            return
        self.show(row, sandbox.status, why)

    def show(
        self, row: Row, status: SandboxStatus | None, why: str, *, old: Phase | None = None
    ) -> None:
        """Write the status and the phase that follows on the row's, or on `old`."""
        core = self._core
        before = row.phase if old is None else old
        if status is None:
            # The upstream lines keep the old one (COMP-GET-04).
            if core.preset.line == "F":
                row.status = None
                core.table.move(row, "Unknown", why)
            return
        row.status = status
        self._follow_session(row, status)
        phase = next_phase(
            before, status, core.preset, session=row.session, readiness=self._readiness
        )
        if phase == before and core.preset.sticky and phase in {"Error", "Stopped"}:
            core.table.move(row, phase, why, row.reason, row.message)
        else:
            core.table.move(row, phase, why, *explain(status, phase, core.preset))

    def adopt_state(self, row: Row, status: SandboxStatus, why: str) -> None:
        """Forget what the row was and take over what the driver says."""
        self.show(row, status, why, old="Provisioning")

    def session_changed(self, row: Row, why: str) -> None:
        """Compose the phase anew after the supervisor came or went."""
        if row.status is not None and row.phase not in {"Deleting", "Stopping", "Stopped"}:
            self.show(row, row.status, why)
        else:
            self._core.table.journal.stir()

    def _follow_session(self, row: Row, status: SandboxStatus) -> None:
        """Let the supervisor come with ``Ready=True`` and go with the compute."""
        if self._core.sessions != "auto":
            return
        phase = derive_phase(status, self._core.preset)
        ready = ready_condition(status)
        if phase == "Ready":
            row.session = True
        elif phase in {"Error", "Stopped", "Deleting"} or (
            ready is not None and ready.status.lower() == "false"
        ):
            row.session = False

    def upsert(self, sandbox: Sandbox, why: str) -> None:
        """Write a snapshot as the fork does: keyed on the name, with the id as primary key."""
        table = self._core.table
        row, namesake = table.get(sandbox.id), table.named(sandbox.name, "")
        if row is not None and namesake is not row:
            table.journal.note(f"{why}: the new name of a known id cannot be written")
            return
        if row is None and namesake is not None:
            table.journal.note(f"{why}: {sandbox.name} now has another id")
            table.rekey(namesake, sandbox.id)
            row = namesake
        self.show(row or table.adopt(sandbox.id, sandbox.name), sandbox.status, why)
