"""`Strays`: what creates have left that is no sandbox, and goes as soon as nobody is at it.

A create whose request got no answer has failed for its gateway, which deletes nothing then, and the
API server may carry the request out later, when the undoing has found nothing (COMP-CREATE-02). A
create with launch authentication marks its object as unfinished until all is there; its driver may
be killed before that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import anyio

from openshell_compute_k8s._holder import Holder
from openshell_compute_k8s._names import ATTEMPT, HOLDER, UNFINISHED
from openshell_compute_k8s._objects import Metadata
from openshell_drivers import Backoff, DriverError

_AGAIN: Final = Backoff(attempts=None, delay=0.5, factor=2.0, maximum=30.0, jitter=0.5)
_LOOK: Final = 10.0
_MOST: Final = 10_000
_log: Final = logging.getLogger("openshell_compute_k8s")


class Strays:
    """Knows what is no sandbox, and removes it. For one event loop, without locks."""

    def __init__(self, *, longest: float) -> None:
        """Give a create of another process, which may live, at most `longest` seconds."""
        self._longest = longest
        self._disowned: dict[str, None] = {}
        self._unfinished: dict[str, tuple[float, Metadata]] = {}
        self._found: dict[str, Metadata] = {}
        self._removed: set[str] = set()
        self._news = anyio.Event()

    def disown(self, attempt: str) -> None:
        """Take that nobody wants what this call of a create has made or will yet make."""
        self._disowned[attempt] = None
        if len(self._disowned) > _MOST:
            del self._disowned[next(iter(self._disowned))]
        for _, about in list(self._unfinished.values()):
            self.take(about)

    def is_left(self, about: Metadata) -> bool:
        """Whether nobody is at an object that is no sandbox."""
        if about.annotations.get(ATTEMPT) in self._disowned:
            return True
        if UNFINISHED not in about.labels:
            return False
        holder = Holder.read(about.annotations.get(HOLDER, ""))
        if holder is not None and holder.is_dead():
            return True
        since, _ = self._unfinished.get(about.uid, (time.monotonic(), about))
        return time.monotonic() - since > self._longest

    def take(self, about: Metadata) -> bool:
        """Take an object that is there; say whether it is no sandbox."""
        if UNFINISHED in about.labels:
            since, _ = self._unfinished.get(about.uid, (time.monotonic(), about))
            self._unfinished[about.uid] = since, about
        else:
            self._unfinished.pop(about.uid, None)
        if about.deletion_timestamp:
            self._found.pop(about.uid, None)
        elif about.uid not in self._removed and self.is_left(about):
            self._found[about.uid] = about
            self._news.set()
        return UNFINISHED in about.labels or about.annotations.get(ATTEMPT) in self._disowned

    def gone(self, uid: str) -> None:
        """Take that an object is not there any more."""
        self._unfinished.pop(uid, None)
        self._found.pop(uid, None)
        self._removed.discard(uid)

    def keep_only(self, uids: Iterable[str]) -> None:
        """Take that there is nothing else."""
        for uid in {*self._unfinished, *self._found, *self._removed}.difference(uids):
            self.gone(uid)

    async def removing(self, remove: Callable[[Metadata], Awaitable[None]]) -> None:
        """Remove what is left, for ever; pauses grow while that fails."""
        delays = iter(_AGAIN)
        while True:
            with anyio.move_on_after(_LOOK):
                await self._news.wait()
            self._news = anyio.Event()
            for _, about in list(self._unfinished.values()):
                self.take(about)
            if await self._remove_all(remove):
                delays = iter(_AGAIN)
            else:
                await anyio.sleep(next(delays))
                self._news.set()

    async def _remove_all(self, remove: Callable[[Metadata], Awaitable[None]]) -> bool:
        clean = True
        for uid, about in list(self._found.items()):
            _log.warning("removing what a create has left", extra={"object": about.name})
            try:
                await remove(about)
            except DriverError as error:
                clean = False
                _log.warning("it could not be removed", extra={"reason": error.message})
            else:
                self._found.pop(uid, None)
                self._removed.add(uid)
        return clean
