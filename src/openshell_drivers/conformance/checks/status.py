"""Conditions: what a gateway makes of them, from the create to the end."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance._outcomes import Broken
from openshell_drivers.conformance.benches._base import unhurried
from openshell_drivers.conformance.benches._watchlog import WatchLog
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sight import (
    QUIET,
    gets_running,
    is_true,
    runs,
    still,
    told,
    until_true,
)

_STATUSES: Final = frozenset({"true", "false", "unknown"})
#: Reasons of drivers that leave it to the supervisor, as Docker's does under the fork.
_SUPERVISOR: Final = frozenset({"supervisornotconnected", "dependenciesnotready"})


async def _life(compute: ComputeBench, log: WatchLog) -> list[wire.DriverSandbox]:
    """All that is seen of one sandbox from its create on, whether it gets ready or not."""
    sandbox = await compute.made()
    seen: list[wire.DriverSandbox] = []
    limit = min(compute.profile.compute.timeouts.ready, 10.0)
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        asked = time.monotonic()
        seen.append(await still(compute, sandbox))
        if runs(seen[-1]):
            break
        await asyncio.sleep(unhurried(0.02, asked))
    await until_true(lambda: any(map(runs, told(log, sandbox.id))), 0.3)
    listed = (await compute.listed()).get(sandbox.id)
    return [*seen, *told(log, sandbox.id), *([listed] if listed is not None else [])]


@check("COMP-STAT-01.a", "there is one condition Ready, spelt so")
async def one_ready(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        for sandbox in await _life(compute, log):
            named = [c.type for c in sandbox.status.conditions if c.type.lower() == "ready"]
            compute.hold(
                len(named) < 2 and all(each == "Ready" for each in named),
                "at most one condition of the type `Ready`, with a capital R only",
                f"conditions of the types {named}",
            )


@check("COMP-STAT-01.b", "Ready is True, False or Unknown, and has a reason")
async def ready_is_whole(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        for sandbox in await _life(compute, log):
            for each in sandbox.status.conditions:
                if each.type != "Ready":
                    continue
                compute.hold(
                    each.status.lower() in _STATUSES,
                    "DriverCondition.status of `Ready` is True, False or Unknown",
                    f"{each.status!r}",
                )
                compute.hold(
                    each.reason,
                    "DriverCondition.reason of `Ready` is not empty",
                    f"it is empty where `Ready` is {each.status}"
                    + (", which gateways take for a failure" if _false(each) else ""),
                )


def _false(condition: wire.DriverCondition) -> bool:
    return condition.status.lower() == "false"


@check("COMP-STAT-02.a", "a sandbox that is being set up does not look like a failure")
async def never_error_on_the_way(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        life = await _life(compute, log)
        failed = compute.phase(life[-1]) == "Error" and not any(map(runs, life))
        compute.need(not failed, "the sandbox did not get ready", "COMP-STAT-04.a")
        for sandbox in life:
            compute.hold(
                compute.phase(sandbox) != "Error",
                "until a healthy sandbox is ready, `Ready` is Unknown, or False with a reason "
                "that this gateway takes for passing",
                compute.described(sandbox),
            )


@check("COMP-STAT-04.a", "a sandbox gets Ready True when it runs, without a supervisor")
async def gets_ready(compute: ComputeBench) -> None:
    sandbox = await compute.made()
    try:
        await gets_running(
            compute, sandbox.id, "condition `Ready` is True once the sandbox's compute runs"
        )
    except Broken:
        found = await compute.observed(sandbox.id)
        leaves = found is not None and await _leaves_it(compute, found)
        compute.apply(not leaves, "the driver leaves Ready to the supervisor")
        raise


async def _leaves_it(compute: ComputeBench, found: wire.DriverSandbox) -> bool:
    """Whether the line's gateway gets a sandbox ready by its supervisor's session alone.

    A 0.1.x gateway does not read Ready True of a driver that does not answer for readiness.
    """
    waits = {each.reason.lower() for each in found.status.conditions}
    if compute.line == "F":
        return bool(waits & _SUPERVISOR)
    capabilities = await compute.capabilities()
    answers = capabilities.driver_reports_runtime_readiness
    return compute.line == "N" and not answers and compute.phase(found) == "Provisioning"


@check("COMP-STAT-04.b", "a sandbox that is still being made is not Ready", needs=("lengthy",))
async def not_ready_early(compute: ComputeBench) -> None:
    await _not_ready_early(compute)


async def _not_ready_early(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        began = time.monotonic()
        sandbox = await compute.made(compute.variant("lengthy"))
        while time.monotonic() - began < QUIET:
            for seen in (await still(compute, sandbox), *told(log, sandbox.id)):
                compute.hold(
                    not is_true(seen, "Ready"),
                    "`Ready` is not True while a sandbox of the `lengthy` template is made",
                    f"{time.monotonic() - began:.1f} s after its create: {compute.described(seen)}",
                )
            await asyncio.sleep(0.1)


@check(
    "COMP01-STAT-04",
    "a driver that answers for readiness reports none too early",
    needs=("lengthy",),
)
async def readiness_is_kept(compute: ComputeBench) -> None:
    capabilities = await compute.capabilities()
    compute.apply(
        capabilities.driver_reports_runtime_readiness,
        "driver_reports_runtime_readiness is false",
    )
    await _not_ready_early(compute)


@check(
    "COMP-STAT-04.c",
    "a sandbox that cannot be made is never Ready",
    profile="lifecycle",
    needs=("unpullable",),
)
async def failure_is_never_ready(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        sandbox = await compute.made(compute.variant("unpullable"))
        began = time.monotonic()
        limit = compute.profile.compute.timeouts.ready
        while time.monotonic() - began < limit:
            seen = await still(compute, sandbox)
            for each in (seen, *told(log, sandbox.id)):
                compute.hold(
                    not is_true(each, "Ready"),
                    "`Ready` is never True for a sandbox whose compute never ran",
                    compute.described(each),
                )
            if compute.phase(seen) == "Error":
                return
            await asyncio.sleep(0.05)
