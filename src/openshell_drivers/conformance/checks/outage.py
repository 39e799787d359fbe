"""What the driver says while its platform is out of reach: nothing that it cannot know."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import SILENT, Reply
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sight import (
    CROSSING,
    after,
    gets_running,
    is_listed,
    runs,
    still,
    until_true,
)
from openshell_drivers.testing.gateway import Phase

_BOUND: Final = 30.0
_GOOD: Final = 5.0
_HUNG: Final = 60.0
_OUTAGE: Final = 2.0


def _judge_bound(compute: ComputeBench, reply: Reply[Any]) -> None:
    compute.hold(
        reply.code != SILENT and reply.seconds < _BOUND + 1,
        f"{reply.rpc} answers within {_BOUND:g} s, with the platform out of reach",
        f"{reply.code} after {reply.seconds:.0f} s",
    )
    if reply.seconds > _GOOD:
        compute.note(f"{reply.rpc} took {reply.seconds:.1f} s; below {_GOOD:g} s would be better")


def _judge_get(compute: ComputeBench, reply: Reply[wire.GetSandboxResponse], what: str) -> None:
    _judge_bound(compute, reply)
    compute.hold(
        reply.code != "NOT_FOUND" and not (reply.ok and not reply.answer.HasField("sandbox")),
        f"GetSandbox of a sandbox that exists, {what}, is UNAVAILABLE or another error that is "
        "not NOT_FOUND",
        f"{reply} after {reply.seconds:.1f} s" + (" without a sandbox" if reply.ok else ""),
    )
    if reply.ok:
        compute.note(f"GetSandbox, {what}, was OK: the last known state, it seems")


@check(
    "COMP-GET-05.a",
    "in an outage, Get does not call a sandbox absent",
    profile="resilience",
    needs=("outage",),
    once=True,
)
async def get_in_outage(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    async with compute.backend.outage():
        for _ in range(3):
            reply = await compute.get(sandbox.id)
            _judge_get(compute, reply, "in an outage of the platform")


@check(
    "COMP-GET-05.b",
    "while the platform hangs, Get gives an error other than NOT_FOUND within 30 s",
    profile="resilience",
    needs=("slow",),
    once=True,
    limit=90,
)
async def get_is_bounded(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    async with compute.backend.slow(_HUNG):
        request = wire.GetSandboxRequest(sandbox_id=sandbox.id, name=sandbox.name)
        answer = wire.GetSandboxResponse
        reply = await compute.caller.ask("GetSandbox", request, answer, patience=_BOUND + 2)
        _judge_get(compute, reply, "with a platform that does not answer")


@check(
    "COMP-LIST-02",
    "in an outage, List is an error and not a shorter list",
    profile="resilience",
    needs=("outage",),
    once=True,
)
async def list_in_outage(compute: ComputeBench) -> None:
    made = [await compute.made_settled() for _ in range(2)]
    for each in made:
        await is_listed(compute, each.id)
    async with compute.backend.outage():
        for _ in range(3):
            reply = await compute.list_all()
            if not reply.ok:
                continue
            listed = {each.id for each in reply.answer.sandboxes}
            missing = [each for each in made if each.id not in listed]
            compute.hold(
                not missing,
                "ListSandboxes in an outage of the platform is UNAVAILABLE or another error",
                f"OK with {len(listed)} sandboxes; {len(missing)} of {len(made)} are missing",
            )
            compute.note("ListSandboxes in an outage was OK: the last known state, it seems")


@check(
    "COMP-WATCH-07.a",
    "an outage is not told as removal",
    profile="resilience",
    needs=("outage",),
    once=True,
)
async def nothing_deleted_in_outage(compute: ComputeBench) -> None:
    sandbox = await compute.made_going()
    async with compute.watching() as log:
        async with compute.backend.outage(), compute.watching() as later:
            await asyncio.sleep(_OUTAGE)
        await gets_running(compute, sandbox.id, "GetSandbox is OK again after the outage")
        for which, each in (("before", log), ("in", later)):
            compute.hold(
                not each.deleted(sandbox.id),
                f"no `deleted` event on a watch that was opened {which} an outage",
                each.described(sandbox.id),
            )


@check(
    "COMP-STAT-03",
    "an outage does not condemn a sandbox",
    profile="resilience",
    needs=("outage",),
    once=True,
)
async def not_condemned(compute: ComputeBench) -> None:
    sandbox = await compute.made_going()
    async with compute.watching() as log:
        await until_true(lambda: log.last(sandbox.id) is not None, CROSSING)
        seen, before = [], time.monotonic()  # what was told before is no matter of the outage
        async with compute.backend.outage():
            began = time.monotonic()
            while time.monotonic() - began < _OUTAGE:
                reply = await compute.get(sandbox.id)
                if reply.ok and reply.answer.HasField("sandbox"):
                    seen.append(reply.answer.sandbox)
                await asyncio.sleep(0.2)
        await asyncio.sleep(0.5)
        events = after(log.of(sandbox.id, "sandbox"), before)
        for each in [*seen, *(e.sandbox for e in events if e.sandbox is not None)]:
            compute.hold(
                compute.phase(each) != "Error",
                "while the platform is out of reach, a sandbox shows no `Ready` False with a "
                "reason that means failure: Error is final in most gateways",
                compute.described(each),
            )


@check(
    "COMP-START-02.a",
    "in an outage, Start does not call a sandbox absent",
    profile="resilience",
    needs=("outage",),
    once=True,
    presets=("0.0.111", "0.1.2", "0.1-latest"),
    limit=120,
)
async def start_in_outage(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    reply = await _started_in_outage(compute, sandbox)
    compute.hold(
        reply.code != "NOT_FOUND",
        "StartSandbox of a sandbox that exists, in an outage, waits or is UNAVAILABLE",
        str(reply),
    )
    if not reply.ok:
        compute.note(
            f"StartSandbox gave up with {reply.code} after {reply.seconds:.1f} s: at a gateway's "
            "start-up every error makes the sandbox Error for good"
        )


async def _started_in_outage(
    compute: ComputeBench, sandbox: wire.DriverSandbox
) -> Reply[wire.StartSandboxResponse]:
    """Start while the platform is out of reach; the outage ends after a while."""
    async with compute.backend.outage():
        starting = asyncio.ensure_future(compute.start(sandbox.id))
        await asyncio.wait({starting}, timeout=_GOOD + 1)
    return await starting


@check(
    "COMP-START-02.b",
    "a slow platform does not make a start fail",
    profile="resilience",
    needs=("slow",),
    once=True,
    presets=("0.0.111", "0.1.2", "0.1-latest"),
)
async def slow_start(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    async with compute.backend.slow(_OUTAGE):
        reply = await compute.start(sandbox.id)
    compute.code(reply, "OK", when=f"with a platform that takes {_OUTAGE:g} s for each answer")


@check(
    "COMP-START-04",
    "a start that failed can be made again",
    profile="resilience",
    needs=("outage",),
    once=True,
    presets=("0.0.111", "0.1.2", "0.1-latest"),
    limit=120,
)
async def failed_start(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    before = compute.phase(await still(compute, sandbox))
    reply = await _started_in_outage(compute, sandbox)
    if not reply.ok:
        await _still_startable(compute, sandbox, reply, before)
    await gets_running(compute, sandbox.id, "the sandbox runs after an outage and a start")


async def _still_startable(
    compute: ComputeBench, sandbox: wire.DriverSandbox, failed: Reply[Any], before: Phase
) -> None:
    seen = await still(compute, sandbox)
    passing = {before, "Provisioning", "Starting"}
    compute.hold(
        compute.halted(seen) or runs(seen) or compute.phase(seen) in passing,
        f"a sandbox whose start was answered {failed.code} is stopped",
        compute.described(seen),
    )
    again = await compute.start(sandbox.id)
    compute.code(again, "OK", when=f"after the platform came back from what gave {failed.code}")
