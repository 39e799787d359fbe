"""The name beside an id is a hint, and may be wrong."""

from __future__ import annotations

from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sandboxes import still_runs

_WHEN = "of a living id with a name that it does not have"


@check("COMP01-IN-05.a", "GetSandbox finds an id whatever the name says")
async def get_with_a_wrong_name(compute: ComputeBench) -> None:
    sandbox = await compute.made_going()
    for name in (compute.fresh_name(), ""):
        reply = await compute.get(sandbox.id, name)
        compute.code(reply, "OK", when=f"{_WHEN} ({name!r})")
        found = reply.answer.sandbox
        compute.hold(
            found.id == sandbox.id, f"GetSandbox {_WHEN} gives that id", f"id {found.id!r}"
        )


@check("COMP01-IN-05.b", "StopSandbox stops an id whatever the name says", profile="lifecycle")
async def stop_with_a_wrong_name(compute: ComputeBench) -> None:
    await compute.can_stop()
    other = await compute.made_going()
    sandbox = await compute.made_going()
    reply = await compute.stop(sandbox.id, other.name)
    if not reply.ok:
        usual = await compute.stop(sandbox.id)
        compute.need(usual.ok, str(usual), "COMP-STOP-01")
    compute.code(reply, "OK", when="of a living id with the name of another living sandbox")
    await still_runs(compute, other, "StopSandbox of one id with the name of another")
    await compute.halts(sandbox.id)


@check("COMP01-IN-05.c", "StartSandbox starts an id whatever the name says", profile="lifecycle")
async def start_with_a_wrong_name(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    reply = await compute.start(sandbox.id, compute.fresh_name())
    if not reply.ok:
        usual = await compute.start(sandbox.id)
        compute.need(usual.ok, str(usual), "COMP-START-01")
    compute.code(reply, "OK", when=_WHEN)
    await compute.settles(sandbox.id)


@check("COMP01-IN-05.d", "DeleteSandbox deletes an id whatever the name says")
async def delete_with_a_wrong_name(compute: ComputeBench) -> None:
    other = await compute.made_going()
    sandbox = await compute.made_going()
    reply = await compute.delete(sandbox.id, other.name)
    when = "of a living id with the name of another living sandbox"
    if not reply.ok:
        usual = await compute.delete(sandbox.id)
        compute.need(usual.ok, str(usual), "COMP-DEL-01")
    compute.code(reply, "OK", when=when)
    compute.hold(
        reply.answer.deleted, f"DeleteSandbox {when} answers deleted=true", "deleted=false"
    )
    await still_runs(compute, other, "DeleteSandbox of one id with the name of another")
    await compute.gone(sandbox.id)
