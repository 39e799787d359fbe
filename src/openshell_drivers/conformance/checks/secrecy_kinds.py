"""Each kind of secret by itself, wherever it may show."""

from __future__ import annotations

from functools import partial
from typing import Final

from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.benches.store import StoreBench
from openshell_drivers.conformance.checks._evidence import Evidence
from openshell_drivers.conformance.checks._secrets import (
    CREDENTIAL,
    LAUNCH,
    TOKEN,
    gathered,
    planted,
)
from openshell_drivers.conformance.checks.secrecy import named

_LONGEST: Final = 2_000
_LAYOUT: Final = frozenset("\n\t")

_check = partial(check, profile="security", needs=("spawned",), once=True, limit=600.0)


@_check("COMP-VAL-08", "errors of validate and create hold no secret")
async def refusals(bench: ComputeBench) -> None:
    found = await gathered(bench)
    for rpc, text in found.errors:
        labels = found.in_any_form(text.encode())
        if rpc in {"ValidateSandboxCreate", "CreateSandbox"}:
            bench.hold(
                not labels, f"an error of {rpc} names no secret", f"{named(labels)} stands in it"
            )


@_check("COMP-SEC-01.a", "the sandbox token shows nowhere")
async def token(bench: ComputeBench) -> None:
    await _nowhere(bench, TOKEN)


@check(
    "COMP-SEC-01.b",
    "the sandbox token is in no label, argument or plain variable of the workload",
    profile="security",
    needs=("workload",),
)
async def token_in_workload(bench: ComputeBench) -> None:
    found = Evidence()
    sandbox = planted(bench, found)
    sandbox.spec.environment["OPENSHELL_SANDBOX_TOKEN"] = "from-the-user"
    sandbox.spec.environment["OPENSHELL_SANDBOX_TOKEN_FILE"] = "/from/the/user"
    await bench.made_settled(sandbox)
    given = await bench.backend.workload(sandbox.id)
    labels = [each for each in found.in_any_form(repr(given).encode()) if each == TOKEN]
    bench.hold(
        not labels,
        "the workload has no sandbox token in its environment, command or labels",
        f"{named(labels)} stands there; it belongs into a file",
    )
    environment = given.get("environment", {})
    for name in ("OPENSHELL_SANDBOX_TOKEN", "OPENSHELL_SANDBOX_TOKEN_FILE"):
        value = str(environment.get(name, ""))
        bench.hold(
            "the-user" not in value and "the/user" not in value,
            f"the user's own {name} does not reach the workload",
            f"{name} has the user's value there",
        )


@_check("COMP-SEC-02", "observations do not give the spec back")
async def no_spec(bench: ComputeBench) -> None:
    found = await gathered(bench)
    for rpc, spec in found.specs:
        labels = found.in_any_form(spec)
        bench.hold(
            not labels,
            f"{rpc} gives no `spec` back, or one without token, launch authentication and"
            " environment",
            f"`spec` has {named(labels)}",
        )
    if any(spec for _, spec in found.specs):
        bench.note("observations have a `spec`, which no gateway reads")


@_check("COMP-STAT-09", "messages of conditions are short, printable and without secrets")
async def messages(bench: ComputeBench) -> None:
    found = await gathered(bench)
    for message in found.messages:
        labels = found.in_any_form(message.encode())
        bench.hold(
            not labels, "no condition's message has a secret", f"{named(labels)} stands in one"
        )
        bench.hold(
            len(message) <= _LONGEST,
            f"a condition's message has at most {_LONGEST} characters",
            f"one has {len(message)}",
        )
        odd = [each for each in message if not each.isprintable() and each not in _LAYOUT]
        bench.hold(
            not odd,
            "a condition's message is printable",
            f"one has {[hex(ord(c)) for c in odd][:5]}",
        )


@_check("COMP01-LAUNCH-02.a", "launch authentication shows nowhere")
async def launch(bench: ComputeBench) -> None:
    await _nowhere(bench, *LAUNCH)


@check(
    "COMP01-LAUNCH-02.b",
    "the supervisor's part of launch authentication does not reach the workload",
    profile="security",
    needs=("workload",),
)
async def launch_in_workload(bench: ComputeBench) -> None:
    found = Evidence()
    sandbox = planted(bench, found)
    await bench.made_settled(sandbox)
    given = await bench.backend.workload(sandbox.id)
    labels = [each for each in found.in_any_form(repr(given).encode()) if each in LAUNCH]
    bench.hold(
        not labels,
        "the workload has nothing of `supervisor` in launch_authentication in its environment,"
        " command or labels",
        f"{named(labels)} stands there",
    )


@_check("COMP01-AUTH-02.s", "a credential that was refused shows nowhere")
async def credential(bench: ComputeBench) -> None:
    await _nowhere(bench, CREDENTIAL)


@_check("CREDU-SEC-01.b", "stored values show in no log and no error", service="credential-store")
async def stored_values(bench: StoreBench) -> None:
    await _nowhere(bench)


@_check("CREDF-RES-04", "tokens show in no log, no error and no list", service="credentials")
async def tokens(bench: CredentialsBench) -> None:
    await _nowhere(bench)


async def _nowhere(bench: Bench, *kinds: str) -> None:
    """Fail if secrets of these kinds, or any, show in logs, errors or observations."""
    found = await gathered(bench)
    places = [
        ("the driver's log", found.log + found.error_log),
        *((f"an error of {rpc}", text.encode()) for rpc, text in found.errors),
        *((f"what {rpc} gives", data) for rpc, data in found.seen),
    ]
    for where, data in places:
        labels = [each for each in found.in_any_form(data) if not kinds or each in kinds]
        bench.hold(
            not labels,
            f"{' and '.join(kinds) or 'no secret'} does not show in logs, errors or observations"
            if kinds
            else "no secret shows in logs, errors or lists",
            f"{named(labels)} stands in {where}",
        )
