"""DeleteSandbox, as far as the wire shows it."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sight import (
    deleted,
    deletes,
    quiet,
    stops_sandboxes,
)

_QUICK: Final = 5.0
_RACES: Final = 6


@check("COMP-DEL-01.a", "deleting what exists says deleted true")
async def says_true(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    reply = await compute.delete(sandbox.id)
    compute.code(reply, "OK", when="of a running sandbox")
    compute.hold(
        reply.answer.deleted,
        "DeleteSandboxResponse.deleted is true for a sandbox that exists",
        "it is false: the gateway forgets the sandbox at once",
    )


@check("COMP-DEL-01.b", "what was deleted is gone in time, and stays so", profile="lifecycle")
async def goes_away(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    reply = await compute.delete(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-DEL-01.a")
    await _goes(compute, sandbox, "a running sandbox")


async def _goes(compute: ComputeBench, sandbox: wire.DriverSandbox, what: str) -> None:
    """Fail unless it is soon gone, and does not come back."""

    async def look() -> object:
        return True if await compute.observed(sandbox.id) is None else None

    limit = compute.profile.compute.timeouts.gone
    expected = f"GetSandbox is NOT_FOUND after the delete of {what}"
    await compute.eventually(look, limit, expected, lambda: "it is still found")
    await quiet()
    seen = await compute.observed(sandbox.id)
    compute.hold(
        seen is None,
        f"{expected}, and stays so",
        "it came back: " + ("" if seen is None else compute.described(seen)),
    )


def _says_false(compute: ComputeBench, deleted_: bool, what: str) -> None:
    compute.hold(
        not deleted_,
        f"DeleteSandboxResponse.deleted is false for {what}",
        "it is true: the gateway waits for an event that never comes",
    )


@check("COMP-DEL-02.a", "deleting what never was is OK, with deleted false")
async def unknown(compute: ComputeBench) -> None:
    await _unknown(compute)


async def _unknown(compute: ComputeBench) -> None:
    reply = await compute.delete(compute.fresh_id())
    compute.code(reply, "OK", when="of an id that never existed")
    _says_false(compute, reply.answer.deleted, "an id that never existed")


@check("COMP01-DEL-01", "the delete of a record that the gateway dropped is OK")
async def pruned(compute: ComputeBench) -> None:
    await _unknown(compute)


@check("COMP-DEL-02.b", "deleting what is gone is OK, with deleted false")
async def already_gone(compute: ComputeBench) -> None:
    await deletes(compute)
    sandbox = await compute.made()
    await deleted(compute, sandbox)
    reply = await compute.delete(sandbox.id)
    compute.code(reply, "OK", when="of an id that was deleted and is gone")
    _says_false(compute, reply.answer.deleted, "an id that is gone already")


@check("COMP-DEL-03.a", "deleted false is never said of what remains", profile="resilience")
async def false_means_nothing(compute: ComputeBench) -> None:
    await deletes(compute)
    stops = await stops_sandboxes(compute)
    starts = stops and await compute.implements("StartSandbox")
    others = (compute.stop if stops else compute.get, compute.start if starts else compute.get)
    made = await asyncio.gather(*(compute.made_settled() for _ in range(_RACES)))
    for number, sandbox in enumerate(made):
        change = others[number % 2]
        racing = asyncio.ensure_future(change(sandbox.id))
        await asyncio.sleep(0.002 * number)
        reply = await compute.delete(sandbox.id)
        await racing
        if not reply.ok or reply.answer.deleted:
            continue
        await asyncio.sleep(0.2)
        compute.hold(
            await compute.observed(sandbox.id) is None,
            "DeleteSandbox that meets another change tries again, or answers an error",
            "OK with `deleted` false, and GetSandbox still finds the sandbox",
        )


async def _removable(compute: ComputeBench, sandbox: wire.DriverSandbox, what: str) -> None:
    """Fail unless a sandbox in some state can be deleted."""
    reply = await compute.delete(sandbox.id)
    compute.code(reply, "OK", when=f"of {what}")
    gone = await compute.observed(sandbox.id) is None
    compute.hold(
        reply.answer.deleted or gone,
        f"DeleteSandboxResponse.deleted is true for {what}",
        "it is false, and the sandbox is still there",
    )
    await _goes(compute, sandbox, what)


@check("COMP-DEL-04.a", "what is being made can be deleted", profile="lifecycle")
async def while_made(compute: ComputeBench) -> None:
    await deletes(compute)
    lengthy = compute.profile.compute.lengthy is not None
    wish = compute.variant("lengthy") if lengthy else compute.sandbox()
    await _removable(compute, await compute.made(wish), "a sandbox that is being made")


@check(
    "COMP-DEL-04.b",
    "what could not be made can be deleted",
    profile="lifecycle",
    needs=("unpullable",),
)
async def failed(compute: ComputeBench) -> None:
    await deletes(compute)
    sandbox = await compute.made(compute.variant("unpullable"))
    await compute.reaches(sandbox.id, "Error")
    await _removable(compute, sandbox, "a sandbox that could not be made")


@check("COMP-DEL-04.c", "what is stopped can be deleted", profile="lifecycle")
async def stopped(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    await deletes(compute)
    await _removable(compute, sandbox, "a stopped sandbox")


@check("COMP-DEL-04.d", "what is being deleted can be deleted", profile="lifecycle")
async def deleting(compute: ComputeBench) -> None:
    await deletes(compute)
    sandbox = await compute.made_settled()
    first = await compute.delete(sandbox.id)
    compute.need(first.ok, str(first), "COMP-DEL-01.a")
    second = await compute.delete(sandbox.id)
    if not second.ok:
        there = await compute.observed(sandbox.id)
        compute.need(there is not None, f"it was gone at once: {second}", "COMP-DEL-02.b")
    compute.code(second, "OK", when="of a sandbox that is being deleted")


@check("COMP-DEL-07", "deletes at the same time are all OK")
async def at_the_same_time(compute: ComputeBench) -> None:
    await deletes(compute)
    for count in (2, 8):
        sandbox = await compute.made_settled()
        replies = await asyncio.gather(*(compute.delete(sandbox.id) for _ in range(count)))
        for reply in replies:
            compute.code(reply, "OK", when=f"at the same time as {count - 1} more for one sandbox")
        compute.hold(
            any(reply.answer.deleted for reply in replies),
            f"`deleted` is true in at least one of {count} deletes of one sandbox",
            "it is false in all of them",
        )


@check("COMP-DEL-08", "the name of a living sandbox with another id deletes nothing")
async def living_name(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    reply = await compute.delete(compute.fresh_id(), sandbox.name)
    compute.hold(
        not (reply.ok and reply.answer.deleted),
        "DeleteSandbox of an unknown id with the name of a living sandbox says `deleted` false",
        "`deleted` is true",
    )
    began = time.monotonic()
    while time.monotonic() - began < 0.3:
        seen = await compute.observed(sandbox.id)
        compute.hold(
            seen is not None and not seen.status.deleting,
            "a sandbox outlives the delete of another id with its name",
            "it is gone, or being deleted",
        )
        await asyncio.sleep(0.05)
    compute.need(reply.ok, str(reply), "COMP-DEL-02.a")


@check("COMP-DEL-09", "Delete answers within a few seconds")
async def quick(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    reply = await compute.delete(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-DEL-01.a")
    compute.within(reply.seconds, _QUICK, "DeleteSandbox answers")
