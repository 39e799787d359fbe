"""`Patience`: trying again for a while what the platform's absence hinders."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.conformance.bare.errors import Unavailable

T = TypeVar("T")


class Patience:
    """Outlasts short outages."""

    seconds = 5.0
    pause = 0.05

    async def outlast(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it goes, or until the time is up; then `Unavailable` is raised."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        while True:
            try:
                return await attempt()
            except Unavailable:
                if loop.time() + self.pause > end:
                    raise
            await asyncio.sleep(self.pause)
