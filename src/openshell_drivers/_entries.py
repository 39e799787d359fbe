"""`Entry`: one sandbox as the board has it, and what is told of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from openshell_drivers._sandboxes import Condition, ObservedSandbox, Sandbox, SandboxStatus
from openshell_drivers._states import SandboxState, StateKind

#: how each state is written: condition type, status, reason (None for the state's own)
_CONDITIONS: Final[dict[StateKind, tuple[tuple[str, str, str | None], ...]]] = {
    "starting": (("Ready", "False", None),),
    "ready": (("Ready", "True", None),),
    "transient": (("Ready", "False", None),),
    "unknown": (("Ready", "Unknown", None),),
    "failed": (("Ready", "False", None),),
    "exited": (("Ready", "False", None),),
    "stopping": (("Suspended", "False", None), ("Ready", "Unknown", "Stopping")),
    "stopped": (("Suspended", "True", None), ("Ready", "Unknown", "Stopped")),
    "deleting": (("Ready", "Unknown", None),),
}


@dataclass(slots=True, eq=False)
class Entry:
    """One sandbox that exists."""

    id: str
    name: str
    workspace: str
    observed: ObservedSandbox | None = None
    shown: SandboxState | None = None
    """What is told in place of what was observed, while an operation runs and until the backend
    has caught up with it."""
    shown_until: float = -math.inf
    fresh: bool = False
    """Created by this process and not started since, so that no earlier run can be seen."""
    instance: str = ""
    """The instance before the start that is shown."""
    accepted_at: float = -math.inf
    again: bool = False
    """There was one with the same id a moment before."""
    pinned: bool = False
    """The backend may know nothing of it, and it exists all the same: it is being provisioned, or
    that has failed. Only a delete removes it."""
    doomed: bool = False
    """A delete was accepted: the first absence is its end."""
    shown_at: float = -math.inf
    overdue: bool = False
    """It was said that a delete takes long."""
    strikes: int = 0
    unlisted: bool = False
    """The last list lacked it."""
    missing: bool = False
    """And nothing excuses that."""
    touched: int = 0
    seen_at: int = 0
    since: int = 0
    """Touches: what was observed before the second is older than what is shown."""
    generation: str = ""
    """Of the start that was last made."""
    identity: str | None = None
    """The runtime identity that the gateway was last told."""
    view: Sandbox | None = None
    encoded: bytes | None = None
    """What the server has made of `view`, for as long as it stays."""
    brief: bytes | None = None
    """The same without messages, if a list was too large with them."""


def view_of(entry: Entry) -> Sandbox:
    """Make what is told of a sandbox. The gateway's own id, name and workspace (COMP-GET-03)."""
    seen = entry.observed
    state = entry.shown
    if state is None:
        state = SandboxState.starting() if seen is None else seen.state
    before = () if entry.view is None or entry.view.status is None else entry.view.status.conditions
    conditions, deleting = _conditions(state, before), state.kind == "deleting"
    if seen is None:
        status = SandboxStatus(name=entry.name, conditions=conditions, deleting=deleting)
    else:
        status = SandboxStatus(
            name=entry.name,
            instance_id=seen.instance_id,
            agent_fd=seen.agent_fd,
            sandbox_fd=seen.sandbox_fd,
            conditions=conditions,
            deleting=deleting,
            resolved_identity=seen.resolved_identity,
            fence_generation=seen.fence_generation,
            fence_digest=seen.fence_digest,
            fence_claims=seen.fence_claims,
        )
    return Sandbox(id=entry.id, name=entry.name, workspace=entry.workspace, status=status)


def _conditions(state: SandboxState, before: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """Write a state; a condition keeps its time while its status stays (COMP01-TIME-02)."""
    old = {each.type: each for each in before}
    written = []
    for kind, status, reason in _CONDITIONS[state.kind]:
        known = old.get(kind)
        if known is not None and known.status == status:
            time_ = known.transition_time
        else:
            time_ = state.since or datetime.now(UTC)
        written.append(
            Condition(
                type=kind,
                status=status,
                reason=reason or state.reason,
                message=state.message,
                transition_time=time_,
            )
        )
    return tuple(written)
