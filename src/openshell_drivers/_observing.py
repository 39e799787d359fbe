"""Keep a driver's observer going, whatever happens to it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any, Final

import anyio

from openshell_drivers._board import Board
from openshell_drivers._faults import describe, task_cancelled
from openshell_drivers.compute import ComputeDriver
from openshell_drivers.errors import DriverError
from openshell_drivers.feed import SandboxFeed

_log: Final = logging.getLogger("openshell_drivers.compute")
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_LAPSE_SECONDS: Final = 5.0


async def observing(driver: ComputeDriver[Any], board: Board) -> None:
    """Call `ComputeDriver.observe` for ever. When it ends, the board is blind until it sees again.

    The pause between two calls grows while they end at once.
    """
    pause = _FIRST_PAUSE
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_lapsing, board)
        while True:
            began = time.monotonic()
            reason = await _observe(driver, board)
            board.blind(reason)
            if time.monotonic() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            await anyio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(2 * pause, _LONGEST_PAUSE)


async def _observe(driver: ComputeDriver[Any], board: Board) -> str:
    """Observe until it ends, and say why it did."""
    try:
        await driver.observe(SandboxFeed(board))
    except DriverError as error:
        _log.warning("observing ended", extra={"reason": error.message})
        return error.message
    except (Exception, asyncio.CancelledError) as error:  # an author's code
        if isinstance(error, asyncio.CancelledError) and task_cancelled():
            raise
        _log.error("observing failed: %s", describe(error))
        return "observing failed; the driver's log says where"
    _log.warning("observing ended by itself")
    return "observing has ended"


async def _lapsing(board: Board) -> None:
    """Let what is told in place of an observation come to its end."""
    while True:
        await anyio.sleep(_LAPSE_SECONDS)
        board.lapse()
