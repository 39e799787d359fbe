"""`SandboxState`: how a sandbox is, in a closed vocabulary that every gateway reads alike.

A gateway derives a phase from free-form conditions, and takes any reason that it does not know for
a failure that lasts (COMP-STAT-02). So a driver does not write conditions: it says one of these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, TypeAlias, get_args

from openshell_drivers._checks import require_aware
from openshell_drivers._faults import WrongValue

StateKind: TypeAlias = Literal[
    "starting",
    "ready",
    "transient",
    "unknown",
    "failed",
    "exited",
    "stopping",
    "stopped",
    "deleting",
]

TransientReason: TypeAlias = Literal[
    "Starting",
    "DependenciesNotReady",
    "ContainerStarting",
    "HealthCheckStarting",
    "ReconcilerError",
    "InspectFailed",
]
"""The reasons for not being ready that every gateway takes for passing (COMP-STAT-02)."""

_PASSING: Final = frozenset(get_args(TransientReason))
#: read as passing, or as a stop, by some gateway: a failure by this name would not be one
_NO_FAILURE: Final = frozenset(
    reason.lower()
    for reason in (
        *_PASSING,
        *("SupervisorNotConnected", "ContainerCreated", "ContainerStopped", "ContainerExited"),
        *("ContainerRuntimeRestart", "PodTerminating", "PodNotTerminated"),
    )
)
_REASON: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}")
_LONGEST_MESSAGE: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxState:
    """How a sandbox is. Make one with the methods below, not with the constructor.

    A message is for the sandbox's user: short, without secrets (COMP-STAT-09); longer ones are cut
    to 256 characters. Control characters become spaces.
    """

    kind: StateKind
    reason: str
    message: str = ""
    since: datetime | None = None
    """When it became so, if the backend says, with a time zone. If not, it is when the SDK first
    saw it."""

    def __post_init__(self) -> None:
        require_aware("since", self.since)
        if not _REASON.fullmatch(self.reason):
            raise WrongValue("a reason is one word in CamelCase, of letters and digits")
        text = self.message
        if not text.isprintable():
            text = "".join(each if each.isprintable() else " " for each in text)
        text = text.strip()
        if len(text) > _LONGEST_MESSAGE:
            text = text[: _LONGEST_MESSAGE - 3] + "..."
        object.__setattr__(self, "message", text)

    @classmethod
    def starting(cls, message: str = "") -> SandboxState:
        """On the way to ready, for the first time or again."""
        return cls(kind="starting", reason="Starting", message=message)

    @classmethod
    def ready(cls, message: str = "") -> SandboxState:
        """Compute is running (COMP-STAT-04). For the kagenti line this alone makes the sandbox
        Ready to its user; newer ones wait for its supervisor, unless the driver reports runtime
        readiness."""
        return cls(kind="ready", reason="Running", message=message)

    @classmethod
    def transient(cls, reason: TransientReason, message: str = "") -> SandboxState:
        """Not ready, and expected to become so by itself."""
        if reason not in _PASSING:
            raise WrongValue(f"a passing reason is one of {', '.join(sorted(_PASSING))}")
        return cls(kind="transient", reason=reason, message=message)

    @classmethod
    def unknown(cls, message: str = "") -> SandboxState:
        """It exists, and how it is cannot be told now."""
        return cls(kind="unknown", reason="Unknown", message=message)

    @classmethod
    def failed(cls, reason: str, message: str = "") -> SandboxState:
        """It will not become ready any more: its user has to delete it (COMP-STAT-03).

        The reason is a word of the driver's own, as ``ImagePullFailed``. Upstream gateways never
        take a sandbox back that has once been reported so.
        """
        if reason.lower() in _NO_FAILURE:
            raise WrongValue(f"{reason} is not read as a failure by every gateway")
        return cls(kind="failed", reason=reason, message=message)

    @classmethod
    def exited(cls, message: str = "") -> SandboxState:
        """Its main process ended though nobody had stopped it; read as a failure. Drivers do not
        restart it: a newer gateway does, when its supervisor tells of the end (COMP01-START-03)."""
        return cls(kind="exited", reason="ContainerExited", message=message)

    @classmethod
    def stopping(cls, message: str = "") -> SandboxState:
        """A stop has begun."""
        return cls(kind="stopping", reason="PodTerminating", message=message)

    @classmethod
    def stopped(cls, message: str = "") -> SandboxState:
        """Compute is stopped, data is kept, and it can be started again (COMP-STAT-06)."""
        return cls(kind="stopped", reason="Stopped", message=message)

    @classmethod
    def deleting(cls, message: str = "") -> SandboxState:
        """It is being removed (COMP-STAT-05)."""
        return cls(kind="deleting", reason="Deleting", message=message)

    def at(self, since: datetime) -> SandboxState:
        """Give the same state with the time the backend says it began."""
        return replace(self, since=since)
