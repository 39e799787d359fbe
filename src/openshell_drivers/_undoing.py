"""`Undoing`: what a create that failed has left is removed, tried again if need be."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any, Final

import anyio

from openshell_drivers._board import Board
from openshell_drivers._detached import Detached
from openshell_drivers._faults import describe
from openshell_drivers._locks import KeyedLocks
from openshell_drivers._sandboxes import SandboxRef
from openshell_drivers._scope import CreateScope
from openshell_drivers.backoff import Backoff
from openshell_drivers.compute import ComputeDriver

_log: Final = logging.getLogger("openshell_drivers.compute")
_LEFT: Final = "a failed create may have left something: %s"
_ROLLBACK_SECONDS: Final = 20.0
#: The same while the process ends, which has 10 s in all (PROC-EXIT-02), and of it for a request.
_LAST_SECONDS: Final = 2.5
_LAST_REQUEST: Final = 1.5
_CLEAN_UP: Final = Backoff(attempts=40, delay=1.0, factor=2.0, maximum=60.0, jitter=0.2)


class Undoing:
    """Of one driver's creates."""

    def __init__(
        self, driver: ComputeDriver[Any], board: Board, locks: KeyedLocks, detached: Detached
    ) -> None:
        self._driver = driver
        self._board = board
        self._locks = locks
        self._detached = detached
        self._limits: set[anyio.CancelScope] = set()
        self.requests: set[anyio.CancelScope] = set()
        """What creates do that is carried to its end."""
        self._end = math.inf

    def hurry(self) -> None:
        """The process ends: bound all that is under way, and what is begun from now on."""
        now = anyio.current_time()
        self._end = now + _LAST_SECONDS
        for each in self._limits:
            each.deadline = min(each.deadline, self._end)
        for each in self.requests:
            each.deadline = min(each.deadline, now + _LAST_REQUEST)

    async def roll_back(self, ref: SandboxRef, scope: CreateScope, *, ours: bool) -> None:
        """Undo a create. If the driver's delete fails, it is tried again (COMP-CREATE-02)."""
        clean = False
        deadline = min(anyio.current_time() + _ROLLBACK_SECONDS, self._end)
        with anyio.CancelScope(deadline=deadline) as limit:
            self._limits.add(limit)
            try:
                clean = await scope._roll_back(but_last=not ours)
                if ours:
                    clean = await self._remove_rest(ref)
            finally:
                self._limits.discard(limit)
        if not clean and ours:
            self._detached.start(self._clean_up, ref)

    async def _remove_rest(self, ref: SandboxRef) -> bool:
        try:
            await self._driver.delete_sandbox(ref)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # an author's delete
            _log.warning(_LEFT, describe(error), extra={"sandbox": ref.id})
            return False
        return True

    async def _clean_up(self, ref: SandboxRef) -> None:
        for delay in _CLEAN_UP:
            await anyio.sleep(delay)
            async with self._locks.hold(ref.id):
                with anyio.move_on_after(_ROLLBACK_SECONDS):
                    if self._board.entry(ref.id) is not None or await self._remove_rest(ref):
                        return
        _log.error("a failed create has left something", extra={"sandbox": ref.id})
