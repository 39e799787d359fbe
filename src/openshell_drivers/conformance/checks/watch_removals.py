"""The watch: that ends are told, and nothing after them."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance._outcomes import Blocked
from openshell_drivers.conformance.benches._watchlog import WatchLog
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sight import (
    CROSSING,
    after,
    deleted,
    deletes,
    let_go,
    quiet,
    tells,
    until_true,
)

_NOTICE: Final = 10.0


@check("COMP-WATCH-05.a", "a delete ends in a deleted event")
async def delete_is_told(compute: ComputeBench) -> None:
    await deletes(compute)
    sandbox = await compute.made_settled()
    async with compute.watching() as log:
        began = time.monotonic()
        reply = await compute.delete(sandbox.id)
        compute.need(reply.ok and reply.answer.deleted, str(reply), "COMP-DEL-01")
        await compute.gone(sandbox.id)
        await _told_gone(compute, log, sandbox.id, began)
        count = log.deleted(sandbox.id)
        if count > 1 and not log.broke:
            compute.note(f"`deleted` came {count} times for one sandbox: harmless, once is enough")


@check(
    "COMP-WATCH-05.b",
    "a removal behind the driver's back ends in a deleted event",
    profile="resilience",
    needs=("remove",),
)
async def removal_is_told(compute: ComputeBench) -> None:
    try:
        await tells(compute)
    except Blocked:
        await _tells_of_ends(compute)
    sandbox = await compute.made_settled()
    async with compute.watching() as log:
        began = time.monotonic()
        await compute.backend.remove(sandbox.id, sandbox.name, sandbox.workspace)
        await _told_gone(compute, log, sandbox.id, began)


async def _tells_of_ends(compute: ComputeBench) -> None:
    """`Blocked` unless the watch tells of deletes at least: other checks judge that."""
    sandbox = await compute.made_settled()
    async with compute.watching() as log:
        began = time.monotonic()
        reply = await compute.delete(sandbox.id)
        compute.need(reply.ok and reply.answer.deleted, str(reply), "COMP-DEL-01")
        told = await until_true(lambda: let_go(log, sandbox.id, began), _NOTICE)
        compute.need(told, "an open watch tells of nothing", "COMP-CREATE-01.c")


async def _told_gone(compute: ComputeBench, log: WatchLog, sandbox_id: str, began: float) -> None:
    async def look() -> object:
        return True if let_go(log, sandbox_id, began) else None

    await compute.eventually(
        look,
        _NOTICE,
        "a WatchSandboxesDeletedEvent with its `sandbox_id`, once the sandbox is gone",
        lambda: log.described(sandbox_id),
    )


@check("COMP-WATCH-06.a", "no sandbox event follows a deleted event", profile="lifecycle")
async def no_resurrection(compute: ComputeBench) -> None:
    await deletes(compute)
    async with compute.watching() as log:
        made = [await compute.made_settled()]
        made += await asyncio.gather(*(compute.made() for _ in range(4)))
        await asyncio.gather(*(deleted(compute, each) for each in made))
        limit = compute.profile.compute.timeouts.gone
        await until_true(lambda: all(log.deleted(each.id) for each in made), min(limit, _NOTICE))
        await quiet()
        for each in made:
            ends = log.of(each.id, "deleted")
            late = after(log.of(each.id, "sandbox"), ends[0].at) if ends else []
            compute.hold(
                not late,
                "no sandbox event for an id after its `deleted` event",
                log.described(each.id),
            )


@check(
    "COMP-WATCH-06.b",
    "no sandbox event follows a failed create",
    profile="lifecycle",
    needs=("refused",),
)
async def no_ghost(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        sandbox = compute.variant("refused")
        reply = await compute.create(sandbox)
        failed = time.monotonic()
        compute.need(not reply.ok, "the `refused` template was accepted", "COMP-CREATE-06")
        await quiet()
        events = log.of(sandbox.id)
        late = after((e for e in events if e.kind == "sandbox"), failed)
        ghost = after(late, failed + CROSSING) or (late and events[-1].kind == "sandbox")
        compute.hold(
            not ghost,
            f"no sandbox event for an id whose create was refused with {reply.code}",
            log.described(sandbox.id),
        )


@check(
    "COMP-WATCH-06.c",
    "what others made on the platform is not told",
    profile="resilience",
    needs=("foreign",),
    own=True,
    once=True,
    presets=("fork-mvp",),
)
async def no_strangers(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        await quiet()
        known = {event.id for event in log.events}
        await compute.backend.foreign()
        await quiet()
        new = [
            event
            for event in log.events
            if event.sandbox is not None
            and event.id not in known
            and not event.sandbox.name.startswith(compute.world.run)
        ]
        compute.hold(
            not new,
            "no sandbox event when somebody else makes something on the platform",
            f"{len(new)} came, the first with id {new[0].id!r}" if new else "",
        )
