"""Who is who: the id alone decides, whatever the name says."""

from __future__ import annotations

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance._outcomes import Blocked, Broken, TooSlow
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sandboxes import got, in_list, seen, still_runs, twins


@check("COMP-GET-01", "an unknown id is NOT_FOUND")
async def unknown_id(compute: ComputeBench) -> None:
    reply = await compute.get(compute.fresh_id())
    compute.code(reply, "NOT_FOUND", when="of an id that never existed")


@check("COMP-GET-02", "the name of a living sandbox with another id finds nothing")
async def living_name_with_another_id(compute: ComputeBench) -> None:
    sandbox = await compute.made()
    reply = await compute.get(compute.fresh_id(), sandbox.name)
    when = "of an unknown id with the name of a living sandbox"
    if not reply.ok and reply.code not in {"NOT_FOUND", "FAILED_PRECONDITION"}:
        stranger = await compute.get(compute.fresh_id())
        compute.need(stranger.code == "NOT_FOUND", str(stranger), "COMP-GET-01")
    compute.hold(
        not reply.answer.HasField("sandbox"),
        f"GetSandbox {when} answers NOT_FOUND",
        f"OK with the sandbox of id {reply.answer.sandbox.id!r}",
    )
    empty = await compute.get(compute.fresh_id()) if reply.ok else None
    compute.need(empty is None or not empty.ok, str(empty), "COMP-GET-01")
    compute.code(reply, "NOT_FOUND", "FAILED_PRECONDITION", when=when)


def _same(
    compute: ComputeBench, found: wire.DriverSandbox, made: wire.DriverSandbox, by: str
) -> None:
    compute.hold(
        (found.id, found.name) == (made.id, made.name),
        f"{by} gives id {made.id!r} and name {made.name!r}, as they were created",
        f"id {found.id!r} and name {found.name!r}",
    )


@check("COMP-GET-03.a", "GetSandbox gives id and name byte for byte")
async def get_gives_them_back(compute: ComputeBench) -> None:
    sandbox = await compute.made()
    _same(compute, await seen(compute, sandbox.id), sandbox, "GetSandbox")


@check("COMP-GET-03.b", "ListSandboxes gives id and name byte for byte")
async def list_gives_them_back(compute: ComputeBench) -> None:
    sandbox = await compute.made()
    found = await in_list(compute, sandbox.id)
    if found is None:  # under another id, perhaps
        listed = (await compute.listed()).values()
        found = next((each for each in listed if each.name == sandbox.name), None)
    if found is None:
        raise Blocked("ListSandboxes lacks what was created", "COMP-LIST-01")
    _same(compute, found, sandbox, "ListSandboxes")


@check("COMP-GET-03.c", "the watch gives id and name byte for byte")
async def watch_gives_them_back(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        sandbox = await compute.made()

        def told() -> list[wire.DriverSandbox]:
            shown = [event.sandbox for event in log.events if event.sandbox is not None]
            return [each for each in shown if sandbox.id == each.id or sandbox.name == each.name]

        try:
            await log.until(lambda: bool(told()), LAG, "an event comes", lambda: "none came")
        except Broken:
            raise TooSlow("the watch lacks what was created", "COMP-CREATE-01") from None
        for found in told():
            _same(compute, found, sandbox, "WatchSandboxes")


@check("COMP-GET-03.d", "a name of the greatest length comes back byte for byte")
async def long_names(compute: ComputeBench) -> None:
    name = compute.fresh_name()
    longest = compute.profile.compute.name_max_length
    sandbox = compute.sandbox(name=name + "-" + "x" * max(0, longest - len(name) - 1))
    await compute.made(sandbox)
    _same(compute, await seen(compute, sandbox.id), sandbox, "GetSandbox")


@check("COMP-GET-06.a", "neither id nor name is INVALID_ARGUMENT")
async def neither(compute: ComputeBench) -> None:
    reply = await compute.get("", "")
    compute.code(reply, "INVALID_ARGUMENT", when="with an empty sandbox_id and an empty name")


@check("COMP-GET-06.b", "a name without an id is no sandbox of another name")
async def name_alone(compute: ComputeBench) -> None:
    sandbox = await compute.made()
    reply = await compute.get("", sandbox.name)
    compute.code(
        reply,
        *("OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND"),
        when="with an empty sandbox_id and the name of a living sandbox",
    )
    if reply.ok:
        _same(compute, reply.answer.sandbox, sandbox, "GetSandbox by name")


@check("COMP-IN-02.a", "two sandboxes of one name live in two workspaces")
async def same_name_in_two_workspaces(compute: ComputeBench) -> None:
    first = await compute.made(compute.sandbox(workspace=0))
    second = compute.sandbox(name=first.name, workspace=1)
    elsewhere = await compute.create(compute.sandbox(workspace=1))
    compute.need(elsewhere.ok, str(elsewhere), "COMP-CREATE-10")
    reply = await compute.create(second)
    compute.code(reply, "OK", when="of a name that a sandbox of another workspace has")
    for sandbox in (first, second):
        found = await got(compute, sandbox.id)
        compute.hold(
            found is not None and found.id == sandbox.id,
            f"GetSandbox finds both sandboxes named {first.name!r}, each by its id",
            f"GetSandbox of the one in workspace {sandbox.workspace!r}: "
            + ("NOT_FOUND" if found is None else f"the id {found.id!r}"),
        )


@check("COMP-IN-02.b", "stopping one of two namesakes leaves the other alone", profile="lifecycle")
async def stop_one_namesake(compute: ComputeBench) -> None:
    await compute.can_stop()
    first, second = await twins(compute)
    for stopped, other in ((second, first), (first, second)):  # whichever a name would find
        reply = await compute.stop(stopped.id)
        compute.need(reply.ok, str(reply), "COMP-STOP-01")
        what = f"StopSandbox of the other sandbox named {first.name!r}"
        await still_runs(compute, other, what)
        await compute.halts(stopped.id)
        started = await compute.start(stopped.id)
        compute.need(started.ok, str(started), "COMP-START-01")
        await compute.settles(stopped.id)


@check("COMP-IN-02.c", "deleting one of two namesakes leaves the other alone", profile="lifecycle")
async def delete_one_namesake(compute: ComputeBench) -> None:
    first, second = await twins(compute)
    what = f"DeleteSandbox of the other sandbox named {first.name!r}"
    await _deleted(compute, second)
    await still_runs(compute, first, what)
    third = compute.sandbox(name=first.name, workspace=1)
    await compute.made_settled(third)
    await _deleted(compute, first)
    await still_runs(compute, third, what)


async def _deleted(compute: ComputeBench, sandbox: wire.DriverSandbox) -> None:
    reply = await compute.delete(sandbox.id)
    compute.need(reply.ok and reply.answer.deleted, str(reply), "COMP-DEL-01")


async def _successor(compute: ComputeBench) -> tuple[str, wire.DriverSandbox]:
    """The id of a sandbox that is gone, and one that runs under its name."""
    first = await compute.made()
    reply = await compute.delete(first.id)
    compute.need(reply.ok, str(reply), "COMP-DEL-01")
    await compute.gone(first.id)
    return first.id, await compute.made_settled(compute.sandbox(name=first.name))


@check(
    "COMP-IN-02.d",
    "a stop by an id of old leaves the sandbox of that name alone",
    profile="lifecycle",
)
async def stale_stop(compute: ComputeBench) -> None:
    await compute.can_stop()
    stale, successor = await _successor(compute)
    await compute.stop(stale, successor.name)
    what = f"StopSandbox of a deleted id with the name {successor.name!r}"
    await still_runs(compute, successor, what)


@check(
    "COMP-IN-02.e",
    "a delete by an id of old leaves the sandbox of that name alone",
    profile="lifecycle",
)
async def stale_delete(compute: ComputeBench) -> None:
    stale, successor = await _successor(compute)
    await compute.delete(stale, successor.name)
    what = f"DeleteSandbox of a deleted id with the name {successor.name!r}"
    await still_runs(compute, successor, what)


@check(
    "COMP-IN-02.f",
    "a start by an id of old leaves the sandbox of that name alone",
    profile="lifecycle",
)
async def stale_start(compute: ComputeBench) -> None:
    await compute.can_stop()
    stale, successor = await _successor(compute)
    reply = await compute.stop(successor.id)
    compute.need(reply.ok, str(reply), "COMP-STOP-01")
    await compute.halts(successor.id)
    await compute.start(stale, successor.name)
    found = await seen(compute, successor.id, "COMP-STOP-03")
    compute.hold(
        compute.halted(found),
        f"after StartSandbox of a deleted id with the name {successor.name!r} the sandbox of that"
        " name is still Stopped",
        compute.described(found),
    )
