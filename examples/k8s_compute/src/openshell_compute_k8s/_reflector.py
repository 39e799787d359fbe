"""`Reflector`: a list and a watch that go on for ever, whatever the API server goes through.

The list is complete or it failed. The watch is resumed where it broke; only when the server has
forgotten that place (410) everything is listed anew, and what is missing then is gone. Bookmarks
keep the place fresh while nothing happens, and show that the connection lives.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from typing import Final, Generic, Protocol, TypeVar

import anyio
import msgspec

from openshell_compute_k8s._api import Api, Interrupted, Query
from openshell_compute_k8s._failures import ApiRefusal, answer
from openshell_compute_k8s._objects import Object, ObjectT, Page, Status, WatchEvent
from openshell_drivers import Backoff, DriverError, NotFound, PermissionDenied, Unavailable

SeenT_contra = TypeVar("SeenT_contra", contravariant=True)

_AGAIN: Final = Backoff(attempts=None, delay=0.25, factor=2.0, maximum=5.0, jitter=0.5)
_SILENCE: Final = 90.0  # a bookmark comes every minute
_LIFE: Final = (240, 420)
_STEADY: Final = 5.0
_GONE: Final = 410
_REFUSED: Final = 60.0
_FORGOTTEN: Final = Unavailable("the API server has forgotten where the watch was")


class Sink(Protocol[SeenT_contra]):
    """Who takes what is seen. All of it is called from the event loop, in the server's order."""

    def listing(self) -> None:
        """Take that a list has begun: what it will lack may have been made since."""

    def replaced(self, objects: Sequence[SeenT_contra]) -> None:
        """Take the complete list."""

    def changed(self, item: SeenT_contra) -> None:
        """Take the newest state of one object."""

    def deleted(self, item: SeenT_contra) -> None:
        """Take that one is gone."""

    def lost(self, problem: DriverError) -> None:
        """Take that nothing is seen until the next list."""

    def resumed(self) -> None:
        """Take that the watch stands: after a list, or where it broke a moment ago."""


class Reflector(Generic[ObjectT]):
    """Follows all objects at one path that a selector chooses."""

    def __init__(
        self,
        api: Api,
        path: str,
        kind: type[ObjectT],
        selector: Query,
        sink: Sink[ObjectT],
        *,
        from_now: bool = False,
        optional: bool = False,
    ) -> None:
        """Ask for nothing yet. `from_now`: what is there already is not listed. `optional`: if it
        is forbidden or missing, go on asking, once a minute."""
        self._api = api
        self._path = path
        self._kind = kind
        self._decoder = msgspec.json.Decoder(kind)
        self._selector = dict(selector)
        self._sink = sink
        self._from_now = from_now
        self._optional = optional
        self._version = ""
        self._delays: Iterator[float] = iter(_AGAIN)
        self._opened = math.inf
        self._watching: anyio.CancelScope | None = None
        self._ordered = False

    def relist(self) -> None:
        """List anew at once: what the watch has brought is not to be relied upon."""
        self._ordered = True
        if self._watching is not None:
            self._watching.cancel()

    def _take_order(self) -> bool:
        ordered, self._ordered = self._ordered, False
        if ordered:
            self._version = ""
        return ordered

    async def run(self) -> None:
        """Follow until the server does not know the path any more; pauses grow, with jitter, while
        it fails."""
        while True:
            before, self._opened = self._version, math.inf
            problem = await self._follow()
            if isinstance(problem, NotFound) and not self._optional:
                return
            steady = time.monotonic() - self._opened > _STEADY
            if steady:
                self._delays = iter(_AGAIN)
            # A server ends the watch of a reader that is slower than it, and breaks are short: the
            # next try tells whether this is an outage. Twice in a row without any news it is.
            came_on = steady or (bool(self._version) and self._version != before)
            if self._take_order():
                continue
            if came_on and (problem is None or isinstance(problem, Interrupted)):
                continue
            if problem is not _FORGOTTEN:
                self._sink.lost(problem or Unavailable("the API server ends watches at once"))
                self._version = ""  # what happens meanwhile is in the next list
            refused = isinstance(problem, PermissionDenied | NotFound)
            await anyio.sleep(_REFUSED if self._optional and refused else next(self._delays))

    async def _follow(self) -> DriverError | None:
        """Watch from where it broke, or list first; say why it ended."""
        try:
            if not self._version:
                await self._list()
            await self._watch()
        except ApiRefusal as refusal:
            if (
                refusal.code == _GONE and self._version
            ):  # listed anew; what is known is good unless that fails
                self._version = ""
                return _FORGOTTEN
            return answer(refusal, "watch")
        except DriverError as error:
            return error
        return None

    async def _list(self) -> None:
        if self._from_now:
            query = {**self._selector, "limit": "1"}
            page = await self._api.get(self._path, Page[self._kind], query)  # type: ignore[name-defined]
            self._version = page.metadata.resource_version
            return
        self._sink.listing()
        found, version = [], ""
        async for page in self._api.pages(self._path, self._kind, self._selector):
            found += page.items
            version = page.metadata.resource_version
        self._sink.replaced(found)
        self._version = version

    async def _watch(self) -> None:
        query = {
            **self._selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(*_LIFE)),
        }
        with anyio.CancelScope() as self._watching:
            async with self._api.lines(self._path, query, silence=_SILENCE) as lines:
                self._opened = time.monotonic()
                self._sink.resumed()
                async for line in lines:
                    self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line, type=WatchEvent)
            if event.type == "ERROR":
                status = msgspec.json.decode(event.object, type=Status)
                raise ApiRefusal(status.code, status)
            if event.type == "BOOKMARK":
                self._version = msgspec.json.decode(
                    event.object, type=Object
                ).metadata.resource_version
                return
            item = self._decoder.decode(event.object)
        except (msgspec.DecodeError, msgspec.ValidationError):
            problem = Unavailable("the API server's watch cannot be read")
        else:
            if event.type == "DELETED":
                self._sink.deleted(item)
            else:
                self._sink.changed(item)
            self._version = item.metadata.resource_version
            return
        self._version = ""
        raise problem
