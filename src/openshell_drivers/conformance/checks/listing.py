"""List: that it is complete, and holds nothing that it should not."""

from __future__ import annotations

import asyncio

from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sight import deletes, is_listed, quiet, still, until_true

_ROUNDS = 6


async def _is_listed(compute: ComputeBench, sandbox_id: str, state: str) -> None:
    async def look() -> object:
        return True if sandbox_id in await compute.listed() else None

    await compute.eventually(
        look,
        LAG,
        f"ListSandboxes holds a {state} sandbox, which GetSandbox finds",
        lambda: "it is not in the list",
    )


@check("COMP-LIST-01.a", "sandboxes that start and that run are listed")
async def starting_and_running(compute: ComputeBench) -> None:
    made = [await compute.made() for _ in range(3)]
    for sandbox in made:
        await _is_listed(compute, sandbox.id, "new")
    await compute.settles(made[0].id)
    await _is_listed(compute, made[0].id, "running")


@check("COMP-LIST-01.b", "a stopped sandbox stays listed", profile="lifecycle")
async def stopped_is_listed(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    await quiet()
    await still(compute, sandbox)
    await _is_listed(compute, sandbox.id, "stopped")


@check(
    "COMP-LIST-01.c",
    "a sandbox that could not be made stays listed",
    profile="lifecycle",
    needs=("unpullable",),
)
async def failed_is_listed(compute: ComputeBench) -> None:
    sandbox = await compute.made(compute.variant("unpullable"))
    await compute.reaches(sandbox.id, "Error")
    await _is_listed(compute, sandbox.id, "failed")


@check("COMP-LIST-01.d", "a sandbox that is being removed stays listed till it is gone")
async def deleting_is_listed(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    await is_listed(compute, sandbox.id)
    reply = await compute.delete(sandbox.id)
    compute.need(reply.ok and reply.answer.deleted, str(reply), "COMP-DEL-01")
    missing = 0
    for _ in range(40):
        listed = sandbox.id in await compute.listed()
        if await compute.observed(sandbox.id) is None:
            return
        missing = 0 if listed else missing + 1
        compute.hold(
            missing < 3,  # one list may have been read before the create was seen
            "ListSandboxes holds a sandbox for as long as GetSandbox finds it",
            "while it was being removed, Get found it and List did not have it, three times",
        )
        await asyncio.sleep(0.03)


@check("COMP-LIST-04", "what was called deleted is in neither List nor Get", profile="lifecycle")
async def deleted_is_nowhere(compute: ComputeBench) -> None:
    await deletes(compute)
    sandbox = await compute.made_settled()
    async with compute.watching() as log:
        reply = await compute.delete(sandbox.id)
        compute.need(reply.ok and reply.answer.deleted, str(reply), "COMP-DEL-01")
        limit = compute.profile.compute.timeouts.gone + 10
        told = await until_true(lambda: log.deleted(sandbox.id) > 0 or log.broke, limit)
        compute.need(told, log.described(sandbox.id), "COMP-WATCH-05")
        if log.deleted(sandbox.id):
            await _is_gone(compute, sandbox.id)


async def _is_gone(compute: ComputeBench, sandbox_id: str) -> None:
    async def got() -> object:
        return True if await compute.observed(sandbox_id) is None else None

    async def listed() -> object:
        return True if sandbox_id not in await compute.listed() else None

    await compute.eventually(
        got, 1.0, "after the `deleted` event GetSandbox is NOT_FOUND", lambda: "it still answers OK"
    )
    await compute.eventually(
        listed,
        LAG,
        "after the `deleted` event ListSandboxes has it no more",
        lambda: "it is still listed",
    )


@check("COMP-LIST-05.a", "each id is listed once")
async def listed_once(compute: ComputeBench) -> None:
    made = [await compute.made() for _ in range(3)]
    await is_listed(compute, made[-1].id)
    ours = {sandbox.id for sandbox in made}
    for _ in range(3):
        reply = await compute.list_all()
        ids = [each.id for each in reply.answer.sandboxes if each.id in ours]
        twice = len(ids) - len(set(ids))
        compute.hold(not twice, "ListSandboxes gives each id once", f"{twice} ids came again")


@check("COMP-LIST-05.b", "the list's order does not change from call to call")
async def order_is_kept(compute: ComputeBench) -> None:
    made = [await compute.made_settled() for _ in range(5)]
    for sandbox in made:
        await is_listed(compute, sandbox.id)
    ours = {sandbox.id for sandbox in made}
    orders = set()
    for _ in range(_ROUNDS):
        reply = await compute.list_all()
        if reply.ok:
            orders.add(tuple(dict.fromkeys(s.id for s in reply.answer.sandboxes if s.id in ours)))
    compute.hold(
        len(orders) < 2,
        "ListSandboxes gives sandboxes that do not change in one order",
        f"{len(orders)} different orders in {_ROUNDS} calls",
    )


@check(
    "COMP-LIST-03",
    "what others made on the platform is not listed",
    profile="resilience",
    needs=("foreign",),
    own=True,
    once=True,
)
async def strangers_are_not_listed(compute: ComputeBench) -> None:
    before = set(await compute.listed())
    await compute.backend.foreign()
    await quiet()
    new = [
        each
        for each in (await compute.listed()).values()
        if each.id not in before and not each.name.startswith(compute.world.run)
    ]
    compute.hold(
        not new,
        "ListSandboxes has no more entries after somebody else made something on the platform",
        f"{len(new)} more, the first with id {new[0].id!r}" if new else "",
    )
