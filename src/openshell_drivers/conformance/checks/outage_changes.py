"""Deletes that meet an outage, and what happened in one."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from openshell_drivers.conformance._caller import Reply
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sight import deletes, gets_running, let_go, tells, told

_NOTICE: Final = 10.0
_WAIT: Final = 8.0


async def _deleted_in_outage(compute: ComputeBench, sandbox_id: str) -> Reply[Any]:
    """Delete while the platform is out of reach; the outage ends after a while."""
    async with compute.backend.outage():
        deleting = asyncio.ensure_future(compute.delete(sandbox_id))
        await asyncio.wait({deleting}, timeout=_WAIT)
    return await deleting


@check(
    "COMP-DEL-03.b",
    "in an outage, Delete does not say that nothing is there",
    profile="resilience",
    needs=("outage",),
    once=True,
)
async def no_false_absence(compute: ComputeBench) -> None:
    await deletes(compute)
    sandbox = await compute.made_settled()
    reply = await _deleted_in_outage(compute, sandbox.id)
    compute.hold(
        not reply.ok or reply.answer.deleted or await compute.observed(sandbox.id) is None,
        "DeleteSandbox in an outage of the platform is an error",
        "OK with `deleted` false, and the sandbox is still there: the gateway has forgotten it",
    )


@check(
    "COMP-DEL-06",
    "what could not be deleted can be seen, and deleted later",
    profile="resilience",
    needs=("outage",),
    once=True,
)
async def deleted_later(compute: ComputeBench) -> None:
    await deletes(compute)
    sandbox = await compute.made_settled()
    reply = await _deleted_in_outage(compute, sandbox.id)
    if not reply.ok:
        seen = await compute.observed(sandbox.id)
        compute.hold(
            seen is not None,
            f"GetSandbox finds a sandbox after the outage in which its delete was {reply.code}",
            "NOT_FOUND",
        )
        await _not_for_ever_deleting(compute, sandbox.id, reply)
        there = await compute.observed(sandbox.id)
        again = await compute.delete(sandbox.id)
        compute.code(again, "OK", when="after the outage in which it failed")
        compute.hold(
            again.answer.deleted or there is None,
            "DeleteSandboxResponse.deleted is true then",
            "it is false",
        )

    async def look() -> object:
        return True if await compute.observed(sandbox.id) is None else None

    await compute.eventually(
        look,
        compute.profile.compute.timeouts.gone,
        "the sandbox is gone after the outage and a delete",
        lambda: "GetSandbox still finds it",
    )


async def _not_for_ever_deleting(
    compute: ComputeBench, sandbox_id: str, failed: Reply[Any]
) -> None:
    """Fail if a removal is shown that nobody carries out: gateways ask for no other."""

    async def look() -> object:
        seen = await compute.observed(sandbox_id)
        return True if seen is None or not seen.status.deleting else None

    await compute.eventually(
        look,
        min(compute.profile.compute.timeouts.gone, _NOTICE),
        f"a sandbox whose delete was {failed.code} goes, or is shown as before",
        lambda: "GetSandbox still shows `deleting`, so that no gateway deletes it again",
    )


@check(
    "COMP-WATCH-05.c",
    "a removal in an outage is told after it",
    profile="resilience",
    needs=("outage", "remove"),
    once=True,
)
async def removed_in_outage(compute: ComputeBench) -> None:
    await tells(compute)
    sandbox, other = await compute.made_going(), await compute.made_going()
    async with compute.watching() as log:
        began = time.monotonic()
        async with compute.backend.outage():
            await compute.backend.remove(sandbox.id, sandbox.name, sandbox.workspace)
            await asyncio.sleep(0.5)

        async def look() -> object:
            return True if let_go(log, sandbox.id, began) else None

        await compute.eventually(
            look,
            _NOTICE,
            "a `deleted` event, after the outage, for what was removed in it",
            lambda: log.described(sandbox.id),
        )
        await gets_running(compute, other.id, "GetSandbox is OK again after the outage")


@check(
    "COMP-WATCH-02.b",
    "what changed in an outage is told after it",
    profile="resilience",
    needs=("outage", "lengthy"),
    once=True,
    limit=90,
)
async def changed_in_outage(compute: ComputeBench) -> None:
    sandbox = await compute.made(compute.variant("lengthy"))
    async with compute.watching() as log:
        async with compute.backend.outage():
            await asyncio.sleep(LAG / 2)
        seen = await compute.reaches(sandbox.id, "Ready")
        await compute.watch_until(
            log,
            sandbox.id,
            lambda each: compute.phase(each) == "Ready",
            LAG,
            f"the watch tells of {compute.described(seen)}, as Get does after the outage",
        )
        compute.need(told(log, sandbox.id), "no events at all", "COMP-WATCH-01.a")
