"""That a watch costs nothing any more when its client has gone."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

from grpc import aio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance._outcomes import NotObservable
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sight import churn, crowd

_OPENS: Final = 120
_CROWD: Final = 20
_LEFT: Final = 30
_OPENING: Final = 15.0  # how fast watches open is for COMP-WATCH-04 to say,
_SLOW: Final = 3.0  # but hundreds that take so long are more than there is time for
_REST: Final = 20.0
_PER_OPENING: Final = 8 * 1024


def _held(pid: int) -> tuple[int, int, int]:
    """Descriptors, threads, and resident bytes of a process."""
    folder = Path(f"/proc/{pid}")
    try:
        status = (folder / "status").read_text("utf-8", errors="replace")
        descriptors = len(list((folder / "fd").iterdir()))
    except OSError:
        raise NotObservable("the process cannot be looked into: there is no /proc") from None
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    memory = int(values.get("VmRSS", "0 kB").split()[0]) * 1024
    return descriptors, int(values.get("Threads", "0")), memory


@check(
    "COMP-WATCH-11",
    "what a watch held is freed when its client goes",
    profile="resilience",
    own=True,
    once=True,
    limit=180,
)
async def gone_clients(compute: ComputeBench) -> None:
    await crowd(compute, _CROWD)
    await _come_and_go(compute)
    held = [_held(compute.instance.pid)]
    for _ in range(3):
        await _come_and_go(compute)
        held.append(_held(compute.instance.pid))
    held[-1] = await _come_to_rest(compute, held[0])
    for number, what in ((0, "file descriptors"), (1, "threads")):
        more = held[-1][number] - held[0][number]
        if more >= _OPENS // 4:
            await _only_with_watches(compute, number)
        compute.hold(
            more < _OPENS // 4,
            f"no more {what} after {3 * _OPENS} watches that were opened and left",
            f"{more} more, {held[-1][number]} in all",
        )
    grown = [later[2] - earlier[2] for earlier, later in pairwise(held)]
    compute.hold(
        min(grown) < _OPENS * _PER_OPENING,
        f"memory comes to rest while watches over {_CROWD} sandboxes are opened and left",
        f"it grew with every {_OPENS} watches, by {[g // 1024 for g in grown]} KiB",
    )


async def _only_with_watches(compute: ComputeBench, number: int) -> None:
    """`Blocked` if it does not grow with watches alone, while no sandbox comes or goes."""
    before = _held(compute.instance.pid)
    await _come_and_go(compute, changes=0)
    after = _held(compute.instance.pid)
    grows = after[number] - before[number] >= _OPENS // 8
    compute.need(grows, "it grows with the sandboxes, not with the watches", "PROC-GROW-01")


async def _come_to_rest(compute: ComputeBench, first: tuple[int, int, int]) -> tuple[int, int, int]:
    """What is held in the end: the last deletes may still be at work at the platform."""
    deadline = time.monotonic() + _REST
    while True:
        held = _held(compute.instance.pid)
        less = all(held[n] - first[n] < _OPENS // 4 for n in (0, 1))
        if less or time.monotonic() > deadline:
            return held
        await asyncio.sleep(0.5)


async def _come_and_go(compute: ComputeBench, changes: int = _LEFT) -> None:
    """Open watches and leave them at once, on several connections."""
    slow = 0
    for _ in range(4):
        async with compute.another_caller() as caller:
            for _ in range(_OPENS // 4):
                request, began = wire.WatchSandboxesRequest(), time.monotonic()
                async with caller.stream("WatchSandboxes", request) as call:
                    try:
                        await asyncio.wait_for(call.initial_metadata(), _OPENING)
                    except (TimeoutError, aio.AioRpcError):
                        compute.need(False, "a watch does not open", "COMP-WATCH-04")
                slow += time.monotonic() - began > _SLOW
                compute.need(slow < 3, "watches open slowly", "COMP-WATCH-04")
    await churn(compute, changes)  # told to whoever is believed to be there
    await asyncio.sleep(0.3)
