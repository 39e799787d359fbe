"""Conditions while something changes: removal, stop, start."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches._watchlog import WatchLog
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sight import (
    QUIET,
    is_true,
    runs,
    still,
    told,
    until_true,
)

_GRACE: Final = 0.25
_SPAN: Final = 0.06


@check("COMP-STAT-05", "a sandbox that is being removed says so", profile="lifecycle")
async def deleting_is_said(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    async with compute.watching() as log:
        reply = await compute.delete(sandbox.id)
        compute.need(reply.ok and reply.answer.deleted, str(reply), "COMP-DEL-01")
        began, silent = time.monotonic(), 0.0
        said = False
        limit = compute.profile.compute.timeouts.gone
        while (seen := await compute.observed(sandbox.id)) is not None:
            past = time.monotonic() - began
            if past > limit:
                break
            said = said or seen.status.deleting
            silent = silent if seen.status.deleting else past
            compute.hold(
                seen.status.deleting or past < _GRACE,
                "DriverSandboxStatus.deleting is true from the answer of DeleteSandbox on",
                f"{past:.2f} s later GetSandbox shows {compute.described(seen)}",
            )
            await asyncio.sleep(0.015)
        said = said or any(each.status.deleting for each in told(log, sandbox.id))
        compute.hold(
            said or silent < _SPAN,
            "DriverSandboxStatus.deleting is true between DeleteSandbox and the end",
            f"for {silent:.2f} s GetSandbox found the sandbox, and it was never true",
        )


async def _stopped(compute: ComputeBench) -> wire.DriverSandbox:
    """One for which StopSandbox answered OK, whatever it shows then."""
    await compute.can_stop()
    sandbox = await compute.made_going()
    reply = await compute.stop(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-STOP-01")
    return sandbox


@check("COMP-STAT-06.a", "stopped compute shows in words that gateways know", profile="lifecycle")
async def stop_is_shown(compute: ComputeBench) -> None:
    sandbox = await _stopped(compute)
    last = [""]

    async def look() -> object:
        seen = await still(compute, sandbox)
        last[0] = compute.described(seen)
        return True if compute.halted(seen) else None

    await compute.eventually(
        look,
        min(compute.profile.compute.timeouts.stopped, 10.0),
        "a stopped sandbox shows `Suspended` True, or a condition that is False with the reason "
        "ContainerStopped or ContainerExited",
        lambda: f"GetSandbox shows {last[0]}",
    )


@check(  # in 0.1.x Ready True beats Suspended True
    "COMP-STAT-06.b",
    "Suspended goes before Ready comes",
    profile="lifecycle",
    presets=("0.0.111",),
)
async def suspended_ends(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    async with compute.watching() as log:
        reply = await compute.start(sandbox.id)
        compute.need(reply.ok, str(reply), "COMP-START-01")
        seen = await still(compute, sandbox)
        deadline = time.monotonic() + compute.profile.compute.timeouts.ready
        while not runs(seen) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            seen = await still(compute, sandbox)
        compute.need(runs(seen), "the sandbox did not get ready again", "COMP-START-03")
        await until_true(lambda: any(map(runs, told(log, sandbox.id)[-1:])), 1.0)
        for each in (seen, *told(log, sandbox.id)):
            compute.hold(
                not (runs(each) and is_true(each, "Suspended")),
                "no observation with `Ready` True and `Suspended` True",
                compute.described(each),
            )


@check("COMP01-STAT-02", "a stopped sandbox shows no Ready True", profile="lifecycle")
async def no_stale_ready(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        sandbox = await _stopped(compute)
        shown = [await compute.halts(sandbox.id)]
        await asyncio.sleep(_GRACE)
        shown += [await still(compute, sandbox), *told(log, sandbox.id)]
        for each in shown:
            compute.hold(
                not (compute.halted(each) and is_true(each, "Ready")),
                "no condition `Ready`, in any spelling, is True in a stopped sandbox",
                compute.described(each),
            )


@check("COMP01-STAT-03", "a started sandbox is soon no more Suspended", profile="lifecycle")
async def start_is_shown(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    reply = await compute.start(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-START-01")
    last = [""]

    async def look() -> object:
        seen = await still(compute, sandbox)
        last[0] = compute.described(seen)
        return None if is_true(seen, "Suspended") else True

    await compute.eventually(
        look,
        QUIET,
        "after StartSandbox, `Suspended` is True no more",
        lambda: f"GetSandbox shows {last[0]}",
    )


@check("COMP-STAT-07", "after a start the old run's exit is not told", profile="lifecycle")
async def no_old_exit(compute: ComputeBench) -> None:
    await compute.can_stop()
    sandbox = await compute.made_going()
    async with compute.watching() as log:
        for _ in range(3):
            reply = await compute.stop(sandbox.id)
            compute.need(reply.ok, str(reply), "COMP-STOP-01")
            await compute.halts(sandbox.id)
            await asyncio.sleep(_GRACE)  # what the stop has to say may still come
            began = time.monotonic()
            again = await compute.start(sandbox.id)
            compute.need(again.ok, str(again), "COMP-START-01")
            await _no_exit(compute, sandbox, log, began)
        await asyncio.sleep(QUIET)
        _judge_exits(compute, sandbox, log, began)


async def _no_exit(
    compute: ComputeBench, sandbox: wire.DriverSandbox, log: WatchLog, began: float
) -> None:
    limit = compute.profile.compute.timeouts.ready
    while time.monotonic() - began < limit:
        seen = await still(compute, sandbox)
        _judge_exit(compute, seen)
        _judge_exits(compute, sandbox, log, began)
        if runs(seen) or compute.rested(sandbox.id) == compute.phase(seen):
            return
        await asyncio.sleep(0.01)


def _judge_exits(
    compute: ComputeBench, sandbox: wire.DriverSandbox, log: WatchLog, began: float
) -> None:
    for event in log.of(sandbox.id, "sandbox"):
        if event.at > began and event.sandbox is not None:
            _judge_exit(compute, event.sandbox)


def _judge_exit(compute: ComputeBench, seen: wire.DriverSandbox) -> None:
    compute.hold(
        compute.phase(seen) != "Error",
        "from StartSandbox on, no `Ready` False with a reason that means failure",
        f"after the start a sandbox that runs was shown as {compute.described(seen)}",
    )
