"""EnsureWorkspace and DeleteWorkspace, which a driver may do without."""

from __future__ import annotations

import asyncio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import Reply
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench

_AT_ONCE = 6


async def _ensure(compute: ComputeBench, workspace: str) -> Reply[wire.EnsureWorkspaceResponse]:
    request = wire.EnsureWorkspaceRequest(workspace=workspace)
    return await compute.caller.ask("EnsureWorkspace", request, wire.EnsureWorkspaceResponse)


async def _delete(compute: ComputeBench, workspace: str) -> Reply[wire.DeleteWorkspaceResponse]:
    request = wire.DeleteWorkspaceRequest(workspace=workspace)
    return await compute.caller.ask("DeleteWorkspace", request, wire.DeleteWorkspaceResponse)


async def _ensured(compute: ComputeBench) -> str:
    """A workspace that was made for the check."""
    name = compute.fresh_name()
    reply = await _ensure(compute, name)
    compute.apply(reply.code != "UNIMPLEMENTED", "EnsureWorkspace is UNIMPLEMENTED")
    compute.apply(reply.code != "PERMISSION_DENIED", "the driver may not make workspaces")
    compute.need(reply.ok, str(reply), "COMP-WS-01")
    return name


async def _can_delete(compute: ComputeBench) -> None:
    able = await compute.implements("DeleteWorkspace")
    compute.apply(able, "DeleteWorkspace is UNIMPLEMENTED")


@check("COMP-WS-01.a", "EnsureWorkspace does its work or is UNIMPLEMENTED")
async def ensure(compute: ComputeBench) -> None:
    name = compute.fresh_name()
    reply = await _ensure(compute, name)
    try:
        compute.code(
            reply, "OK", "UNIMPLEMENTED", "PERMISSION_DENIED", when="of a workspace that is new"
        )
    finally:
        await _delete(compute, name)


@check("COMP-WS-01.b", "DeleteWorkspace does its work or is UNIMPLEMENTED")
async def delete(compute: ComputeBench) -> None:
    name = compute.fresh_name()
    made = await _ensure(compute, name)
    compute.need(made.code in {"OK", "UNIMPLEMENTED", "PERMISSION_DENIED"}, str(made), "COMP-WS-01")
    reply = await _delete(compute, name)
    compute.code(reply, "OK", "UNIMPLEMENTED", when="of a workspace that was just ensured")


@check("COMP-WS-02.a", "EnsureWorkspace can be repeated, also at the same time")
async def ensure_again(compute: ComputeBench) -> None:
    name = await _ensured(compute)
    try:
        replies = await asyncio.gather(*(_ensure(compute, name) for _ in range(_AT_ONCE)))
        for reply in replies:
            compute.code(reply, "OK", when=f"of a workspace that exists, {_AT_ONCE} at once,")
    finally:
        await _delete(compute, name)


@check("COMP-WS-02.b", "an empty workspace is a mistake, not a fault")
async def ensure_nothing(compute: ComputeBench) -> None:
    await _delete(compute, await _ensured(compute))
    reply = await _ensure(compute, "")
    # A driver to which workspaces mean nothing need not look at the name.
    compute.code(
        reply,
        *("INVALID_ARGUMENT", "OK", "PERMISSION_DENIED"),
        when="of an empty workspace, if it does not ignore it,",
    )


@check("COMP-WS-03.a", "DeleteWorkspace of what is not there is OK")
async def delete_unknown(compute: ComputeBench) -> None:
    await _can_delete(compute)
    reply = await _delete(compute, compute.fresh_name())
    compute.code(reply, "OK", when="of a workspace that never existed")


@check("COMP-WS-03.b", "DeleteWorkspace can be repeated")
async def delete_again(compute: ComputeBench) -> None:
    await _can_delete(compute)
    name = await _ensured(compute)
    first = await _delete(compute, name)
    compute.need(first.ok, str(first), "COMP-WS-01")
    compute.code(await _delete(compute, name), "OK", when="for the second time")


@check("COMP-WS-03.c", "DeleteWorkspace leaves other workspaces alone", profile="security")
async def delete_the_right_one(compute: ComputeBench) -> None:
    await _can_delete(compute)
    sandbox = await compute.made_settled(compute.sandbox(workspace=1))
    # A part of the other's name, and nothing of its own.
    reply = await _delete(compute, sandbox.workspace[:-1])
    compute.need(reply.ok, str(reply), "COMP-WS-03")
    seen = await compute.observed(sandbox.id)
    compute.hold(
        seen is not None and not seen.status.deleting,
        f"DeleteWorkspace of {sandbox.workspace[:-1]!r} leaves a sandbox of workspace"
        f" {sandbox.workspace!r} alone",
        "GetSandbox does not find it" if seen is None else "it is being deleted",
    )
