"""ValidateSandboxCreate: whether it says what CreateSandbox would do, and does nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sandboxes import quick

#: Seconds in which an effect of a mere validation would show.
EFFECT: Final = 0.8
#: How a user's mistake is told: all else reads as a fault of the service.
TOLD: Final = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")
_QUICK: Final = 1.0
_TRIES: Final = 3
#: More GPUs than any platform has.
TOO_MANY_GPUS: Final = 1_000_000


async def accepted(compute: ComputeBench, sandbox: wire.DriverSandbox) -> None:
    """`Blocked` unless the driver would make the sandbox."""
    reply = await compute.validate(sandbox)
    compute.need(reply.ok, str(reply), "COMP-VAL-01")


@check("COMP-VAL-01", "a plain sandbox is valid")
async def plain_sandbox(compute: ComputeBench) -> None:
    sandbox = compute.sandbox()
    reply = await compute.validate(sandbox)
    if reply.code != "UNIMPLEMENTED" and not reply.ok and compute.line != "F":
        await compute.mint(sandbox.spec)
        with_token = await compute.validate(sandbox)
        compute.need(not with_token.ok, str(reply), "COMP-VAL-05")
    compute.code(reply, "OK", when="of a plain sandbox (the profile's template)")


@check("COMP-VAL-02.a", "a validation leaves nothing to be seen")
async def nothing_seen(compute: ComputeBench) -> None:
    sandbox = compute.sandbox()
    async with compute.watching() as log:
        await accepted(compute, sandbox)
        await anyio.sleep(EFFECT)
        told = [event.kind for event in log.of(sandbox.id)]
    compute.remember(sandbox)
    expected = "after ValidateSandboxCreate alone {} of that id"
    compute.hold(not told, expected.format("the watch says nothing"), f"the watch says {told}")
    found = await compute.observed(sandbox.id)
    compute.hold(found is None, expected.format("GetSandbox finds nothing"), "GetSandbox finds it")
    listed = await compute.listed()
    absent = sandbox.id not in listed
    compute.hold(absent, expected.format("ListSandboxes has nothing"), "ListSandboxes has it")


@check(
    "COMP-VAL-02.b",
    "a validation leaves nothing at the platform",
    needs=("resources",),
    own=True,
    once=True,
)
async def nothing_left(compute: ComputeBench) -> None:
    before = await compute.backend.resources()
    sandbox = compute.sandbox()
    compute.remember(sandbox)
    await accepted(compute, sandbox)
    await anyio.sleep(EFFECT)
    after = await compute.backend.resources()
    more = sorted(set(after) - set(before))
    compute.hold(
        not more,
        "after ValidateSandboxCreate alone the platform holds what it held before",
        f"it also holds {', '.join(more[:5])}",
    )


@check("COMP-VAL-03", "a validation of nothing is INVALID_ARGUMENT")
async def no_sandbox(compute: ComputeBench) -> None:
    reply = await compute.validate(None)
    compute.need(reply.code != "UNIMPLEMENTED", str(reply), "COMP-VAL-01")
    compute.code(reply, "INVALID_ARGUMENT", when="of a request without sandbox")


def _quantity(spec: wire.DriverSandboxSpec) -> None:
    spec.template.resources.cpu_limit = "three"


def _negative(spec: wire.DriverSandboxSpec) -> None:
    spec.template.resources.memory_limit = "-1Gi"


def _platform(spec: wire.DriverSandboxSpec) -> None:
    spec.template.platform_config["conformance_unknown_key"] = "x"


def _ill_typed(spec: wire.DriverSandboxSpec) -> None:
    spec.template.platform_config["runtime_class_name"] = 7


def _driver(spec: wire.DriverSandboxSpec) -> None:
    spec.template.driver_config["conformance_unknown_key"] = "x"


def _gpus(spec: wire.DriverSandboxSpec) -> None:
    spec.resource_requirements.gpu.count = TOO_MANY_GPUS


def _no_gpu(spec: wire.DriverSandboxSpec) -> None:
    spec.resource_requirements.gpu.count = 0


def _agent_socket(spec: wire.DriverSandboxSpec) -> None:
    spec.template.agent_socket_path = "/run/conformance/agent.sock"


def _namespaces(spec: wire.DriverSandboxSpec) -> None:
    spec.template.user_namespaces = True


def _long_image(spec: wire.DriverSandboxSpec) -> None:
    spec.template.image = "conformance/" + "x" * 2000


#: What a driver may well refuse, and why.
DOUBTFUL: Final[dict[str, Callable[[wire.DriverSandboxSpec], None]]] = {
    "template.resources.cpu_limit 'three'": _quantity,
    "template.resources.memory_limit '-1Gi'": _negative,
    "an unknown key in template.platform_config": _platform,
    "a number as platform_config.runtime_class_name": _ill_typed,
    "an unknown key in template.driver_config": _driver,
    f"resource_requirements.gpu.count {TOO_MANY_GPUS}": _gpus,
    "resource_requirements.gpu.count 0": _no_gpu,
    "template.agent_socket_path": _agent_socket,
    "template.user_namespaces true": _namespaces,
    "an image name of 2000 characters": _long_image,
}


#: Those that no platform takes: an error that says nothing is about them, too.
_PLAINLY_WRONG: Final = (_quantity, _negative, _ill_typed)
_TOLD_LATE: Final = (*TOLD, "OUT_OF_RANGE", "UNIMPLEMENTED")


@check("COMP-VAL-04", "a user's mistake is told as one")
async def mistakes_told(compute: ComputeBench) -> None:
    await accepted(compute, compute.sandbox())
    for what, change in DOUBTFUL.items():
        sandbox = compute.sandbox()
        change(sandbox.spec)
        reply = await compute.validate(sandbox)
        compute.code(
            reply,
            *("OK", *TOLD),
            when=f"of a sandbox with {what}, if it does not accept that,",
        )


@check("COMP-VAL-05", "a validation needs no token")
async def no_token(compute: ComputeBench) -> None:
    sandbox = compute.sandbox()
    reply = await compute.validate(sandbox)
    if reply.ok:
        return
    sandbox.spec.sandbox_token = await compute.token("sandbox token")
    with_token = await compute.validate(sandbox)
    compute.need(with_token.ok, str(with_token), "COMP-VAL-01")
    compute.fail(
        "ValidateSandboxCreate of a sandbox without sandbox_token answers OK, as it does with one",
        str(reply),
    )


@check("COMP-VAL-06.a", "what validation accepts can be created")
async def accepted_means_creatable(compute: ComputeBench) -> None:
    plain = await compute.create_with_room(compute.sandbox())
    compute.need(plain.ok, str(plain), "COMP-CREATE-01")
    for what, change in DOUBTFUL.items():
        sandbox = compute.sandbox()
        change(sandbox.spec)
        if not (await compute.validate(sandbox)).ok:
            continue
        again = compute.sandbox()
        again.spec.CopyFrom(sandbox.spec)
        reply = await compute.create(again)
        late = (*_TOLD_LATE, "INTERNAL", "UNKNOWN") if change in _PLAINLY_WRONG else _TOLD_LATE
        compute.hold(
            reply.code not in late,
            f"CreateSandbox accepts {what}, since ValidateSandboxCreate does",
            str(reply),
        )


@check("COMP-VAL-06.b", "what validation refuses cannot be created")
async def refused_means_not_creatable(compute: ComputeBench) -> None:
    refused = 0
    doubtful = {
        "a sandbox without an id": compute.sandbox(id=""),
        "a sandbox without a name": compute.sandbox(name=""),
    }
    for what, change in DOUBTFUL.items():
        doubtful[what] = compute.sandbox()
        change(doubtful[what].spec)
    for what, sandbox in doubtful.items():
        validated = await compute.validate(sandbox)
        if validated.code not in TOLD:
            continue
        refused += 1
        reply = await compute.create(sandbox)
        compute.hold(
            not reply.ok,
            f"CreateSandbox refuses {what}, since ValidateSandboxCreate does: {validated}",
            "CreateSandbox: OK",
        )
    compute.apply(refused, "ValidateSandboxCreate refuses nothing that the suite tries")


@check("COMP-VAL-07", "a validation is quick")
async def soon_answered(compute: ComputeBench) -> None:
    replies = [await compute.validate(compute.sandbox()) for _ in range(_TRIES)]
    compute.need(replies[0].ok, str(replies[0]), "COMP-VAL-01")
    quick(compute, replies, _QUICK)
