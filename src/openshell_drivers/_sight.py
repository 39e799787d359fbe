"""`Sight`: what the backend shows of sandboxes, looked at as far as it has to be."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import anyio

from openshell_drivers._board import Board
from openshell_drivers._checks import returned
from openshell_drivers._entries import Entry
from openshell_drivers._sandboxes import ObservedSandbox, SandboxRef
from openshell_drivers.compute import ComputeDriver
from openshell_drivers.errors import FailedPrecondition, Internal, NotFound, Unavailable

_SIGHT: Final = 5.0
_SIGHT_AT_START: Final = 20.0
_LAGS: Final = (0.5, 1.0, 2.0, 0.0)


class Sight:
    """Of one driver's backend; what is seen goes to the board."""

    def __init__(self, driver: ComputeDriver[Any], board: Board) -> None:
        self._driver = driver
        self._board = board
        self._gets = type(driver).get_sandbox is not ComputeDriver.get_sandbox

    async def get(self, ref: SandboxRef) -> Entry:
        """Observe one, by the driver's own get if it has one."""
        if self._gets:
            await self._get_from_driver(ref)
        else:
            await self.list()
        entry = self._board.entry(ref.id)
        if entry is None:
            raise NotFound("there is no sandbox with this id")
        return entry

    async def _get_from_driver(self, ref: SandboxRef) -> None:
        began = self._board.mark()
        try:
            seen = await returned(ObservedSandbox, self._driver.get_sandbox, ref)
        except NotFound:
            entry = self._board.entry(ref.id)
            if entry is not None and entry.touched <= began:
                self._board.lose(entry)
            return
        if seen.id != ref.id:
            raise Internal("the driver observed another sandbox than the one asked for")
        self._board.update(seen, began=began)

    async def list(self) -> None:
        """Observe all; a polled backend is asked anew."""
        if self._board.poller is not None:
            await self._board.poller.fresh()
        await self._board.sighted(_SIGHT)

    def nudge(self) -> None:
        """Have a polled backend looked at soon."""
        if self._board.poller is not None:
            self._board.poller.nudge()

    async def existing(self, ref: SandboxRef, *, outage: bool = False) -> Entry:
        """Find the sandbox that an operation is about.

        A start waits for the end of an outage: any error at a gateway's own start condemns the
        sandbox (COMP-START-02).
        """
        await self.look_for(ref.id, outage=outage)
        entry = self._board.entry(ref.id)
        if entry is None:
            raise NotFound("there is no sandbox with this id")
        if entry.doomed:
            raise FailedPrecondition("the sandbox is being deleted")
        return entry

    async def look_for(self, sandbox_id: str, *, outage: bool = False) -> None:
        """See to it that the board has the sandbox, if the backend does: another instance of this
        driver may have created it a moment ago."""
        poller = self._board.poller
        if poller is not None and self._board.blind_reason and not outage:
            await poller.fresh()  # the outage may be over
        await self._board.sighted(_SIGHT_AT_START if outage else _SIGHT, outage=outage)
        if self._board.entry(sandbox_id) is None and poller is not None:
            await poller.fresh()

    async def is_listed(self, entry: Entry) -> bool:
        """Whether a polled backend shows a sandbox, and goes on showing it; a list may lag."""
        poller = self._board.poller
        if poller is None:
            return False
        for pause in _LAGS:
            await poller.fresh()
            if entry.unlisted or self._board.entry(entry.id) is not entry:
                return False
            await anyio.sleep(pause)
        return True

    async def poll_once(self) -> None:
        """Look at a polled backend now, if that can be had."""
        if self._board.poller is not None:
            with contextlib.suppress(Unavailable):  # the next poll of the interval will do
                await self._board.poller.fresh()
