"""`Turns`: many may use what has a name at once, and one may remove it while nobody does."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Turns:
    """Who uses what, in this process. Whoever has to wait is let in when it is free."""

    def __init__(self) -> None:
        self._changed = anyio.Condition()
        self._users: Counter[str] = Counter()
        self._removing: set[str] = set()

    @asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[None]:
        """Hold what is not to be removed meanwhile, beside others that use it."""
        async with self._changed:
            while name in self._removing:
                await self._changed.wait()
            self._users[name] += 1
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                async with self._changed:
                    self._users[name] -= 1
                    if not self._users[name]:
                        del self._users[name]
                    self._changed.notify_all()

    @asynccontextmanager
    async def removing(self, name: str) -> AsyncIterator[None]:
        """Hold what nobody uses, alone."""
        async with self._changed:
            while name in self._removing or self._users[name]:
                await self._changed.wait()
            self._removing.add(name)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                async with self._changed:
                    self._removing.discard(name)
                    self._changed.notify_all()
