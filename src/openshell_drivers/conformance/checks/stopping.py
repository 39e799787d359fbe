"""StopSandbox."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance._outcomes import NotApplicable
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sight import is_listed, quiet, runs, still
from openshell_drivers.testing.gateway._phases import stop_in_progress

#: For so long an observation may be older than the answer.
_GRACE: Final = 0.25
_ROUNDS: Final = 2
_STOPS: Final = 6
_UNABLE: Final = ("UNIMPLEMENTED", "FAILED_PRECONDITION")


@check("COMP-STOP-01.a", "stopping what is stopped is OK")
async def twice(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    once = await still(compute, sandbox)
    reply = await compute.stop(sandbox.id)
    compute.code(reply, "OK", when="of a stopped sandbox")
    again = await still(compute, sandbox)
    compute.hold(
        compute.halted(again) or compute.phase(again) == compute.phase(once),
        "a sandbox that was stopped twice is stopped",
        compute.described(again),
    )


@check("COMP-STOP-01.b", "stopping what never was is NOT_FOUND")
async def unknown(compute: ComputeBench) -> None:
    await compute.can_stop()
    reply = await compute.stop(compute.fresh_id())
    compute.code(reply, "NOT_FOUND", when="of an id that never existed")


@check("COMP-STOP-02.a", "Stop returns when the compute has stopped", profile="lifecycle")
async def returns_when_stopped(compute: ComputeBench) -> None:
    await compute.can_stop()
    sandbox = await compute.made_going()
    reply = await compute.stop(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-STOP-01")
    began = time.monotonic()
    while True:
        seen = await still(compute, sandbox)
        if compute.halted(seen):
            return
        status = compute.status(seen)
        going = status is not None and stop_in_progress(status)
        running = runs(seen) and time.monotonic() - began > _GRACE
        compute.hold(
            not going and not running,
            "when StopSandbox answers OK, nothing of the sandbox runs any more",
            f"{time.monotonic() - began:.2f} s later GetSandbox shows {compute.described(seen)}",
        )
        if time.monotonic() - began > 1:  # it shows neither: other checks judge the words
            compute.need(False, compute.described(seen), "COMP-STAT-06.a")
        await asyncio.sleep(0.02)


@check("COMP-STOP-02.b", "a start right after a stop is not undone by it", profile="lifecycle")
async def at_once_started(compute: ComputeBench) -> None:
    await compute.can_stop()
    sandbox = await compute.made_going()
    for _ in range(4):
        reply = await compute.stop(sandbox.id)
        compute.need(reply.ok, str(reply), "COMP-STOP-01")
        again = await compute.start(sandbox.id)
        compute.need(again.ok, str(again), "COMP-START-01")
    last = [""]

    async def look() -> object:
        seen = await still(compute, sandbox)
        last[0] = compute.described(seen)
        return True if going(seen) else None

    def going(seen: wire.DriverSandbox) -> bool:
        return runs(seen) or compute.rested(sandbox.id) == compute.phase(seen)

    limit = compute.profile.compute.timeouts.ready
    expected = "a sandbox that was started right after its stop gets ready, and stays so"
    await compute.eventually(look, limit, expected, lambda: f"GetSandbox shows {last[0]}")
    await quiet()
    seen = await still(compute, sandbox)
    compute.hold(going(seen), expected, compute.described(seen))


@check("COMP-STOP-03", "a stopped sandbox is kept", profile="lifecycle")
async def kept(compute: ComputeBench) -> None:
    sandbox = await compute.made_going()
    await is_listed(compute, sandbox.id)
    await compute.can_stop()
    reply = await compute.stop(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-STOP-01")
    for _ in range(8):
        seen = await compute.observed(sandbox.id)
        if seen is None:
            compute.fail("GetSandbox finds a sandbox after its stop", "NOT_FOUND")
        compute.hold(
            seen.id == sandbox.id and seen.name == sandbox.name,
            "a stopped sandbox has its id and name",
            f"id {seen.id!r}, name {seen.name!r}",
        )
        await asyncio.sleep(0.1)


@check("COMP-STOP-04.a", "a stop is not told as a removal", profile="lifecycle")
async def not_deleted(compute: ComputeBench) -> None:
    await compute.can_stop()
    await _no_removal(compute, await compute.made_going())


@check("COMP-STOP-04.b", "stopping what is being made removes nothing", profile="lifecycle")
async def pending_not_deleted(compute: ComputeBench) -> None:
    await compute.can_stop()
    lengthy = compute.profile.compute.lengthy is not None
    await _no_removal(
        compute, await compute.made(compute.variant("lengthy") if lengthy else compute.sandbox())
    )


async def _no_removal(compute: ComputeBench, sandbox: wire.DriverSandbox) -> None:
    async with compute.watching() as log:
        reply = await compute.stop(sandbox.id)
        compute.need(reply.code in {"OK", *_UNABLE, "ABORTED", "UNAVAILABLE"}, str(reply))
        await quiet()
        compute.hold(
            not log.deleted(sandbox.id),
            "no `deleted` event for a sandbox that was only stopped",
            log.described(sandbox.id),
        )
        compute.hold(
            await compute.observed(sandbox.id) is not None,
            "GetSandbox finds a sandbox that was only stopped",
            "NOT_FOUND",
        )


@check("COMP-STOP-05", "Stop ends in bounded time", profile="lifecycle")
async def bounded(compute: ComputeBench) -> None:
    await compute.can_stop()
    sandbox = await compute.made_going()
    limit = compute.profile.compute.timeouts.stopped
    reply = await compute.stop(sandbox.id, patience=limit + 1)
    compute.within(reply.seconds, limit, "StopSandbox answers")
    if reply.code in _UNABLE:
        capabilities = await compute.capabilities()
        compute.hold(
            not capabilities.gateway_manages_lifecycle,
            "a driver with gateway_manages_lifecycle stops sandboxes",
            str(reply),
        )


@check("COMP-STOP-06", "stopping without any id is INVALID_ARGUMENT")
async def no_id(compute: ComputeBench) -> None:
    reply = await compute.stop("", "")
    if reply.code == "UNIMPLEMENTED":
        raise NotApplicable("the driver does not implement StopSandbox")
    compute.code(reply, "INVALID_ARGUMENT", when="with neither id nor name")


@check("COMP-STOP-01.c", "stops of one sandbox at the same time are all OK", profile="resilience")
async def at_the_same_time(compute: ComputeBench) -> None:
    await compute.can_stop()
    for _ in range(_ROUNDS):
        sandbox = await compute.made_going()
        replies = await asyncio.gather(*(compute.stop(sandbox.id) for _ in range(_STOPS)))
        compute.need(any(reply.ok for reply in replies), str(replies[0]), "COMP-STOP-02")
        there = await compute.observed(sandbox.id)
        compute.need(there is not None, "a stopped sandbox is not found", "COMP-STOP-03")
        for reply in replies:
            when = f"together with {_STOPS - 1} more for the same sandbox"
            compute.code(reply, "OK", when=when)
