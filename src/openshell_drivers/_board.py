"""`Board`: what is known of every sandbox, and who has yet to be told.

One state per sandbox, however many watch. A change marks the sandbox's id in each watcher's list
of what it has to read, so a watcher that stalls costs an id per sandbox. What the backend says and
what the SDK has just done are kept apart: an operation's result is shown until the backend's
observation catches up with it, so that no stale state is told in between.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from openshell_drivers._entries import Entry, view_of
from openshell_drivers._faults import WrongType
from openshell_drivers._sandboxes import (
    ObservedSandbox,
    PlatformEvent,
    SandboxDeleted,
    SandboxHappening,
)
from openshell_drivers._states import SandboxState, StateKind
from openshell_drivers._watchers import Watcher
from openshell_drivers.errors import Aborted, Unavailable

if TYPE_CHECKING:
    import anyio

SETTLE_SECONDS: Final = 30.0
"""How long a backend may take to show what the driver has just done."""
STRIKES: Final = 3
"""Absences in a row after which a backend that is only polled has lost a sandbox."""
TOMBSTONE_SECONDS: Final = 120.0
"""How long nothing is told of a sandbox that is gone, whatever the backend still shows. After that
somebody else has made it again."""
_MOST_TOMBSTONES: Final = 10_000
_MOST_HELD_EVENTS: Final = 64

_AFTER_CREATE: Final[frozenset[StateKind]] = frozenset(
    {"starting", "ready", "transient", "unknown", "failed", "exited"}
)
_AFTER_START: Final[frozenset[StateKind]] = _AFTER_CREATE - {"exited"}
_AFTER_STOP: Final[frozenset[StateKind]] = frozenset({"stopped"})
_CONFIRMED_BY: Final[dict[StateKind, frozenset[StateKind]]] = {
    "starting": _AFTER_START,
    "stopped": _AFTER_STOP,
}


Change: TypeAlias = Entry | SandboxDeleted | SandboxHappening


@dataclass(slots=True)
class _Held:
    """A sandbox whose create is under way: nothing is told of it."""

    observed: ObservedSandbox | None = None
    events: list[PlatformEvent] = field(default_factory=list)
    again: bool = False
    """There was one with this id a moment ago."""


class Lister(Protocol):
    """Who lists a backend that does not push."""

    async def fresh(self) -> None:
        """Wait for a list that was asked for after this call. Raises `Unavailable`."""

    def nudge(self) -> None:
        """List soon: something was done."""


class Board:
    """The state of all sandboxes of one driver. For one event loop, without locks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._held: dict[str, _Held] = {}
        self._watchers: set[Watcher] = set()
        self._tombstones: dict[str, float] = {}
        self._revenants: dict[str, ObservedSandbox] = {}
        self._untold: dict[str, None] = {}
        self._forgotten: dict[str, None] = {}
        self._sighted: anyio.Event | None = None
        self._touches = 0
        self.synced = False
        self.blind_reason = ""
        self.poller: Lister | None = None
        """Who lists the backend, while somebody does."""

    # What the backend says.

    def replace(
        self, sandboxes: Iterable[ObservedSandbox], *, began: int | None = None, strikes: int = 1
    ) -> None:
        """Take a complete list. What is missing in it is absent: once, and `strikes` times in a
        row make a deletion; 0 counts nothing. `began` is the `mark` before the list was asked for:
        what was done since is newer than the list."""
        present = {_observed(each).id: each for each in sandboxes}
        for each in present.values():
            self.update(each, began=began)
        for sandbox_id in self._revenants.keys() - present.keys():
            del self._revenants[sandbox_id]
        for entry in list(self._entries.values()):
            if entry.id not in present and (began is None or entry.touched <= began):
                self._absent(entry, strikes)
        self.synced = True
        self.blind_reason = ""
        if self._sighted is not None:
            self._sighted.set()
            self._sighted = None

    def update(self, observed: ObservedSandbox, *, began: int | None = None) -> None:
        """Take the newest state of one sandbox."""
        held = self._held.get(_observed(observed).id)
        if held is not None:
            held.observed = observed
            return
        if observed.id in self._tombstones:  # nothing comes after a deletion (COMP-WATCH-06)
            if self._clock() < self._tombstones[observed.id]:
                self._revenants[observed.id] = observed
                return
            del self._tombstones[observed.id]
            self._revenants.pop(observed.id, None)
        entry = self._entries.get(observed.id)
        if entry is None:
            entry = Entry(observed.id, observed.name, observed.workspace)
            self._entries[observed.id] = entry
        elif began is not None and entry.touched > began:
            return
        entry.observed, entry.strikes = observed, 0
        entry.unlisted = entry.missing = False
        entry.seen_at = self._touches if began is None else began
        self._settle(entry)
        self._publish(entry)

    def delete(self, sandbox_id: str) -> None:
        """Take that a sandbox is gone: told once, and nothing of it afterwards."""
        if sandbox_id in self._held:  # of what had this id before
            self._held[sandbox_id].observed = None
        self._revenants.pop(sandbox_id, None)
        if self._entries.pop(sandbox_id, None) is None:
            return
        self._bury(sandbox_id)
        _bound(self._untold)
        self._untold[sandbox_id] = None
        for watcher in self._watchers:
            watcher.mark(sandbox_id, deleted=True)

    def lose(self, entry: Entry) -> None:
        """Take that the backend, asked for one sandbox, has said that it is not there."""
        self._absent(entry, 1)

    def event(self, sandbox_id: str, event: PlatformEvent) -> None:
        """Tell those who watch now. An event of a sandbox that is not there is nobody's."""
        if not isinstance(event, PlatformEvent):
            raise WrongType(f"an event is a PlatformEvent, not {type(event).__name__}")
        held = self._held.get(sandbox_id)
        if held is not None:
            if len(held.events) < _MOST_HELD_EVENTS:
                held.events.append(event)
        elif sandbox_id in self._entries:
            for watcher in [*self._watchers]:
                watcher.tell(SandboxHappening(sandbox_id=sandbox_id, event=event))
                if watcher.overrun:
                    self._watchers.discard(watcher)

    def blind(self, reason: str) -> None:
        """Take that the backend cannot be observed: what is known is kept and told to nobody."""
        self.synced = False
        self.blind_reason = reason or "the driver does not say why"

    def _absent(self, entry: Entry, strikes: int) -> None:
        if entry.doomed:
            self.delete(entry.id)
            return
        entry.unlisted = True
        unseen = entry.observed is None or entry.again  # what is seen may be what was before
        new = unseen and self._clock() - entry.accepted_at < SETTLE_SECONDS
        if entry.observed is None and not new:
            _log(entry.id, "a sandbox that was created was never seen: is its id kept as it came?")
        if entry.pinned or new:
            return
        entry.missing = True
        if not strikes or entry.shown_until == math.inf:
            return
        entry.strikes += 1
        if entry.strikes >= strikes:
            self.delete(entry.id)

    def _bury(self, sandbox_id: str) -> None:
        _bound(self._tombstones)
        self._tombstones[sandbox_id] = self._clock() + TOMBSTONE_SECONDS

    # What the SDK does.

    def mark(self) -> int:
        """Give the number of operations so far."""
        return self._touches

    def hold(self, sandbox_id: str) -> None:
        """Say nothing of a sandbox until its create has succeeded (COMP-CREATE-02)."""
        again = self._tombstones.pop(sandbox_id, None) is not None
        self._revenants.pop(sandbox_id, None)
        self._held[sandbox_id] = _Held(again=again or sandbox_id in self._forgotten)

    def abandon(self, sandbox_id: str, *, leftover: bool) -> None:
        """A create has failed. With `leftover`, what a backend may yet show of it is not told."""
        held = self._held.pop(sandbox_id, None)
        if leftover:
            self._bury(sandbox_id)
        elif held is not None and held.observed is not None:
            self.update(held.observed)

    def accept(self, sandbox_id: str, name: str, workspace: str, *, pinned: bool) -> Entry:
        """A create has succeeded: it is there from now on, starting until it is seen."""
        held = self._held.pop(sandbox_id, None) or _Held()
        entry = Entry(sandbox_id, name, workspace, fresh=True, pinned=pinned)
        entry.accepted_at, entry.again = self._clock(), held.again
        entry.observed = held.observed
        self._forgotten.pop(sandbox_id, None)
        self._untold.pop(sandbox_id, None)  # an end of it would be taken for the end of this one
        for watcher in self._watchers:
            if watcher.pending.get(sandbox_id):
                watcher.pending[sandbox_id] = False
        self._entries[sandbox_id] = entry
        self.show(entry, SandboxState.starting(), done=not pinned)
        if self.poller is None:  # what it has pushed since the create began is of this sandbox
            entry.since = 0
        for event in held.events:
            self.event(sandbox_id, event)
        return entry

    def show(self, entry: Entry, state: SandboxState | None, *, done: bool) -> None:
        """Tell this state in place of the observed one, until `done`; then until the backend has
        caught up, or has had time to. None goes back to what is observed."""
        self._touches += 1
        entry.touched = self._touches
        if not done or self.poller is not None:  # a push in between tells of the operation itself
            entry.since = self._touches
        entry.shown, entry.shown_at = state, self._clock()
        entry.shown_until = self._clock() + SETTLE_SECONDS if done else math.inf
        if state is not None and state.kind == "starting" and not done:
            entry.instance = "" if entry.observed is None else entry.observed.instance_id
        self._settle(entry)
        self._publish(entry)

    def restore(self, entry: Entry, shown: SandboxState | None, until: float, doomed: bool) -> None:
        """Go back to what was told before an operation that has failed."""
        self._touches += 1
        entry.touched = self._touches
        entry.shown, entry.shown_until, entry.doomed = shown, until, doomed
        self._settle(entry)
        self._publish(entry)

    def forget(self, sandbox_id: str) -> None:
        """Drop a sandbox without a word: its gateway has just been told that it is lost, and may
        create it again (COMP01-START-02)."""
        self._entries.pop(sandbox_id, None)
        self._untold.pop(sandbox_id, None)
        _bound(self._forgotten)
        self._forgotten[sandbox_id] = None

    def entry(self, sandbox_id: str) -> Entry | None:
        return self._entries.get(sandbox_id)

    def entries(self) -> list[Entry]:
        """All, in the order of their ids (COMP-LIST-05)."""
        return [self._entries[key] for key in sorted(self._entries)]

    def lapse(self) -> None:
        """Look again at what is shown in place of an observation, and at what came back too early
        to be told."""
        for sandbox_id, observed in list(self._revenants.items()):
            if self.synced and self._clock() >= self._tombstones.get(sandbox_id, -math.inf):
                del self._revenants[sandbox_id]
                self.update(observed)
        for entry in list(self._entries.values()):
            if entry.doomed and not entry.overdue and self._is_overdue(entry):
                entry.overdue = True
                _log(entry.id, "a delete was accepted, and the sandbox is still there")
            if entry.shown is not None and self._settle(entry):
                self._publish(entry)

    def _is_overdue(self, entry: Entry) -> bool:
        return self._clock() - entry.shown_at > SETTLE_SECONDS

    def _settle(self, entry: Entry) -> bool:
        """Drop what is shown once the backend has caught up; say whether it was."""
        shown, seen = entry.shown, entry.observed
        if shown is None or seen is None or entry.shown_until == math.inf:
            return False
        if entry.seen_at < entry.since:  # however long ago: the backend has not been seen since
            return False
        confirming = _AFTER_CREATE if entry.fresh else _CONFIRMED_BY.get(shown.kind, frozenset())
        if shown.kind == "stopped":
            confirming = _AFTER_STOP
            if seen.state.kind == "exited":  # that is how this stop looks here
                return False
        if shown.kind == "starting" and seen.instance_id not in {"", entry.instance}:
            confirming = _AFTER_CREATE  # another instance: nothing of the run before
        if seen.state.kind not in confirming:
            if self._clock() < entry.shown_until:
                return False
            _log(entry.id, "after %s the platform still shows %s", shown.kind, seen.state.kind)
        entry.shown = None
        return True

    def _publish(self, entry: Entry) -> None:
        view = view_of(entry)
        if view != entry.view:  # no event at rest (COMP-WATCH-09)
            entry.view, entry.encoded, entry.brief = view, None, None
            for watcher in self._watchers:
                watcher.mark(entry.id)

    # Those who watch.

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    async def sighted(self, seconds: float, *, outage: bool = False) -> None:
        """Wait for the first sight of the backend, and with `outage` for the end of one, too.

        Raises `Unavailable` if it cannot be observed.
        """
        import anyio

        if outage or not self.blind_reason:
            with anyio.move_on_after(seconds):
                await self._sight()
        if not self.synced:
            reason = f": {self.blind_reason}" if self.blind_reason else " yet"
            raise Unavailable(f"the backend cannot be observed{reason}")

    async def _sight(self) -> None:
        import anyio

        while not self.synced:
            if self._sighted is None:
                self._sighted = anyio.Event()
            await self._sighted.wait()

    async def watch(self) -> AsyncGenerator[Change, None]:
        """Give every sandbox there is, then every change, for ever.

        Deletions that nobody was there to read come first. Raises `Aborted` when the reader falls
        behind with events.
        """
        import anyio

        watcher = Watcher(pending=dict.fromkeys(self._untold, True))
        for sandbox_id in self._entries:
            watcher.mark(sandbox_id)
        self._watchers.add(watcher)  # before anything is read: no change falls in between
        try:
            await self._sight()
            while True:
                while watcher.pending:
                    key = next(iter(watcher.pending))
                    deleted = watcher.pending.pop(key)
                    if not isinstance(key, str):
                        watcher.events -= 1
                        yield key.happening
                        continue
                    if deleted:
                        yield SandboxDeleted(sandbox_id=key)
                        self._untold.pop(key, None)
                    entry = self._entries.get(key)
                    if entry is not None:
                        yield entry
                if watcher.overrun:
                    raise Aborted("the watch fell behind with events; open it again")
                watcher.wake = anyio.Event()
                await watcher.wake.wait()
        finally:
            self._watchers.discard(watcher)


def _log(sandbox_id: str, text: str, *words: str) -> None:
    import logging

    log = logging.getLogger("openshell_drivers.compute")
    log.warning(text, *words, extra={"sandbox": sandbox_id})


def _observed(each: object) -> ObservedSandbox:
    if not isinstance(each, ObservedSandbox):
        raise WrongType(f"a driver observes ObservedSandbox, not {type(each).__name__}")
    return each


def _bound(ids: dict[str, Any]) -> None:
    if len(ids) >= _MOST_TOMBSTONES:
        del ids[next(iter(ids))]
