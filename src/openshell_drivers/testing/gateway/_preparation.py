"""`Preparation`: the limit of the 0.1.x line on creates and starts, which ends only patience.

The call goes on; the user is told, the sandbox is closed to users, and a worker stops what may
come of it (COMP01-CREATE-01, COMP01-CREATE-02).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal

import anyio

from openshell_drivers.errors import DriverError
from openshell_drivers.testing.gateway._core import Core, Outcome
from openshell_drivers.testing.gateway._errors import UserError
from openshell_drivers.testing.gateway._table import Row

_RETRY: Final = 10.0
_REASON: Final = "ImagePreparationTimeout"
_MESSAGE: Final = "preparing the sandbox took too long; it is being reclaimed"


class TookTooLong(UserError):
    """The call has not answered within the limit, and goes on."""

    def __init__(self) -> None:
        super().__init__("DEADLINE_EXCEEDED", _MESSAGE)


class Preparation:
    """Runs a create or a start under the limit."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def limited(
        self, row: Row, work: Callable[[], Awaitable[str]], then: Literal["Error", "Stopped"]
    ) -> str:
        """Await the call, at most for the limit; `then` is the phase once it is undone."""
        core, limit = self._core, self._core.preset.preparation_limit
        if limit is None:
            return await work()
        outcome = core.begin(work)
        with anyio.move_on_after(core.clock.real(limit)):
            return await outcome.result()
        row.pending = True
        core.table.move(row, row.phase, "the preparation limit is over", _REASON, _MESSAGE)
        core.tasks.start_soon(self._reclaim, row, outcome, then)
        raise TookTooLong

    async def _reclaim(
        self, row: Row, outcome: Outcome[str], then: Literal["Error", "Stopped"]
    ) -> None:
        core = self._core
        while not await self._stopped_for_good(row, outcome):
            pass
        row.pending = False
        if then == "Error" and outcome.failed:
            core.table.remove(row, "the create that took too long has failed")
        else:
            core.table.move(row, then, "reclaimed with StopSandbox", _REASON, "preparation failed")

    async def _stopped_for_good(self, row: Row, outcome: Outcome[str]) -> bool:
        """Stop once; what the call may still bring about afterwards is waited for."""
        core, final = self._core, outcome.done.is_set()
        try:
            await core.driver.stop(row.ref)
        except DriverError as error:
            if error.code != "NOT_FOUND":
                core.table.journal.note(f"reclaiming {row.name} failed: {error.code}")
                await core.clock.sleep(_RETRY)
                return False
        if not final:
            await outcome.done.wait()
        return final
