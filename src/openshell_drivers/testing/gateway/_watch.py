"""`Watch`: the stream that is held open for life, and what its events do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, Self

from openshell_drivers.compute import (
    Sandbox,
    SandboxDeleted,
    SandboxHappening,
    SandboxSeen,
    WatchEvent,
)
from openshell_drivers.errors import DriverError
from openshell_drivers.testing.gateway._core import Core
from openshell_drivers.testing.gateway._snapshots import Snapshots

_MOMENT: Final = 0.01


class _Later:
    """Calls once: when told to, or after so many seconds if it is not left before."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call
        self._timer = asyncio.get_running_loop().call_later(seconds, self.now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def now(self) -> None:
        """Call, if it has not been."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Watch:
    """Applies events strictly in order; after any end waits and opens the stream again."""

    def __init__(self, core: Core, snapshots: Snapshots) -> None:
        self._core = core
        self._snapshots = snapshots
        self.opened = 0
        """How many times the driver has kept it open."""

    async def forever(self) -> None:
        """Watch for the gateway's life."""
        journal = self._core.table.journal
        while True:
            try:
                await self._once()
                journal.note("the watch was ended by the driver")
            except DriverError as error:
                journal.note(f"the watch failed: {error.code}: {error.message}")
            await self._core.clock.sleep(self._core.preset.reopen_after)

    async def _once(self) -> None:
        async with self._core.driver.watch() as read:
            # Headers come with a refusal too; what is open is not over a moment later.
            with _Later(_MOMENT, self._is_open) as open_:
                while (events := await read()) is not None:
                    open_.now()
                    for event in events:
                        async with self._turn():
                            await self._apply(event)

    def _is_open(self) -> None:
        self.opened += 1
        self._core.table.journal.note("the watch is open")

    def _turn(self) -> AbstractAsyncContextManager[object]:
        return self._core.order if self._core.preset.locks_in_get else nullcontext()

    async def _apply(self, event: WatchEvent) -> None:
        table = self._core.table
        match event:
            case SandboxSeen():
                await self._seen(event.sandbox)
            case SandboxDeleted():
                row = table.get(event.sandbox_id)
                if row is not None:
                    table.remove(row, "watch: deleted")
            case SandboxHappening():
                row = table.get(event.sandbox_id)
                if row is not None:
                    table.happened(row, event.event)

    async def _seen(self, sandbox: Sandbox) -> None:
        core = self._core
        if core.preset.adopts_unknown:
            self._snapshots.upsert(sandbox, "watch")
            return
        row = core.table.get(sandbox.id)
        if row is None or row.phase == "Deleting":
            return
        why = "watch"
        try:
            if row.phase == "Starting" and core.preset.confirms_starting:
                confirmed = await core.driver.get(row.ref)
                if confirmed is None or not core.table.holds(row):
                    return
                sandbox, why = confirmed, "watch, confirmed by GetSandbox"
            self._snapshots.apply(row, sandbox, why)
        except DriverError as error:
            core.table.journal.note(f"a snapshot is ignored: {error.code}: {error.message}")
