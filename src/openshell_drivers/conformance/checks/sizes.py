"""How long answers get."""

from __future__ import annotations

from typing import Final

from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance._outcomes import NotApplicable
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sight import until_true

#: What gateways let through for one sandbox: 128 variables of 8 KiB.
_VARIABLES: Final = 120
_LENGTH: Final = 8000
_COUNT: Final = 5
#: What gateways take in.
_LIMIT: Final = 4 * 1024 * 1024


@check(
    "COMP-SOCK-10",
    "answers stay below 4 MiB, however much the sandboxes were given",
    profile="resilience",
    own=True,
    once=True,
)
async def short_answers(compute: ComputeBench) -> None:
    made = []
    for _ in range(_COUNT):
        sandbox = compute.sandbox()
        for number in range(_VARIABLES):
            sandbox.spec.environment[f"CONFORMANCE_{number}"] = "x" * _LENGTH
        reply = await compute.create(sandbox)
        if reply.code in {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}:
            raise NotApplicable(f"the driver refuses an environment of 1 MB: {reply.code}")
        compute.need(reply.ok, str(reply), "COMP-CREATE-01")
        made.append(sandbox)
    async with compute.watching() as log:
        listed = await compute.list_all()
        compute.hold(
            listed.code not in {"RESOURCE_EXHAUSTED", "UNREADABLE"},
            f"ListSandboxes with {_COUNT} sandboxes, each with an environment of 1 MB, is OK: "
            "it holds no specs",
            str(listed),
        )
        compute.need(listed.ok, str(listed), "COMP-LIST-01.a")
        await until_true(lambda: all(log.of(each.id) for each in made), LAG)
        longest = max((len(event.raw) for event in log.events), default=0)
        compute.hold(
            len(listed.raw) / _COUNT < _VARIABLES * _LENGTH / 2,
            "the list does not hold what the sandboxes were given",
            f"{len(listed.raw)} bytes in the list of {len(listed.answer.sandboxes)}",
        )
        compute.hold(
            longest < _LIMIT, f"an event has less than {_LIMIT} bytes", f"one has {longest}"
        )
        if longest > _VARIABLES * _LENGTH / 2:
            compute.note("events hold what the sandboxes were given, which no gateway reads")
