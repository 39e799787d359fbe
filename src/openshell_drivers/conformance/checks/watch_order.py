"""The watch: that nothing is lost, nothing comes out of order, and nothing is a part only."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches._watchlog import WatchLog
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sight import (
    deleted,
    deletes,
    essence,
    let_go,
    quiet,
    runs,
    still,
    stops_sandboxes,
    tells,
    until_true,
)

_WATCHES: Final = 8
_ROUNDS: Final = 2
#: A platform that takes longer to make a sandbox is watched at a delete alone.
_QUICK: Final = 2.0


@check("COMP-WATCH-02.a", "no change is lost while a watch opens", profile="lifecycle", limit=120)
async def nothing_is_lost(compute: ComputeBench) -> None:
    await tells(compute)
    await deletes(compute)
    began = time.monotonic()
    await compute.made_ready()
    takes = time.monotonic() - began
    for _ in range(_ROUNDS if takes < _QUICK else 0):
        await _opened_while_it_gets_ready(compute, takes)
    await _opened_while_it_goes(compute)


async def _opened(compute: ComputeBench, stack: AsyncExitStack, apart: float) -> list[WatchLog]:
    """Open watches one after the other while something changes."""
    logs = []
    for _ in range(_WATCHES):
        logs.append(await stack.enter_async_context(compute.watching()))
        await asyncio.sleep(apart)
    return logs


async def _opened_while_it_gets_ready(compute: ComputeBench, takes: float) -> None:
    async with AsyncExitStack() as stack:
        creating = asyncio.create_task(compute.made())
        logs = await _opened(compute, stack, takes * 1.3 / _WATCHES)
        sandbox = await creating
        await compute.reaches(sandbox.id, "Ready")
        for log in logs:
            await compute.watch_until(
                log,
                sandbox.id,
                runs,
                LAG,
                "a watch that opened while a sandbox got ready tells of Ready True",
            )


async def _opened_while_it_goes(compute: ComputeBench) -> None:
    made = await asyncio.gather(*(compute.made_settled() for _ in range(4)))
    async with AsyncExitStack() as stack:
        began = time.monotonic()
        going = [asyncio.create_task(deleted(compute, each)) for each in made]
        logs = await _opened(compute, stack, 0.008)
        await asyncio.gather(*going)
        for log in logs:
            for each in made:
                await _forgotten(compute, log, each.id, began)


async def _forgotten(compute: ComputeBench, log: WatchLog, sandbox_id: str, began: float) -> None:
    """Fail if a watch has told of a sandbox, and not that it went."""

    async def look() -> object:
        known = log.of(sandbox_id, "sandbox")
        return True if not known or let_go(log, sandbox_id, began) else None

    await compute.eventually(
        look,
        LAG,
        "a watch that opened while a sandbox was removed, and told of it, tells of its end",
        lambda: log.described(sandbox_id),
    )


@check("COMP-WATCH-08.a", "the newest state comes last, and stays last", profile="lifecycle")
async def newest_last(compute: ComputeBench) -> None:
    await tells(compute)
    stops = await stops_sandboxes(compute) and await compute.implements("StartSandbox")
    async with compute.watching() as log:
        made = await asyncio.gather(*(compute.made_ready() for _ in range(3)))
        for each in made if stops else []:
            await _stopped_and_started(compute, each)
        for each in made:
            now = essence(await still(compute, each))
            await compute.watch_until(
                log,
                each.id,
                lambda seen, now=now: essence(seen) == now,  # type: ignore[misc]
                LAG,
                "the newest event of a running sandbox has the state that Get shows",
            )
        await quiet()
        for each in made:
            last = log.last(each.id)
            compute.hold(
                last is not None and runs(last),
                "after a sandbox has become ready again, no older state is told",
                log.described(each.id),
            )


async def _stopped_and_started(compute: ComputeBench, sandbox: wire.DriverSandbox) -> None:
    reply = await compute.stop(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-STOP-01")
    again = await compute.start(sandbox.id)
    compute.need(again.ok, str(again), "COMP-START-01")
    await compute.reaches(sandbox.id, "Ready")


@check("COMP-WATCH-08.b", "each event has the sandbox's name, as it was given")
async def whole_events(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        sandbox = await compute.made_settled()
        heard = await until_true(lambda: bool(log.of(sandbox.id, "sandbox")), LAG)
        compute.need(heard, log.described(sandbox.id), "COMP-WATCH-01.a")
        for event in log.of(sandbox.id, "sandbox"):
            name = event.sandbox.name if event.sandbox is not None else ""
            compute.hold(
                name == sandbox.name,
                f"each sandbox event has `name` {sandbox.name!r}",
                f"one has {name!r}",
            )


@check("COMP-WATCH-07.b", "a sandbox that was made again under its id is not called deleted")
async def not_deleted_again(compute: ComputeBench) -> None:
    await deletes(compute)
    sandbox = await compute.made_settled()
    async with compute.watching() as first:
        began = time.monotonic()
        await deleted(compute, sandbox)
        told = await until_true(lambda: let_go(first, sandbox.id, began), 10)
        compute.need(told, first.described(sandbox.id), "COMP-WATCH-05.a")
    again = await compute.create(sandbox)
    compute.need(again.ok, str(again), "COMP01-CREATE-03")
    await compute.settles(sandbox.id)
    async with compute.watching() as log:
        await until_true(lambda: bool(log.of(sandbox.id, "sandbox")), LAG)
        await quiet()
        compute.hold(
            not log.deleted(sandbox.id),
            "no `deleted` event, on a new watch, for a sandbox that lives under an id of before",
            log.described(sandbox.id),
        )
