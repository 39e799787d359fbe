"""What reaches the software in a sandbox, as the platform can tell."""

from __future__ import annotations

from typing import Any, Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance._outcomes import NotTestable
from openshell_drivers.conformance.benches.compute import ComputeBench

#: With everything that a shell or a join would spoil.
_COMMAND: Final = ("/bin/sh", "-c", 'sleep 3600 # "quoted"  $HOME', "two words", "", "ümlaut")


async def _given(compute: ComputeBench, sandbox: wire.DriverSandbox) -> dict[str, Any]:
    await compute.made_settled(sandbox)
    return await compute.backend.workload(sandbox.id)


def _environment(given: dict[str, Any]) -> dict[str, Any]:
    environment = given.get("environment")
    if not isinstance(environment, dict):
        raise NotTestable("the verb workload does not tell the environment")
    return environment


@check(
    "COMP-IN-03.a",
    "the sandbox's environment beats the template's",
    profile="lifecycle",
    needs=("workload",),
)
async def environment_order(compute: ComputeBench) -> None:
    sandbox = compute.sandbox()
    sandbox.spec.template.environment["CONF_BOTH"] = "of the template"
    sandbox.spec.template.environment["CONF_TEMPLATE"] = "of the template"
    sandbox.spec.environment["CONF_BOTH"] = "of the spec"
    sandbox.spec.environment["CONF_SPEC"] = "of the spec"
    environment = _environment(await _given(compute, sandbox))
    wanted = {
        "CONF_TEMPLATE": "of the template",
        "CONF_SPEC": "of the spec",
        "CONF_BOTH": "of the spec",
    }
    found = {key: environment.get(key) for key in wanted}
    compute.hold(found == wanted, f"the workload's environment has {wanted}", f"{found}")


@check(
    "COMP-IN-03.b",
    "the driver's own variables beat the user's",
    profile="security",
    needs=("workload",),
)
async def reserved_variables(compute: ComputeBench) -> None:
    sandbox = compute.sandbox()
    evil = "conf-of-the-user"
    sandbox.spec.environment["OPENSHELL_SANDBOX_ID"] = evil
    sandbox.spec.template.environment["OPENSHELL_SANDBOX_ID"] = evil
    if compute.line != "F":  # the fork has no command to hand on
        sandbox.spec.environment["OPENSHELL_MAIN_PROCESS_SPEC"] = evil
    reply = await compute.create(sandbox)
    if reply.code in {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}:
        plain = await compute.create_with_room(compute.sandbox())
        compute.need(plain.ok, str(plain), "COMP-CREATE-01")
        compute.note(f"reserved variables are refused with {reply.code}")
        return
    compute.need(reply.ok, str(reply), "COMP-CREATE-01")
    await compute.settles(sandbox.id)
    environment = _environment(await compute.backend.workload(sandbox.id))
    taken = sorted(key for key, value in environment.items() if value == evil)
    compute.hold(
        not taken,
        "a user's own values of the driver's variables (OPENSHELL_SANDBOX_ID, where there is a"
        " command OPENSHELL_MAIN_PROCESS_SPEC) do not reach the workload",
        f"{', '.join(taken)} has the user's value",
    )


@check(
    "COMP-IN-08.a",
    "the command reaches the sandbox word by word",
    profile="lifecycle",
    needs=("workload",),
)
async def command(compute: ComputeBench) -> None:
    sandbox = compute.sandbox()
    sandbox.spec.command[:] = _COMMAND
    given = await _given(compute, sandbox)
    if "command" not in given:
        raise NotTestable("the verb workload does not tell the command")
    compute.hold(
        given["command"] == list(_COMMAND),
        f"the supervisor gets the command {list(_COMMAND)}",
        f"{given['command']}",
    )


@check("COMP-IN-08.b", "tty reaches the sandbox", profile="lifecycle", needs=("workload",))
async def tty(compute: ComputeBench) -> None:
    for wish in (True, False):
        sandbox = compute.sandbox()
        sandbox.spec.tty = wish
        given = await _given(compute, sandbox)
        if "tty" not in given:
            raise NotTestable("the verb workload does not tell tty")
        compute.hold(
            given["tty"] is wish,
            f"the supervisor gets tty {str(wish).lower()}, as CreateSandbox did",
            f"tty {given['tty']}",
        )


@check(
    "COMP01-IN-04",
    "the hint that somebody is going to attach reaches the sandbox",
    profile="lifecycle",
    needs=("workload",),
)
async def attachment(compute: ComputeBench) -> None:
    for wish in (True, False):
        sandbox = compute.sandbox()
        sandbox.spec.await_main_process_attachment = wish
        given = await _given(compute, sandbox)
        if "await_main_process_attachment" not in given:
            raise NotTestable("the verb workload does not tell await_main_process_attachment")
        compute.hold(
            given["await_main_process_attachment"] is wish,
            f"the supervisor gets await_main_process_attachment {str(wish).lower()}",
            f"{given['await_main_process_attachment']}",
        )
