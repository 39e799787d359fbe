"""Steps that checks of several topics take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final

import anyio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import Reply
from openshell_drivers.conformance._outcomes import Blocked
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench

_PAUSE: Final = 0.05
#: Seconds in which an effect that must not be would show.
EFFECT: Final = 0.6


async def all_of(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do them at once, and fail as the first one does that fails."""
    for ended in await asyncio.gather(*steps, return_exceptions=True):
        if ended is not None:
            raise ended


def quick(
    compute: ComputeBench, replies: Sequence[Reply[Any]], limit: float, when: str = ""
) -> None:
    """Fail unless one of some equal calls was quick: others may have waited for the machine."""
    fastest = min(reply.seconds for reply in replies)
    compute.hold(
        fastest <= limit,
        f"{replies[0].rpc} answers within {limit:g} s" + (f" {when}" if when else ""),
        f"the fastest of {len(replies)} answers took {fastest:.2f} s",
    )


async def seen(
    compute: ComputeBench, sandbox_id: str, clause: str = "COMP-CREATE-01"
) -> wire.DriverSandbox:
    """What Get shows. `Blocked` if it finds nothing."""
    found = await compute.observed(sandbox_id)
    if found is None:
        raise Blocked("GetSandbox does not find what was created", clause)
    return found


async def got(compute: ComputeBench, sandbox_id: str) -> wire.DriverSandbox | None:
    """What Get shows, at once or soon; None if it still does not."""
    deadline = time.monotonic() + LAG
    while True:
        found = await compute.observed(sandbox_id)
        if found is not None or time.monotonic() > deadline:
            return found
        await anyio.sleep(_PAUSE)


async def in_list(compute: ComputeBench, sandbox_id: str) -> wire.DriverSandbox | None:
    """What List shows, which may lag; None if it still does not."""
    deadline = time.monotonic() + LAG
    while True:
        found = (await compute.listed()).get(sandbox_id)
        if found is not None or time.monotonic() > deadline:
            return found
        await anyio.sleep(_PAUSE)


async def nothing_comes(compute: ComputeBench, sandbox_id: str, after: str) -> None:
    """Fail if a sandbox exists, or comes to exist within a moment."""
    async with compute.watching() as log:
        await anyio.sleep(EFFECT)
        told = log.of(sandbox_id, "sandbox")
        gone = log.deleted(sandbox_id)
    compute.hold(
        not told or gone,
        f"after {after} no watch sends anything of that id but `deleted`",
        log.described(sandbox_id),
    )
    found = await compute.observed(sandbox_id)
    compute.hold(
        found is None or found.status.deleting,
        f"after {after} GetSandbox of that id is NOT_FOUND",
        "GetSandbox: OK",
    )
    if found is None:
        absent = sandbox_id not in await compute.listed()
        compute.hold(
            absent, f"after {after} ListSandboxes lacks that id", "ListSandboxes has that id"
        )


async def twins(compute: ComputeBench) -> tuple[wire.DriverSandbox, wire.DriverSandbox]:
    """Two sandboxes of one name that run in two workspaces. `Blocked` without the second one."""
    first = await compute.made(compute.sandbox(workspace=0))
    second = compute.sandbox(name=first.name, workspace=1)
    reply = await compute.create(second)
    compute.need(reply.ok, str(reply), "COMP-IN-02")
    await compute.settles(first.id)
    await compute.settles(second.id)
    return first, second


async def still_runs(compute: ComputeBench, sandbox: wire.DriverSandbox, after: str) -> None:
    """Fail unless a sandbox that ran runs on."""
    found = await compute.observed(sandbox.id)
    compute.hold(
        found is not None and compute.phase(found) == compute.at_rest(sandbox.id),
        f"after {after} GetSandbox shows the sandbox of that other id still"
        f" {compute.at_rest(sandbox.id)}",
        "GetSandbox: NOT_FOUND" if found is None else compute.described(found),
    )
