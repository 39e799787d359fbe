"""`Table`: the gateway's records of sandboxes, and what a user sees of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from openshell_drivers.compute import PlatformEvent, SandboxRef, SandboxSpec, SandboxStatus
from openshell_drivers.testing.gateway._clock import Clock
from openshell_drivers.testing.gateway._journal import Journal, progress_of
from openshell_drivers.testing.gateway._phases import Phase
from openshell_drivers.testing.gateway._preset import Preset


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A sandbox as the gateway has it, at one moment."""

    id: str
    name: str
    workspace: str
    phase: Phase
    reason: str = ""
    message: str = ""
    since: datetime
    """When the phase began."""
    created: datetime
    status: SandboxStatus | None = None
    """What the driver last said."""
    spec: SandboxSpec | None = None
    """What the user asked for, without tokens; None for a sandbox that was adopted."""
    session: bool = False
    """Whether its supervisor is connected."""
    pending: bool = False
    """Whether a create or start that took too long is not yet undone."""
    runtime_identity: str = ""
    generation: str = ""
    """The id of its last start."""


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """A record while it lives."""

    id: str
    name: str
    workspace: str
    spec: SandboxSpec | None
    born: float
    written: float
    phase: Phase = "Provisioning"
    reason: str = ""
    message: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: SandboxStatus | None = None
    session: bool = False
    pending: bool = False
    restarting: bool = False
    """Whether the gateway itself restarts it; a user's stop or delete ends that."""
    runtime_identity: str = ""
    generation: str = ""
    gate: anyio.Lock = field(default_factory=anyio.Lock)
    """One lifecycle operation at a time."""

    @property
    def ref(self) -> SandboxRef:
        """How the driver is told which sandbox is meant."""
        return SandboxRef(id=self.id, name=self.name)

    @property
    def record(self) -> Record:
        """What it is now."""
        return Record(
            id=self.id,
            name=self.name,
            workspace=self.workspace,
            phase=self.phase,
            reason=self.reason,
            message=self.message,
            since=self.since,
            created=self.created,
            status=self.status,
            spec=self.spec,
            session=self.session,
            pending=self.pending,
            runtime_identity=self.runtime_identity,
            generation=self.generation,
        )


class Table:
    """All rows, oldest first. Every change of one goes through here and into the journal."""

    def __init__(self, preset: Preset, clock: Clock) -> None:
        self._preset = preset
        self._clock = clock
        self._rows: dict[str, Row] = {}
        self.journal = Journal()

    def __iter__(self) -> Iterator[Row]:
        return iter(list(self._rows.values()))

    def get(self, sandbox_id: str) -> Row | None:
        """Find by id."""
        return self._rows.get(sandbox_id)

    def named(self, name: str, workspace: str) -> Row | None:
        """Find by name: in the workspace, or anywhere in a line that knows none."""
        anywhere = not self._preset.names_per_workspace
        for row in self._rows.values():
            if row.name == name and (anywhere or row.workspace == workspace):
                return row
        return None

    def holds(self, row: Row) -> bool:
        """Say whether the row is still there."""
        return self._rows.get(row.id) is row

    def add(self, spec: SandboxSpec, why: str) -> Row:
        """Make the record of a sandbox that a user asked for."""
        row = self._new(spec.id, spec.name, spec.workspace, spec)
        self._journal_phase(row, why)
        return row

    def adopt(self, sandbox_id: str, name: str) -> Row:
        """Make the record of a sandbox that nobody asked for; its phase is set next."""
        return self._new(sandbox_id, name, "", None)

    def restore(self, record: Record) -> Row:
        """Take a record over from an earlier life of the gateway."""
        row = self._new(record.id, record.name, record.workspace, record.spec)
        row.phase, row.reason, row.message = record.phase, record.reason, record.message
        row.since, row.created, row.status = record.since, record.created, record.status
        row.runtime_identity, row.generation = record.runtime_identity, record.generation
        row.born = row.written = self._clock.born(record.created)
        return row

    def _new(self, sandbox_id: str, name: str, workspace: str, spec: SandboxSpec | None) -> Row:
        now = self._clock.now()
        row = Row(id=sandbox_id, name=name, workspace=workspace, spec=spec, born=now, written=now)
        self._rows[sandbox_id] = row
        return row

    def rekey(self, row: Row, sandbox_id: str) -> None:
        """Give a row the id of another sandbox of the same name."""
        del self._rows[row.id]
        row.id = sandbox_id
        self._rows[sandbox_id] = row

    def move(self, row: Row, phase: Phase, why: str, reason: str = "", message: str = "") -> None:
        """Write a row; what a user would see change goes into the journal."""
        row.written = self._clock.now()
        if (phase, reason, message) == (row.phase, row.reason, row.message) or not self.holds(row):
            self.journal.stir()
            return
        if phase != row.phase:
            row.since = datetime.now(UTC)
        row.phase, row.reason, row.message = phase, reason, message
        self._journal_phase(row, why)

    def remove(self, row: Row, why: str) -> None:
        """Drop a record and all that belongs to it."""
        if self.holds(row):
            del self._rows[row.id]
            self.journal.write(
                kind="gone", id=row.id, name=row.name, workspace=row.workspace, why=why
            )

    def happened(self, row: Row, event: PlatformEvent) -> None:
        """Publish a platform event."""
        self.journal.write(
            kind="event",
            id=row.id,
            name=row.name,
            workspace=row.workspace,
            event=event,
            progress=progress_of(event),
        )

    def _journal_phase(self, row: Row, why: str) -> None:
        self.journal.write(
            kind="phase",
            id=row.id,
            name=row.name,
            workspace=row.workspace,
            phase=row.phase,
            reason=row.reason,
            message=row.message,
            why=why,
        )
