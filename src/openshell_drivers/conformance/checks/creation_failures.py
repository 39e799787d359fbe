"""CreateSandbox that fails, is cancelled, or is overtaken: all of a sandbox or nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import anyio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sandboxes import EFFECT, all_of, in_list, nothing_comes
from openshell_drivers.conformance.checks._sight import deletes
from openshell_drivers.conformance.checks.validation import DOUBTFUL, TOLD

#: At which parts of a create's usual time it is cancelled.
_MOMENTS: Final = (0.0, 0.15, 0.35, 0.6, 0.8, 0.95, 1.1)
_SLOWED: Final = 0.5
_INTO_IT: Final = 0.2


@check("COMP-CREATE-02.a", "a create that is refused leaves nothing", needs=("refused",))
async def refused(compute: ComputeBench) -> None:
    sandbox = compute.variant("refused")
    reply = await compute.create(sandbox)
    compute.need(not reply.ok, "the profile's refused template is accepted")
    await nothing_comes(compute, sandbox.id, f"CreateSandbox has answered {reply.code}")


@check("COMP-CREATE-02.b", "a create with malformed wishes leaves nothing")
async def malformed(compute: ComputeBench) -> None:
    failed: list[wire.DriverSandbox] = []
    for change in DOUBTFUL.values():
        sandbox = compute.sandbox()
        change(sandbox.spec)
        if (await compute.create(sandbox)).code in TOLD:
            failed.append(sandbox)
    nameless = compute.sandbox(name="")
    if (await compute.create(nameless)).code in TOLD:
        failed.append(nameless)
    compute.apply(failed, "the driver refuses nothing that the suite tries")
    what = "CreateSandbox has refused it"
    await all_of(nothing_comes(compute, sandbox.id, what) for sandbox in failed)


@check(
    "COMP-CREATE-02.c",
    "a create that fails because the platform is out of reach leaves nothing",
    profile="resilience",
    needs=("outage",),
    once=True,
)
async def failed_in_an_outage(compute: ComputeBench) -> None:
    await compute.made()
    sandbox = compute.sandbox()
    async with compute.backend.outage():
        reply = await compute.create(sandbox)
    compute.apply(not reply.ok, "the driver accepts sandboxes while its platform is out of reach")
    await nothing_comes(compute, sandbox.id, f"CreateSandbox has answered {reply.code}")


@check(
    "COMP-CREATE-02.d",
    "a create that is refused leaves nothing at the platform",
    profile="resilience",
    needs=("refused", "resources"),
    own=True,
    once=True,
)
async def refused_leaves_no_resource(compute: ComputeBench) -> None:
    before = await compute.backend.resources()
    reply = await compute.create(compute.variant("refused"))
    compute.need(not reply.ok, "the profile's refused template is accepted")
    await _settled(compute, before, f"CreateSandbox has answered {reply.code}")


async def _settled(compute: ComputeBench, before: Sequence[str], after: str) -> None:
    """Fail unless the platform holds what it held before, or soon does."""
    left: list[str] = []

    async def same() -> bool | None:
        left[:] = sorted(set(await compute.backend.resources()) - set(before))
        return True if not left else None

    await compute.eventually(
        same,
        compute.profile.compute.timeouts.gone,
        f"after {after} the platform holds what it held before",
        lambda: f"it also holds {', '.join(left[:5])}",
    )


@check(
    "COMP-CREATE-06",
    "a refusal reaches the user: FAILED_PRECONDITION",
    needs=("refused",),
)
async def told_to_the_user(compute: ComputeBench) -> None:
    sandbox = compute.variant("refused")
    validated = await compute.validate(sandbox)
    compute.apply(
        validated.ok or validated.code == "FAILED_PRECONDITION",
        "ValidateSandboxCreate refuses the profile's refused template as malformed",
    )
    reply = await compute.create(sandbox)
    compute.need(not reply.ok, "the profile's refused template is accepted")
    compute.code(reply, "FAILED_PRECONDITION", when="of the profile's refused template")
    compute.hold(
        reply.text.strip(), "the refusal of CreateSandbox has a message", "an empty message"
    )


async def _usual(compute: ComputeBench) -> float:
    """How long a create takes, in seconds."""
    sandbox = compute.sandbox()
    reply = await compute.create(sandbox)
    compute.need(reply.ok, str(reply), "COMP-CREATE-01")
    listed = await in_list(compute, sandbox.id)
    compute.need(listed, "ListSandboxes lacks what was created", "COMP-CREATE-01")
    return min(reply.seconds, 2.0)


async def _cancelled(compute: ComputeBench, after: float) -> wire.DriverSandbox:
    """Begin a create and go away."""
    sandbox = compute.sandbox()
    task = asyncio.create_task(compute.create(sandbox))
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait([task])
    return sandbox


async def _rest(compute: ComputeBench) -> str:
    """The phase that a sandbox gets which nobody has cancelled."""
    return compute.at_rest((await compute.made_settled()).id)


async def _all_or_nothing(compute: ComputeBench, sandbox: wire.DriverSandbox, when: str) -> None:
    """Fail if a sandbox is there by half: by Get and not by List, not to end, not to delete."""
    deadline = time.monotonic() + LAG
    while True:
        found = await compute.observed(sandbox.id)
        listed = sandbox.id in await compute.listed()
        if (found is not None) == listed:
            break
        compute.hold(
            time.monotonic() < deadline,
            f"GetSandbox and ListSandboxes agree on a sandbox whose CreateSandbox was {when}",
            f"GetSandbox {'finds' if found else 'does not find'} it, ListSandboxes"
            f" {'has' if listed else 'lacks'} it",
        )
        await anyio.sleep(0.05)
    if found is None or found.status.deleting:
        return
    await _comes_to_an_end(compute, sandbox, when)
    reply = await compute.delete(sandbox.id)
    if not reply.ok or not reply.answer.deleted:
        await deletes(compute)
    compute.hold(
        reply.ok and reply.answer.deleted,
        f"DeleteSandbox removes a sandbox whose CreateSandbox was {when} and that is listed",
        f"{reply}, deleted={reply.answer.deleted}",
    )


async def _comes_to_an_end(compute: ComputeBench, sandbox: wire.DriverSandbox, when: str) -> None:
    usual = await compute.known("where a sandbox comes to rest", lambda: _rest(compute))
    passing = {"Provisioning", "Unknown"} - {usual}

    async def ended() -> bool | None:
        found = await compute.observed(sandbox.id)
        done = found is None or compute.phase(found) not in passing
        return True if done else None

    await compute.eventually(
        ended,
        compute.profile.compute.timeouts.ready,
        f"a sandbox whose CreateSandbox was {when} gets Ready or Error, or goes",
        lambda: "GetSandbox still shows Provisioning",
    )


@check(
    "COMP-CREATE-08.a", "a create that is cancelled makes a sandbox or none", profile="resilience"
)
async def cancelled(compute: ComputeBench) -> None:
    usual = await _usual(compute)
    made = [await _cancelled(compute, usual * moment) for moment in _MOMENTS]
    await anyio.sleep(EFFECT)
    await all_of(_all_or_nothing(compute, sandbox, "cancelled") for sandbox in made)


@check(
    "COMP-CREATE-08.b",
    "a create whose deadline passes makes a sandbox or none",
    profile="resilience",
    once=True,
)
async def past_its_deadline(compute: ComputeBench) -> None:
    usual = await _usual(compute)
    made = [compute.sandbox() for _ in _MOMENTS]
    for sandbox, moment in zip(made, _MOMENTS, strict=True):
        await compute.create(sandbox, deadline=max(0.001, usual * moment))
    await anyio.sleep(EFFECT)
    await all_of(_all_or_nothing(compute, sandbox, "past its deadline") for sandbox in made)


@check(
    "COMP-CREATE-08.c",
    "a create that is cancelled in the middle of its work makes a sandbox or none",
    profile="resilience",
    needs=("slow",),
    once=True,
)
async def cancelled_in_the_middle(compute: ComputeBench) -> None:
    await compute.made()
    async with compute.backend.slow(_SLOWED):
        # Past the platform's answer, too: some of the work is done by then.
        delays = [_SLOWED * part for part in (0.4, 0.9, 1.02, 1.4, 2.05)]
        made = await asyncio.gather(*(_cancelled(compute, delay) for delay in delays))
        await anyio.sleep(_SLOWED * 2)
    await all_of(_all_or_nothing(compute, sandbox, "cancelled") for sandbox in made)


@check(
    "COMP-CREATE-08.d",
    "what is left of a cancelled create can be deleted altogether",
    profile="resilience",
    needs=("resources", "slow"),
    own=True,
    once=True,
)
async def cancelled_leaves_nothing(compute: ComputeBench) -> None:
    before = await compute.backend.resources()
    async with compute.backend.slow(_SLOWED):
        made = [await _cancelled(compute, _SLOWED * part) for part in (0.5, 1.1)]
        await anyio.sleep(_SLOWED * 2)
    for sandbox in made:
        reply = await compute.delete(sandbox.id)
        there = None if reply.ok else await compute.observed(sandbox.id)
        compute.need(there is None, str(reply), "COMP-DEL-01")
        await compute.gone(sandbox.id)
    await _settled(compute, before, "cancelled creates and a DeleteSandbox of each")


@check(
    "COMP-CREATE-09",
    "a sandbox whose provisioning fails stays, and says why",
    profile="lifecycle",
    needs=("unpullable",),
)
async def provisioning_fails(compute: ComputeBench) -> None:
    sandbox = compute.variant("unpullable")
    reply = await compute.create(sandbox)
    compute.need(reply.ok, str(reply), "COMP-CREATE-01")
    last = "nothing"

    async def failed() -> wire.DriverSandbox | None:
        nonlocal last
        found = await compute.observed(sandbox.id)
        last = "NOT_FOUND" if found is None else compute.described(found)
        return found if found is not None and compute.phase(found) == "Error" else None

    what = "GetSandbox of the profile's unpullable template shows a failure (Ready False and a"
    limit = compute.profile.compute.timeouts.ready
    shown = await compute.eventually(
        failed, limit, f"{what} reason that means it)", lambda: f"GetSandbox shows {last}"
    )
    ready = next(each for each in shown.status.conditions if each.type == "Ready")
    compute.hold(
        ready.reason, "the condition Ready of a sandbox that failed has a reason", "an empty reason"
    )
    await anyio.sleep(EFFECT)
    found = await compute.observed(sandbox.id)
    compute.hold(
        found is not None and compute.phase(found) == "Error",
        "a sandbox whose provisioning failed stays until it is deleted, as a failure",
        "GetSandbox: NOT_FOUND" if found is None else compute.described(found),
    )


@check(
    "COMP01-CREATE-02.a",
    "a delete that overtakes a create is final",
    profile="resilience",
    needs=("slow",),
    once=True,
)
async def deleted_while_created(compute: ComputeBench) -> None:
    await compute.made_settled()
    sees = compute.backend.can("resources") and compute.profile.target.isolated
    before = await compute.backend.resources() if sees else []
    sandbox = compute.sandbox()
    async with compute.backend.slow(_SLOWED):
        create = asyncio.create_task(compute.create(sandbox))
        await asyncio.sleep(_INTO_IT)
        deleted = await compute.delete(sandbox.id)
        created = await create
        await asyncio.sleep(_SLOWED * 2)
    compute.need(deleted.ok, str(deleted), "COMP-DEL-01")
    last = "nothing"

    async def gone() -> bool | None:
        nonlocal last
        found = await compute.observed(sandbox.id)
        last = "NOT_FOUND" if found is None else compute.described(found)
        return True if found is None else None

    what = (
        f"DeleteSandbox (OK, deleted={deleted.answer.deleted}) during a CreateSandbox"
        f" ({created.code})"
    )
    limit = compute.profile.compute.timeouts.gone
    await compute.eventually(
        gone, limit, f"after {what} the sandbox is gone", lambda: f"GetSandbox shows {last}"
    )
    await nothing_comes(compute, sandbox.id, what)
    if sees:
        await _settled(compute, before, what)


@check(
    "COMP01-CREATE-02.b",
    "a delete or stop after a create that failed is safe",
    needs=("refused",),
)
async def deleted_after_a_failure(compute: ComputeBench) -> None:
    sandbox = compute.variant("refused")
    created = await compute.create(sandbox)
    compute.need(not created.ok, "the profile's refused template is accepted")
    stranger = await compute.delete(compute.fresh_id())
    compute.need(stranger.ok, str(stranger), "COMP-DEL-02")
    stopped = await compute.stop(sandbox.id)
    when = "of an id whose CreateSandbox has failed"
    compute.code(stopped, "NOT_FOUND", "OK", "FAILED_PRECONDITION", "UNIMPLEMENTED", when=when)
    deleted = await compute.delete(sandbox.id)
    compute.code(deleted, "OK", when=when)
    await compute.gone(sandbox.id)
