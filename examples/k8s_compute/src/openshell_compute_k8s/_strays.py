"""`Strays`: what failed creates have made all the same.

A create whose request got no answer has failed for its gateway, which deletes nothing then, and the
API server may carry the request out later, when the undoing has found nothing (COMP-CREATE-02).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from openshell_compute_k8s._names import ATTEMPT
from openshell_compute_k8s._objects import Metadata
from openshell_drivers import Backoff, DriverError

_AGAIN: Final = Backoff(attempts=None, delay=0.5, factor=2.0, maximum=30.0, jitter=0.5)
_MOST: Final = 10_000
_log: Final = logging.getLogger("openshell_compute_k8s")


class Strays:
    """Remembers this process's failed creates, and removes what turns up of them."""

    def __init__(self) -> None:
        self._attempts: dict[str, None] = {}
        self._found: dict[str, Metadata] = {}
        self._news = anyio.Event()

    def disown(self, attempt: str) -> None:
        """Take that nobody wants what this call of a create has made or will yet make."""
        self._attempts[attempt] = None
        if len(self._attempts) > _MOST:
            del self._attempts[next(iter(self._attempts))]

    def take(self, about: Metadata) -> bool:
        """Say whether an object is a stray, and have it removed if it is."""
        if about.annotations.get(ATTEMPT) not in self._attempts:
            return False
        if not about.deletion_timestamp:
            self._found[about.uid] = about
            self._news.set()
        return True

    async def removing(self, remove: Callable[[Metadata], Awaitable[None]]) -> None:
        """Remove what turns up, for ever; pauses grow while that fails."""
        delays = iter(_AGAIN)
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            for uid, about in list(self._found.items()):
                _log.warning("removing what a failed create has made", extra={"object": about.name})
                try:
                    await remove(about)
                except DriverError as error:
                    _log.warning("it could not be removed", extra={"reason": error.message})
                    self._news.set()
                else:
                    self._found.pop(uid, None)
            if not self._news.is_set():
                delays = iter(_AGAIN)
            else:
                await anyio.sleep(next(delays))
