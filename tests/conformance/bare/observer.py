"""`Observer`: what the driver has seen of its sandboxes, and the only one who tells the watches.

It never takes "cannot see" for "gone": in an outage the last view stands, and nothing is told
(COMP-WATCH-07).
"""

from __future__ import annotations

import asyncio
import time

from tests.conformance.bare.errors import Unavailable
from tests.conformance.bare.hub import Hub
from tests.conformance.bare.platform import Platform
from tests.conformance.bare.resources import FAILED, STARTING, Change, Resource
from tests.conformance.bare.snapshots import Snapshots


class Observer:
    """The driver's view of the platform."""

    retry_seconds = 0.05
    open_patience = 2.0
    """Seconds that a new watch waits for a fresh view before it is given the last one."""
    memory_seconds = 10.0
    """For so long a removal is told to new watches too: whoever reconnects may have missed it."""

    def __init__(self, platform: Platform, hub: Hub, snapshots: Snapshots) -> None:
        self.platform = platform
        self.hub = hub
        self.snapshots = snapshots
        self.view: dict[str, Resource] = {}
        self._gone: dict[str, float] = {}
        self._rev = 0
        self._seen = asyncio.Event()

    def mine(self, resource: Resource) -> bool:
        """Whether it was made through this contract (COMP-LIST-03)."""
        return bool(resource.managed)

    def apply(self) -> None:
        """Take over what has changed, and tell the watches. The platform must be in reach."""
        first = not self._seen.is_set()
        for change in self.platform.resources.changes(self._rev):
            self._rev = change.rev
            self.take(change, first=first)
        self._seen.set()

    def take(self, change: Change, *, first: bool) -> None:
        """Take over one change."""
        resource = change.resource
        if resource is None:
            self._gone[change.id] = change.at
            if self.view.pop(change.id, None) is not None:
                self.hub.deleted(change.id)
        elif self.mine(resource):
            self._gone.pop(change.id, None)
            before = self.view.get(change.id)
            self.view[change.id] = resource
            if before is not None and before.uid != resource.uid:
                self.hub.deleted(change.id)  # gone and made again between two looks
                before = None
            if not first:
                self.tell_progress(before, resource)
            self.hub.sandbox(change.id)

    def tell_progress(self, before: Resource | None, now: Resource) -> None:
        """Say by a platform event what the conditions do not."""
        if before is None and now.state == STARTING:
            self.hub.event(now.id, self.snapshots.pulling(now))
        elif now.state == FAILED and (before is None or before.state != FAILED):
            self.hub.event(now.id, self.snapshots.pull_failed(now))

    async def known(self) -> list[str]:
        """The ids for a new watch: a fresh view, else the last one, else wait for the first."""
        try:
            async with asyncio.timeout(self.open_patience):
                await self.platform.reach()
            self.apply()
        except (Unavailable, TimeoutError):
            await self._seen.wait()
        return sorted(self.view)

    def lately_gone(self) -> list[str]:
        """The ids that were removed a short while ago and have not come back."""
        since = time.time() - self.memory_seconds
        self._gone = {each: at for each, at in self._gone.items() if at >= since}
        return list(self._gone)

    async def run(self) -> None:
        """Follow the platform for as long as the driver lives."""
        while True:
            bell = self.platform.bell  # before the look, or a change in between would be missed
            await self._catch_up()
            await bell.wait()

    async def _catch_up(self) -> None:
        while True:
            try:
                await self.platform.reach()
            except Unavailable:
                await asyncio.sleep(self.retry_seconds)
            else:
                self.apply()
                return
