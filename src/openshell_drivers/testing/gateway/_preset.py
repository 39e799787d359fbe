"""`Preset`: all that differs between the gateway lines, as values. Knows nothing of gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal

from openshell_drivers._revisions import Revision, revisions
from openshell_drivers.backoff import Backoff

_COMMON: Final = frozenset(
    {
        *("reconcilererror", "dependenciesnotready", "starting"),
        *("containerstarting", "healthcheckstarting", "inspectfailed"),
    }
)
_UPSTREAM: Final = _COMMON | {"supervisornotconnected", "containercreated"}
_LABELS: Final = MappingProxyType(
    {
        "openshell.ai/sandbox-attachable": "true",
        "openshell.ai/sandbox-attachable-workspace": "${workspace}",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One gateway line at one release, and every rule in which it differs from the others.

    Times are in seconds of the gateway, which a `Gateway` may let pass faster; only the dial
    schedules and `credentials_timeout` are real ones, since another process lives by them.
    Make a variant with `dataclasses.replace`.
    """

    name: str
    """Also the name of its revision in ``proto/revisions.toml``."""
    line: Literal["F", "U", "N"]
    release: str
    """What the gateway says its version is, where it says one."""

    # Transport (contract 3.1)
    dial: Backoff
    """For the compute driver's socket."""
    credentials_dial: Backoff
    spawned_dial: Backoff = field(default_factory=lambda: Backoff(attempts=100, delay=0.1))
    """For a credentials driver that the gateway has started itself."""
    authority: str = "[::]:50051"
    credentials_authority: str = "[::]:50051"
    receive_limit: int = 4 * 1024 * 1024
    """The longest answer, in bytes; there is no limit on requests."""
    credentials_timeout: float | None = 30.0
    """For every call of the credential store, as ``grpc-timeout`` and by a timer."""
    traces: bool = True
    """Whether it can send a ``traceparent`` with compute calls."""

    # Start
    asks_listeners: bool = False
    rereads_capabilities: bool = False
    """Before every validate, create and start, comparing the admission policy byte by byte."""
    default_labels: Mapping[str, str] = field(default_factory=lambda: _LABELS)
    """Of the resource admission policy."""

    # Requests
    longest_name: int = 19
    names_per_workspace: bool = True
    mints_tokens: bool = True
    sends_launch: bool = False
    """Whether create and start carry ``launch_authentication``, and start its generation."""

    # Phases (contract 3.10)
    transient_reasons: frozenset[str] = _UPSTREAM
    """Lower case. With any other one, an empty one too, ``Ready=False`` means Error."""
    suspended: Literal["ignored", "beats ready", "after ready"] = "beats ready"
    sticky: bool = True
    """Whether Error and Stopped stay, whatever a snapshot says."""
    ready_needs_session: bool = True
    honours_readiness: bool = False
    """Whether ``driver_reports_runtime_readiness`` can take the session's place."""
    bootstrapping_wakes: bool = False
    """Whether ``Bootstrapping=True`` moves a stopped sandbox."""

    # Watch and sweep (contract 3.8, 3.9)
    adopts_unknown: bool = False
    """Whether an unknown id on the watch becomes a record, keyed on the name."""
    confirms_starting: bool = False
    """Whether a snapshot of a starting sandbox is confirmed by a GetSandbox."""
    locks_in_get: bool = False
    """Whether the sweep's GetSandbox keeps watch events waiting."""
    checks_times: bool = False
    """Whether an invalid Timestamp turns a whole answer into an error."""
    reopen_after: float = 2.0
    sweep_every: float = 60.0
    prune_after: float = 300.0
    prune_most: int = 500
    missing_is_error: bool = True
    """Whether a missing stopping, stopped or starting sandbox becomes Error, not nothing."""
    deletes_pruned: bool = False

    # Lifecycle (contract 3.11)
    stops: bool = True
    """Whether users can stop and start."""
    arbitrates: bool = True
    """Whether a GetSandbox decides after an operation that failed."""
    recreates_missing: bool = False
    """Whether a start that finds nothing creates anew, under the same id."""
    lookup_limit: float | None = None
    """For that GetSandbox after a failed stop or start."""
    preparation_limit: float | None = None
    """For a create or a start, which it ends for the user only."""
    readiness_limit: float = 120.0
    """For a restarted main process to get ready."""
    restart_backoff: Backoff | None = None
    """Between restarts of a main process that has ended; None if it is not restarted."""
    parallel_stops: int = 16

    @property
    def revision(self) -> Revision:
        """The RPCs and fields that this line has."""
        return revisions()[self.name]

    def offers(self, family: str) -> tuple[str, ...]:
        """The capabilities that the gateway says it has; none where it sends no metadata."""
        return self.revision.handshake.get(family, ())


_FORK: Final = Preset(
    name="fork-mvp",
    line="F",
    release="",
    dial=Backoff(attempts=100, delay=0.1),
    credentials_dial=Backoff(attempts=100, delay=0.1),
    credentials_authority="[::]:50052",
    credentials_timeout=None,
    traces=False,
    longest_name=253,
    names_per_workspace=False,
    mints_tokens=False,
    transient_reasons=_COMMON,
    suspended="ignored",
    sticky=False,
    ready_needs_session=False,
    adopts_unknown=True,
    locks_in_get=True,
    missing_is_error=False,
    stops=False,
    arbitrates=False,
)
_OLD: Final = Preset(
    name="0.0.111",
    line="U",
    release="0.0.111",
    dial=Backoff(attempts=121, delay=0.25),
    credentials_dial=Backoff(attempts=1),
    asks_listeners=True,
)
_NEW: Final = replace(
    _OLD,
    name="0.1.2",
    line="N",
    release="0.1.2",
    asks_listeners=False,
    rereads_capabilities=True,
    sends_launch=True,
    suspended="after ready",
    honours_readiness=True,
    bootstrapping_wakes=True,
    confirms_starting=True,
    checks_times=True,
    deletes_pruned=True,
    recreates_missing=True,
    lookup_limit=10.0,
    preparation_limit=1800.0,
    restart_backoff=Backoff(attempts=None, delay=1.0, factor=2.0, maximum=180.0),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        preset.name: preset
        for preset in (_FORK, _OLD, _NEW, replace(_NEW, name="0.1-latest", release="0.1.9"))
    }
)
"""The four gateways, oldest first."""
