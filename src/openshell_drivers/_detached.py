"""`Detached`: work that is carried to its end though its caller gives up waiting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio
import anyio.abc

from openshell_drivers._faults import describe, task_cancelled
from openshell_drivers.errors import Aborted, Internal, Unavailable

_log: Final = logging.getLogger("openshell_drivers.compute")
T = TypeVar("T")


class Detached:
    """Runs work in a task group of its owner's, each within a limit in seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.tasks: anyio.abc.TaskGroup | None = None

    def start(self, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Begin work that nobody waits for and that limits itself. Its failure is logged.

        When the owner has gone there is nobody to do it, and it is not done.
        """
        if self.tasks is not None:
            self._begin(_Outcome(), None, work, args)

    async def result(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Do the work and give what came of it. Cancelled, it goes on without the caller."""
        return await self._wait(_Outcome(), work, args)

    async def cancellable(
        self, scope: anyio.CancelScope, work: Callable[..., Awaitable[T]], *args: Any
    ) -> T:
        """The same, but the caller's end is the work's: `scope` is cancelled, and the work's own
        shields hold, as they would not against a cancellation of its task.

        Raises `Aborted` if somebody else has cancelled the scope.
        """
        outcome = _Outcome()

        async def within() -> T:
            with scope:
                return await work(*args)
            raise Aborted("it was ended by a later call")

        try:
            return await self._wait(outcome, within, ())
        finally:
            if not outcome.done.is_set():
                outcome.given_up = True
                scope.cancel()

    async def _wait(self, outcome: _Outcome, work: Callable[..., Awaitable[T]], args: Any) -> T:
        self._begin(outcome, self._limit, work, args)
        outcome.awaited = True
        try:
            await outcome.done.wait()
        finally:
            outcome.awaited = False
        if outcome.error is not None:
            raise outcome.error
        value: T = outcome.value
        return value

    def _begin(
        self, outcome: _Outcome, limit: float | None, work: Callable[..., Any], args: Any
    ) -> None:
        if self.tasks is None:
            raise Unavailable("the driver is shutting down")
        self.tasks.start_soon(_carry, outcome, limit, work, args)


class _Outcome:
    def __init__(self) -> None:
        self.done = anyio.Event()
        self.awaited = False
        self.given_up = False
        self.value: Any = None
        self.error: Exception | None = None


async def _carry(
    outcome: _Outcome, limit: float | None, work: Callable[..., Awaitable[Any]], args: Any
) -> None:
    try:
        with anyio.fail_after(limit):
            outcome.value = await work(*args)
    except asyncio.CancelledError:
        if task_cancelled():
            outcome.error = Unavailable("the driver is shutting down")
            raise
        outcome.error = Internal("what the driver waited for was cancelled")
    except Exception as error:  # noqa: BLE001  # an author's code may raise anything
        outcome.error = error
    finally:
        outcome.done.set()
    if outcome.error is not None and not outcome.awaited and not outcome.given_up:
        _log.warning("an operation failed: %s", describe(outcome.error))
