"""Who is who: the id alone decides, whatever the name says."""

from __future__ import annotations

from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench


@check("COMP-GET-01", "an unknown id is NOT_FOUND")
async def unknown_id(compute: ComputeBench) -> None:
    reply = await compute.get(compute.fresh_id())
    compute.code(reply, "NOT_FOUND", when="of an id that never existed")


@check("COMP-GET-02", "the name of a living sandbox with another id finds nothing")
async def living_name_with_another_id(compute: ComputeBench) -> None:
    sandbox = await compute.made()
    reply = await compute.get(compute.fresh_id(), sandbox.name)
    compute.code(
        reply,
        *("NOT_FOUND", "FAILED_PRECONDITION"),
        when="of an unknown id with the name of a living sandbox",
    )


@check("COMP-GET-03", "id and name come back byte for byte")
async def id_and_name_come_back(compute: ComputeBench) -> None:
    sandbox = await compute.made()
    seen = await compute.observed(sandbox.id)
    compute.need(seen is not None, "Get does not find what was created", "COMP-CREATE-01")
    assert seen is not None
    compute.hold(
        (seen.id, seen.name) == (sandbox.id, sandbox.name),
        f"GetSandbox gives id {sandbox.id!r} and name {sandbox.name!r}, as they were created",
        f"id {seen.id!r} and name {seen.name!r}",
    )
