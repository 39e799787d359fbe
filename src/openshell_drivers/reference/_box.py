"""`Box`: a sandbox of a `Process` driver, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import anyio

from openshell_drivers import ObservedSandbox, SandboxState
from openshell_drivers.reference._folder import Record
from openshell_drivers.reference._runs import Report, Run

#: What becomes of a command that cannot be executed, by errno.
_REFUSALS: Final = {
    "ENOENT": "CommandNotFound",
    "ENOTDIR": "CommandNotFound",
    "EACCES": "CommandNotExecutable",
    "ENOEXEC": "CommandNotExecutable",
    "E2BIG": "CommandTooLong",
}


@dataclass(slots=True, eq=False)
class Box:
    """A sandbox that exists."""

    record: Record
    run: Run | None = None
    """The last one; None if nothing of it matters any more."""
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    leaving: bool = False
    """It is being removed, or is gone."""
    remains: bool = False
    """It could be removed in part only."""

    def observed(self) -> ObservedSandbox:
        """Say it as a driver does."""
        record = self.record
        return ObservedSandbox(
            id=record.id,
            name=record.name,
            workspace=record.workspace,
            state=self._state(),
            instance_id=f"{record.mark}.{record.run}",
        )

    def _state(self) -> SandboxState:
        if self.remains:
            return SandboxState.failed("DeletionIncomplete", "some of it cannot be removed")
        match self.record.phase:
            case "running":
                return _state_of(self.run)
            case "stopping":
                return SandboxState.stopping()
            case "stopped":
                return SandboxState.stopped()
            case "deleting":
                return SandboxState.deleting()


def _state_of(run: Run | None) -> SandboxState:
    report = None if run is None else run.report
    outcome = "" if report is None else report.outcome
    if run is not None and run.alive:
        return SandboxState.ready() if outcome == "running" else SandboxState.starting()
    if report is not None and outcome == "refused":
        return SandboxState.failed(*refusal(report))
    if report is not None and outcome == "ended":
        code = report.code
        return SandboxState.exited(
            f"exit status {code}" if code >= 0 else f"killed by signal {-code}"
        )
    return SandboxState.exited("it was killed, or never began; nobody saw how")


def refusal(report: Report) -> tuple[str, str]:
    """Say in a word, and in some more, why a command could not be executed."""
    word = _REFUSALS.get(report.problem, "CommandFailed")
    return word, f"the command cannot be executed ({report.problem})"
