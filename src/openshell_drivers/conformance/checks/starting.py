"""StartSandbox."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import Reply
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sight import (
    QUIET,
    gets_running,
    quiet,
    runs,
    still,
    told,
)

_AGAIN: Final = 5.0
_EXIT: Final = 10.0


async def _runs_again(compute: ComputeBench, sandbox: wire.DriverSandbox) -> wire.DriverSandbox:
    """What other checks judge: it runs after a start. `Blocked` if it does not."""
    return await compute.reaches(sandbox.id, "Ready")


@check("COMP-START-01.a", "starting what runs is OK and restarts nothing")
async def already_running(compute: ComputeBench) -> None:
    await compute.can_stop()
    sandbox = await compute.made_ready()
    before = await still(compute, sandbox)
    async with compute.watching() as log:
        reply = await compute.start(sandbox.id)
        compute.code(reply, "OK", when="of a running sandbox")
        await asyncio.sleep(QUIET / 2)
        now = await still(compute, sandbox)
        disturbed = [each for each in (now, *told(log, sandbox.id)) if not runs(each)]
        compute.hold(
            not disturbed,
            "a running sandbox goes on running through a StartSandbox",
            compute.described(disturbed[0]) if disturbed else "",
        )
        compute.hold(
            now.status.instance_id == before.status.instance_id,
            f"instance_id stays {before.status.instance_id!r}",
            f"it is now {now.status.instance_id!r}: the sandbox was restarted",
        )


@check("COMP-START-01.b", "starting what never was is NOT_FOUND")
async def unknown(compute: ComputeBench) -> None:
    await compute.can_stop()
    reply = await compute.start(compute.fresh_id())
    compute.code(reply, "NOT_FOUND", when="of an id that never existed")


@check("COMP-START-01.c", "starting what is being made is OK", needs=("lengthy",))
async def being_made(compute: ComputeBench) -> None:
    await compute.can_stop()
    sandbox = await compute.made(compute.variant("lengthy"))
    reply = await compute.start(sandbox.id)
    compute.code(reply, "OK", when="of a sandbox that is starting")


@check("COMP-START-03.a", "a start brings the same sandbox back", profile="lifecycle")
async def same_sandbox(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    async with compute.watching() as log:
        reply = await compute.start(sandbox.id)
        compute.code(reply, "OK", when="of a stopped sandbox")
        seen = await gets_running(
            compute, sandbox.id, "`Ready` is True again after the start of a stopped sandbox"
        )
        compute.hold(
            (seen.id, seen.name) == (sandbox.id, sandbox.name),
            f"after a start, id {sandbox.id!r} and name {sandbox.name!r}",
            f"id {seen.id!r}, name {seen.name!r}",
        )
        compute.hold(
            not log.deleted(sandbox.id),
            "a start makes no new sandbox in the old one's place",
            log.described(sandbox.id),
        )


@check("COMP01-START-01.a", "one generation is started once", profile="lifecycle")
async def one_generation(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    generation = compute.fresh_id()
    first = await compute.start(sandbox.id, generation=generation)
    compute.need(first.ok, str(first), "COMP-START-03")
    before = await _runs_again(compute, sandbox)
    async with compute.watching() as log:
        repeated = await asyncio.gather(
            *(compute.start(sandbox.id, generation=generation) for _ in range(3))
        )
        for reply in repeated:
            compute.code(reply, "OK", when="with a generation_id that was started before")
        await asyncio.sleep(QUIET / 2)
        now = await still(compute, sandbox)
        others = [each for each in told(log, sandbox.id) if not runs(each)]
        if now.status.instance_id != before.status.instance_id or not runs(now):
            others.append(now)
        compute.hold(
            not others,
            "a repeated generation_id starts nothing",
            f"the sandbox went from {compute.described(before)}, instance "
            f"{before.status.instance_id!r}, to {compute.described(others[0])}, instance "
            f"{others[0].status.instance_id!r}"
            if others
            else "",
        )


@check("COMP01-START-01.b", "a start without a generation is carried out", profile="lifecycle")
async def no_generation(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    reply = await compute.start(sandbox.id, generation="")
    compute.code(reply, "OK", when="with an empty generation_id")
    await gets_running(compute, sandbox.id, "a start with an empty generation_id makes it run")


@check("COMP01-START-01.c", "another generation starts what was stopped", profile="lifecycle")
async def next_generation(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    for number in ("first", "second"):
        reply = await compute.start(sandbox.id)
        compute.need(reply.ok, str(reply), "COMP-START-03")
        expected = f"the {number} start, with a generation_id of its own, makes the sandbox run"
        await gets_running(compute, sandbox.id, expected)
        stopped = await compute.stop(sandbox.id)
        compute.need(stopped.ok, str(stopped), "COMP-STOP-01")


async def _lost(compute: ComputeBench) -> tuple[wire.DriverSandbox, Reply[Any]]:
    """A sandbox whose compute was removed, and what a start of it gave."""
    sandbox = await compute.made_stopped()
    await compute.backend.remove(sandbox.id, sandbox.name, sandbox.workspace)
    deadline = time.monotonic() + _AGAIN
    reply = await compute.start(sandbox.id)
    while reply.code in {"UNAVAILABLE", "ABORTED"} and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        reply = await compute.start(sandbox.id)
    return sandbox, reply


@check(
    "COMP01-START-02.a",
    "starting what is gone from the platform is NOT_FOUND",
    profile="resilience",
    needs=("remove",),
)
async def lost_compute(compute: ComputeBench) -> None:
    _, reply = await _lost(compute)
    compute.code(reply, "NOT_FOUND", when="of a sandbox whose compute was removed by others")


@check(
    "COMP01-START-02.b",
    "what is gone from the platform can be made again under its id",
    profile="resilience",
    needs=("remove",),
)
async def made_again(compute: ComputeBench) -> None:
    sandbox, reply = await _lost(compute)
    compute.need(reply.code == "NOT_FOUND", str(reply), "COMP01-START-02.a")
    again = await compute.create(sandbox)
    compute.code(again, "OK", when="with the id of a sandbox whose StartSandbox was NOT_FOUND")
    await gets_running(compute, sandbox.id, "a sandbox that was made again gets ready")


async def _exited(compute: ComputeBench) -> wire.DriverSandbox:
    """A sandbox whose main process has ended, and that does not say it runs."""
    sandbox = await compute.made_ready()
    await compute.backend.exit_main(sandbox.id)

    async def look() -> object:
        return None if runs(await still(compute, sandbox)) else True

    await compute.eventually(
        look,
        _EXIT,
        "`Ready` is not True after the main process has ended",
        lambda: "it still is: the process was started again, or its end was not seen",
    )
    return sandbox


@check(
    "COMP01-START-03.a",
    "a main process that has ended is not started again",
    profile="resilience",
    needs=("exit_main",),
)
async def no_own_restart(compute: ComputeBench) -> None:
    sandbox = await _exited(compute)
    before = (await still(compute, sandbox)).status.instance_id
    await quiet()
    seen = await still(compute, sandbox)
    compute.hold(
        not runs(seen) and seen.status.instance_id == before,
        "the driver leaves an ended main process alone until StartSandbox",
        f"{QUIET:g} s later GetSandbox shows {compute.described(seen)}, "
        f"instance {seen.status.instance_id!r} (before: {before!r})",
    )


@check(
    "COMP01-START-03.b",
    "the gateway's own restart, a stop and a start, works",
    profile="resilience",
    needs=("exit_main",),
)
async def gateway_restarts(compute: ComputeBench) -> None:
    await compute.can_stop()
    sandbox = await _exited(compute)
    reply = await compute.stop(sandbox.id)
    compute.code(reply, "OK", when="of a sandbox whose main process has ended")
    again = await compute.start(sandbox.id)
    compute.code(again, "OK", when="after that stop")
    await gets_running(
        compute, sandbox.id, "a sandbox that has exited gets ready by Stop and Start"
    )
