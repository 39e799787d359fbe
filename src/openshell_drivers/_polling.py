"""`Poller`: a backend that can only be listed, turned into observations."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from openshell_drivers._board import STRIKES, Board
from openshell_drivers._checks import returned
from openshell_drivers._faults import describe, task_cancelled
from openshell_drivers._sandboxes import ObservedSandbox
from openshell_drivers.errors import DriverError, Unavailable

if TYPE_CHECKING:
    import anyio
    import anyio.abc

_log: Final = logging.getLogger("openshell_drivers.compute")
_LONGEST_PAUSE: Final = 30.0
_JITTER: Final = 0.1
_ENDING: Final = "the driver is shutting down"
_FAILED: Final = "listing failed; the driver's log says where"


class _Round:
    """One list, and those who wait for it."""

    def __init__(self, done: anyio.Event) -> None:
        self.done = done
        self.counts = False
        self.error: Unavailable | None = None


class Poller:
    """Lists at an interval and on demand, one list at a time, in a task of its own."""

    def __init__(
        self,
        board: Board,
        list_sandboxes: Callable[[], Awaitable[Sequence[ObservedSandbox]]],
        *,
        interval: float,
        timeout: float,
    ) -> None:
        self._board = board
        self._list = list_sandboxes
        self._interval = interval
        self._timeout = timeout
        self._tasks: anyio.abc.TaskGroup | None = None
        self._next: _Round | None = None
        self._busy = False
        self._hurry: anyio.Event | None = None
        self._failures = 0

    async def run(self) -> None:
        """Poll for ever."""
        import anyio

        async with anyio.create_task_group() as self._tasks:
            self._board.poller = self
            try:
                while True:
                    self._hurry = anyio.Event()
                    try:
                        await self._ask(counts=True)
                    except Unavailable:
                        self._failures += 1
                    else:
                        self._failures = 0
                    with anyio.move_on_after(self._pause()):
                        await self._hurry.wait()
            finally:
                self._board.poller = None
                self._tasks.cancel_scope.cancel()

    def _pause(self) -> float:
        pause = min(self._interval * float(2 ** min(self._failures, 10)), _LONGEST_PAUSE)
        return max(pause, self._interval) * random.uniform(1 - _JITTER, 1 + _JITTER)

    def nudge(self) -> None:
        """Poll soon: something was done."""
        if self._hurry is not None:
            self._hurry.set()

    async def fresh(self) -> None:
        """Wait for a list that was asked for after this call. Raises `Unavailable`."""
        await self._ask(counts=False)

    async def _ask(self, *, counts: bool) -> None:
        import anyio

        if self._next is None:
            self._next = _Round(anyio.Event())
        this = self._next
        this.counts |= counts
        if not self._busy:
            self._begin()
        await this.done.wait()
        if this.error is not None:
            raise Unavailable(this.error.message)

    def _begin(self) -> None:
        this, self._next = self._next, None
        if this is None:
            return
        if self._tasks is None or self._board.poller is not self:
            this.error = Unavailable(_ENDING)
            this.done.set()
        else:
            self._busy = True
            self._tasks.start_soon(self._poll, this)

    async def _poll(self, this: _Round) -> None:
        """List once. Runs apart from those who wait, who may give up."""
        try:
            began = self._board.mark()
            self._board.replace(
                await self._listed(), began=began, strikes=STRIKES if this.counts else 0
            )
        except Unavailable as error:
            this.error = error
            if not self._board.blind_reason:
                _log.warning("the backend cannot be observed", extra={"reason": error.message})
            self._board.blind(error.message or "it does not answer")
        except BaseException:
            this.error = Unavailable(_ENDING)
            raise
        finally:
            self._busy = False
            this.done.set()
            self._begin()

    async def _listed(self) -> Sequence[ObservedSandbox]:
        """List, with every failure as `Unavailable`: none says that a sandbox is gone."""
        import asyncio

        import anyio

        try:
            with anyio.fail_after(self._timeout):
                listed: list[object] = list(await returned(Iterable, self._list))
        except TimeoutError:
            raise Unavailable("it did not list its sandboxes in time") from None
        except DriverError as error:
            raise Unavailable(error.message) from None
        except (Exception, asyncio.CancelledError) as error:  # an author's code
            if isinstance(error, asyncio.CancelledError) and task_cancelled():
                raise
            _log.error("listing failed: %s", describe(error))
            raise Unavailable(_FAILED) from None
        wrong = {type(each).__name__ for each in listed if not isinstance(each, ObservedSandbox)}
        if wrong:
            _log.error("list_sandboxes gave %s, not ObservedSandbox", ", ".join(sorted(wrong)))
            raise Unavailable(_FAILED)
        return [each for each in listed if isinstance(each, ObservedSandbox)]
