"""CreateSandbox that works: what is there afterwards, and what a second one does."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import SILENT
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sandboxes import got, in_list, seen
from openshell_drivers.conformance.checks.validation import TOLD

_AT_ONCE: Final = 16
#: Seconds that a create may take, however slow the platform is.
_PROMPT: Final = 5.0
_SLOWED: Final = 1.0
#: What a busy machine may add to that: most of it passes while the platform is waited for.
_OWN: Final = 0.8
_HOSTILE: Final = (
    *("..", ".", "../conformance", "a/b", "/conformance/x", "a\nb", "a\x00b"),
    "x" * 300,
)


@check("COMP-CREATE-01.a", "a new sandbox is found at once")
async def found_at_once(compute: ComputeBench) -> None:
    sandbox = compute.sandbox()
    reply = await compute.create_with_room(sandbox)
    compute.code(reply, "OK", when="of a plain sandbox (the profile's template)")
    found = await compute.observed(sandbox.id)
    compute.hold(
        found is not None,
        "GetSandbox finds the id right after CreateSandbox has answered OK",
        "GetSandbox: NOT_FOUND",
    )


@check("COMP-CREATE-01.b", "a new sandbox is listed")
async def listed(compute: ComputeBench) -> None:
    sandbox = await compute.made()
    found = await in_list(compute, sandbox.id)
    compute.hold(
        found is not None,
        f"ListSandboxes has the id {LAG:g} s after CreateSandbox has answered OK",
        "it has not",
    )


@check("COMP-CREATE-01.c", "a new sandbox is told to open watches")
async def told(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        sandbox = await compute.made()
        await log.until(
            lambda: bool(log.of(sandbox.id, "sandbox")),
            LAG,
            "an open WatchSandboxes tells of the id that CreateSandbox has accepted",
            lambda: log.described(sandbox.id),
        )


@check("COMP-CREATE-03.a", "a second create of an id is ALREADY_EXISTS")
async def same_id_again(compute: ComputeBench) -> None:
    sandbox = await compute.made()
    again = compute.sandbox(id=sandbox.id)
    again.CopyFrom(sandbox)
    for moment in ("at once", "when it runs"):
        reply = await compute.create(again)
        compute.code(reply, "ALREADY_EXISTS", when=f"of an id that exists, repeated {moment},")
        await compute.settles(sandbox.id)


@check("COMP-CREATE-03.b", "a second create of an id leaves the first sandbox as it is")
async def first_untouched(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    before = await seen(compute, sandbox.id)
    again = compute.sandbox(id=sandbox.id)
    reply = await compute.create(again)
    # Whatever is done to it is done by then, or shows as another state.
    after = await compute.observed(sandbox.id)
    compute.remember(sandbox)
    what = f"after a second CreateSandbox of its id ({reply.code}) GetSandbox shows the first one"
    compute.hold(after is not None, what, "GetSandbox: NOT_FOUND")
    if after is None:
        return
    compute.hold(
        (after.name, after.status.instance_id, compute.phase(after))
        == (before.name, before.status.instance_id, compute.phase(before)),
        f"{what}: {before.name!r}, instance {before.status.instance_id!r}, {compute.phase(before)}",
        f"{after.name!r}, instance {after.status.instance_id!r}, {compute.described(after)}",
    )


@check("COMP-CREATE-03.c", "of many creates of an id at once one makes it", profile="resilience")
async def many_at_once(compute: ComputeBench) -> None:
    plain = await compute.create_with_room(compute.sandbox())
    compute.need(plain.ok, str(plain), "COMP-CREATE-01")
    sandbox = compute.sandbox()
    replies = await asyncio.gather(*(compute.create(sandbox) for _ in range(_AT_ONCE)))
    for reply in replies:
        when = f"of one id, {_AT_ONCE} at once,"
        compute.code(reply, "OK", "ALREADY_EXISTS", when=when)
    made = sum(reply.ok for reply in replies)
    compute.hold(made, f"one of {_AT_ONCE} creates of one id at once answers OK", "none does")
    if made > 1:
        compute.note(f"{made} of {_AT_ONCE} creates of one id at once answer OK")
    names = [each.id for each in (await compute.list_all()).answer.sandboxes]
    compute.hold(
        names.count(sandbox.id) <= 1, "ListSandboxes has the id once", f"{names.count(sandbox.id)}"
    )
    await compute.settles(sandbox.id)


@check(
    "COMP-CREATE-03.d",
    "creates of one id make one thing at the platform",
    profile="resilience",
    needs=("resources",),
    own=True,
    once=True,
)
async def one_resource(compute: ComputeBench) -> None:
    before = len(await compute.backend.resources())
    await compute.made_settled()
    one = len(await compute.backend.resources()) - before
    compute.need(one, "the verb list_resources does not show a sandbox")
    sandbox = compute.sandbox()
    replies = await asyncio.gather(*(compute.create(sandbox) for _ in range(_AT_ONCE)))
    compute.need(any(each.ok for each in replies), str(replies[0]), "COMP-CREATE-03.c")
    await compute.settles(sandbox.id)
    more = len(await compute.backend.resources()) - before - one
    compute.hold(
        more == one,
        f"the platform holds {one} thing(s) for a sandbox that was created {_AT_ONCE} times at"
        " once, as for any other",
        f"{more}",
    )


@check("COMP-CREATE-04.a", "a name that is taken gives a second sandbox or ALREADY_EXISTS")
async def same_name(compute: ComputeBench) -> None:
    first = await compute.made()
    second = compute.sandbox(name=first.name)
    reply = await compute.create(second)
    compute.code(
        reply,
        *("OK", "ALREADY_EXISTS"),
        when="of a new id with a name that a sandbox of the workspace has",
    )
    if reply.ok:
        found = await got(compute, second.id)
        compute.hold(
            found is not None and found.id == second.id,
            "GetSandbox finds the second sandbox of a name by its own id, since its create was OK",
            "NOT_FOUND" if found is None else f"the id {found.id!r}",
        )


@check("COMP-CREATE-04.b", "a name that is taken stays with the first sandbox")
async def same_name_spares_the_first(compute: ComputeBench) -> None:
    first = await compute.made_settled()
    before = await seen(compute, first.id)
    await compute.create(compute.sandbox(name=first.name))
    after = await compute.observed(first.id)
    wanted = (before.id, before.name, before.status.instance_id)
    what = "after a CreateSandbox of another id with its name GetSandbox shows the first sandbox"
    compute.hold(after is not None, what, "GetSandbox: NOT_FOUND")
    if after is not None:
        found = (after.id, after.name, after.status.instance_id)
        compute.hold(found == wanted, f"{what}: id, name, instance {wanted}", f"{found}")


@check("COMP-CREATE-05.a", "a create of nothing is INVALID_ARGUMENT")
async def nothing(compute: ComputeBench) -> None:
    reply = await compute.create(None)
    compute.code(reply, "INVALID_ARGUMENT", when="of a request without sandbox")


@check("COMP-CREATE-05.b", "a sandbox without an id is refused")
async def no_id(compute: ComputeBench) -> None:
    reply = await compute.create(compute.sandbox(id=""))
    compute.code(reply, *TOLD, when="of a sandbox with an empty id")


@check("COMP-CREATE-05.c", "a sandbox without a name is refused")
async def no_name(compute: ComputeBench) -> None:
    reply = await compute.create(compute.sandbox(name=""))
    compute.code(reply, *TOLD, when="of a sandbox with an empty name")


@check(
    "COMP-CREATE-05.d",
    "an id that could be a path is refused",
    profile="security",
    once=True,
)
async def hostile_ids(compute: ComputeBench) -> None:
    plain = await compute.create_with_room(compute.sandbox())
    compute.need(plain.ok, str(plain), "COMP-CREATE-01")
    for hostile in _HOSTILE:
        reply = await compute.create(compute.sandbox(id=hostile))
        shown = hostile if len(hostile) < 40 else f"{hostile[:4]}… of {len(hostile)} characters"
        compute.hold(  # a gateway makes INTERNAL of every refusal of a create
            not reply.ok and reply.code not in {SILENT, "UNAVAILABLE", "UNIMPLEMENTED"},
            f"CreateSandbox of a sandbox with the id {shown!r} answers INVALID_ARGUMENT",
            str(reply),
        )


async def _slowed(compute: ComputeBench, sandbox: wire.DriverSandbox) -> None:
    await compute.mint(sandbox.spec)
    stalled = compute.world.stall.total
    reply = await compute.create(sandbox)
    own = min(compute.world.stall.total - stalled, _OWN)
    compute.need(reply.code not in {"UNIMPLEMENTED", *TOLD}, str(reply), "COMP-CREATE-01")
    compute.hold(
        reply.seconds - own <= _PROMPT,
        f"CreateSandbox answers within {_PROMPT:g} s, ready or not",
        f"{reply}, after {reply.seconds:.2f} s",
    )


@check(
    "COMP-CREATE-07.a",
    "a create answers soon on a slow platform",
    profile="resilience",
    needs=("slow",),
    once=True,
)
async def prompt_when_slow(compute: ComputeBench) -> None:
    await compute.made()
    async with compute.backend.slow(_SLOWED):
        await _slowed(compute, compute.sandbox())


@check(
    "COMP-CREATE-07.b",
    "a create answers before a sandbox is ready that takes long",
    profile="lifecycle",
    needs=("lengthy",),
)
async def prompt_when_lengthy(compute: ComputeBench) -> None:
    await compute.made()
    sandbox = compute.variant("lengthy")
    began = time.monotonic()
    await _slowed(compute, sandbox)
    took = time.monotonic() - began
    found = await seen(compute, sandbox.id)
    compute.hold(
        took < _SLOWED or compute.phase(found) != "Ready",
        "CreateSandbox of the profile's lengthy template answers before the sandbox is Ready",
        f"it took {took:.2f} s, and GetSandbox shows Ready at once",
    )


@check("COMP-CREATE-10", "a create needs no EnsureWorkspace before")
async def no_ensure(compute: ComputeBench) -> None:
    await compute.made()
    sandbox = compute.sandbox(workspace=1)
    reply = await compute.create(sandbox)
    compute.code(
        reply,
        "OK",
        when=f"in workspace {sandbox.workspace!r}, for which EnsureWorkspace was never called,",
    )


@check("COMP-SEC-03", "a sandbox without a token is made, or refused with words")
async def no_token(compute: ComputeBench) -> None:
    await compute.made()
    sandbox = compute.sandbox()
    if compute.preset.sends_launch:
        sandbox.spec.launch_authentication = await compute.launch_document()
    reply = await compute.create(sandbox, bare=True)
    compute.code(reply, "OK", "FAILED_PRECONDITION", when="with an empty sandbox_token")


@check(
    "COMP01-CREATE-01",
    "a create comes to an end before long, however long the sandbox takes",
    profile="lifecycle",
    needs=("lengthy",),
)
async def ends(compute: ComputeBench) -> None:
    await compute.made()
    sandbox = compute.variant("lengthy")
    reply = await compute.create(sandbox)
    compute.hold(
        reply.code != "NO_ANSWER",
        "CreateSandbox of the profile's lengthy template answers within 30 s",
        str(reply),
    )
    if not reply.ok:
        await compute.gone(sandbox.id)


@check("COMP01-CREATE-03", "an id that was deleted can be created again")
async def again_after_delete(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    reply = await compute.delete(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-DEL-01")
    await compute.gone(sandbox.id)
    created = await compute.create(sandbox)
    compute.code(created, "OK", when="of an id that was deleted before")
    found = await got(compute, sandbox.id)
    compute.hold(
        found is not None, "GetSandbox finds an id that was created again", "GetSandbox: NOT_FOUND"
    )
