"""That sandboxes outlive the driver's process, whenever it is killed."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import Reply
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sight import (
    deletes,
    gets_running,
    runs,
    stays_gone,
    still,
    stops_sandboxes,
)

#: Parts of the time that a create takes.
_MOMENTS: Final = (0.0, 0.35, 0.7)


async def _is_there(
    compute: ComputeBench, sandbox: wire.DriverSandbox, what: str, name: str = ""
) -> None:
    """Fail unless List and Get have it, under the name that Get gave before, if that is known."""
    reply: list[str] = ["nothing"]

    async def look() -> wire.DriverSandbox | None:
        got = await compute.get(sandbox.id)
        listed = await compute.list_all()
        ids = {each.id for each in listed.answer.sandboxes}
        reply[0] = f"{got}; in the list: {sandbox.id in ids}"
        return got.answer.sandbox if got.ok and sandbox.id in ids else None

    seen = await compute.eventually(
        look,
        LAG,
        f"after a kill -9 and a new start, GetSandbox and ListSandboxes have {what}",
        lambda: reply[0],
    )
    compute.hold(
        not name or seen.name == name,
        f"after a new start the name is {name!r}, as before",
        f"{seen.name!r}",
    )


@check(
    "COMP-SOCK-11.a",
    "sandboxes survive a kill -9 of the driver",
    profile="resilience",
    own=True,
    once=True,
)
async def survives(compute: ComputeBench) -> None:
    running = await compute.made_going()
    stopped = await compute.made_stopped() if await stops_sandboxes(compute) else None
    fresh = await compute.made()  # killed in the moment of its answer
    name = (await still(compute, running)).name
    await compute.kill_and_restart()
    await _is_there(compute, running, "a sandbox that ran", name)
    await _is_there(compute, fresh, "a sandbox whose create had just been answered")
    await gets_running(compute, running.id, "after a new start, what ran is Ready")
    if stopped is not None:
        await _is_there(compute, stopped, "a stopped sandbox")
        seen = await still(compute, stopped)
        compute.hold(
            not runs(seen),
            "after a new start, a stopped sandbox is still stopped",
            compute.described(seen),
        )


@check(
    "COMP-SOCK-11.b",
    "after a kill -9, sandboxes of before can be deleted",
    profile="resilience",
    own=True,
    once=True,
)
async def deletable(compute: ComputeBench) -> None:
    await deletes(compute)
    sandbox = await compute.made_settled()
    await compute.kill_and_restart()
    compute.need((await compute.get(sandbox.id)).ok, "it is not there", "COMP-SOCK-11.a")
    reply = await compute.delete(sandbox.id)
    compute.code(reply, "OK", when="of a sandbox that was made before a kill -9")
    compute.hold(
        reply.answer.deleted,
        "DeleteSandboxResponse.deleted is true for a sandbox that was made before a kill -9",
        "it is false",
    )
    await stays_gone(compute, sandbox.id, "deleted after a kill -9")


@check(
    "COMP-SOCK-11.c",
    "a delete that was accepted is carried out over a kill -9",
    profile="resilience",
    own=True,
    once=True,
)
async def killed_in_delete(compute: ComputeBench) -> None:
    await deletes(compute)
    sandbox = await compute.made_settled()
    reply = await compute.delete(sandbox.id)
    compute.need(
        reply.ok and reply.answer.deleted, f"{reply}, deleted {reply.answer.deleted}", "COMP-DEL-01"
    )
    await compute.kill_and_restart()
    await stays_gone(compute, sandbox.id, "deleted right before a kill -9")


@check(
    "COMP-SOCK-11.d",
    "a kill -9 in a create leaves nothing that is half there",
    profile="resilience",
    own=True,
    once=True,
    limit=90,
)
async def killed_in_create(compute: ComputeBench) -> None:
    await deletes(compute)
    for moment in _MOMENTS:
        takes = await _create_takes(compute)
        sandbox = await compute.complete(compute.sandbox())
        creating = asyncio.create_task(compute.create(sandbox))
        await asyncio.sleep(moment * takes)
        await compute.kill_and_restart(creating)
        reply = await creating
        await _whole_or_nothing(compute, sandbox, reply)


async def _create_takes(compute: ComputeBench) -> float:
    """The time of one create, on a channel that is open by then."""
    await compute.capabilities()
    await compute.listed()
    began = time.monotonic()
    await compute.made()
    return time.monotonic() - began


async def _whole_or_nothing(
    compute: ComputeBench, sandbox: wire.DriverSandbox, reply: Reply[Any]
) -> None:
    if reply.ok:
        await _is_there(compute, sandbox, "a sandbox whose create was answered OK")
    got = await compute.observed(sandbox.id)
    deleted = await compute.delete(sandbox.id)
    if got is None and not deleted.ok:
        return  # COMP-DEL-02 judges what a delete of nothing answers
    compute.code(deleted, "OK", when="of a sandbox in whose create the driver was killed")
    await compute.gone(sandbox.id)
    again = await compute.create(sandbox)
    compute.code(again, "OK", when="of an id in whose first create the driver was killed")


@check(
    "COMP-SOCK-11.e",
    "a kill -9 in a stop leaves a sandbox that can be stopped and started",
    profile="resilience",
    own=True,
    once=True,
    presets=("0.0.111", "0.1.2", "0.1-latest"),
)
async def killed_in_stop(compute: ComputeBench) -> None:
    await compute.can_stop()
    sandbox = await compute.made_going()
    stopping = asyncio.create_task(compute.stop(sandbox.id))
    await asyncio.sleep(0.004)
    await compute.kill_and_restart(stopping)
    await stopping
    compute.need((await compute.get(sandbox.id)).ok, "it is not there", "COMP-SOCK-11.a")
    reply = await compute.stop(sandbox.id)
    compute.code(reply, "OK", when="after a kill -9 in the first stop")
    again = await compute.start(sandbox.id)
    compute.code(again, "OK", when="after a kill -9 in a stop, and another stop")
    await gets_running(compute, sandbox.id, "it runs again")
