"""Where secrets must not show: logs, errors, observations, processes, files."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from openshell_drivers.conformance._checks import ServiceName, check
from openshell_drivers.conformance._outcomes import NotTestable
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.benches.store import StoreBench
from openshell_drivers.conformance.checks._evidence import FORGED, TERMINAL, Evidence, end
from openshell_drivers.conformance.checks._secrets import (
    SPEC_VALUE,
    STORED,
    TEMPLATE_VALUE,
    gathered,
    planted,
)

_ALL: Final[tuple[ServiceName, ...]] = ("compute", "credential-store", "credentials")
_UPSTREAM: Final[tuple[ServiceName, ...]] = ("compute", "credential-store")
_TRACES: Final = re.compile(
    rb"Traceback \(most recent call last\)|^panic: |^goroutine \d+ |thread '[^']*' panicked",
    re.MULTILINE,
)

_check = partial(check, profile="security", needs=("spawned",), once=True, limit=600.0)
Function = Callable[[Any], Awaitable[None]]


def _each(
    clause: str, title: str, services: tuple[ServiceName, ...] = _ALL
) -> Callable[[Function], Function]:
    """A check for each service, lettered in their order."""

    def register(function: Function) -> Function:
        for letter, service in zip("abc", services, strict=False):
            _check(f"{clause}.{letter}", title, service=service)(function)
        return function

    return register


def named(labels: list[str]) -> str:
    """What was found, in words."""
    return " and ".join(dict.fromkeys(labels))


@_each("SEC-LOG-01", "no secret shows in the log")
async def quiet_log(bench: Bench) -> None:
    if not (bench.profile.target.log_level or bench.instance.target.verbose):
        bench.note("target.log_level is not in the profile: the log has only one level")
    found = await gathered(bench, verbose=False)
    labels = found.plain(found.log)
    bench.hold(
        not labels,
        "after ordinary calls no secret that was sent stands in the driver's output or log",
        f"{named(labels)} stands there",
    )


@_each("SEC-LOG-02", "no secret shows in the log at its most verbose level")
async def verbose_log(bench: Bench) -> None:
    found = await gathered(bench)
    labels = found.plain(found.log)
    bench.hold(
        not labels,
        "after ordinary calls no secret that was sent stands in the driver's log, at its most"
        " verbose level",
        f"{named(labels)} stands there",
    )


@_each("SEC-LOG-03", "no secret shows in the log when calls go wrong")
async def error_log(bench: Bench) -> None:
    found = await gathered(bench)
    labels = found.plain(found.error_log)
    bench.hold(
        not labels,
        "after calls that were refused or could not be read no secret that was sent stands in the"
        " driver's log",
        f"{named(labels)} stands there",
    )


@_each("SEC-FORM-01", "no secret shows in the log encoded or in part")
async def other_forms(bench: Bench) -> None:
    found = await gathered(bench)
    log = found.log + found.error_log
    labels = [label for label in found.in_any_form(log) if label not in found.plain(log)]
    bench.hold(
        not labels,
        "no secret that was sent stands in the driver's log as base64, hex or escaped, and no 12"
        " bytes of one",
        f"{named(labels)} stands there in another form",
    )


@_each("SEC-ERR-01", "no secret shows in an error")
async def errors(bench: Bench) -> None:
    found = await gathered(bench)
    for rpc, text in found.errors:
        labels = found.in_any_form(text.encode())
        bench.hold(
            not labels,
            f"an error of {rpc} has no secret in its message, details or trailing metadata",
            f"{named(labels)} stands in it",
        )


@_check("SEC-OBS-01", "no secret shows in an observation")
async def observations(bench: ComputeBench) -> None:
    found = await gathered(bench)
    for rpc, data in found.seen:
        labels = found.in_any_form(data)
        bench.hold(
            not labels,
            f"what {rpc} gives has no secret in status, conditions, events or labels",
            f"{named(labels)} stands in it",
        )


@_each("SEC-PROC-01", "no secret shows in a command line", _UPSTREAM)
async def command_lines(bench: Bench) -> None:
    found = await gathered(bench)
    labels = _among(found, found.commands)
    bench.hold(
        not labels,
        "no token and no stored value stands in the command line of the driver or of a process that"
        " it started",
        f"{named(labels)} stands in one",
    )


@_each("SEC-PROC-02", "no secret shows in a process's environment", _UPSTREAM)
async def environments(bench: Bench) -> None:
    found = await gathered(bench)
    labels = _among(found, found.environments)
    bench.hold(
        not labels,
        "no token and no stored value stands in the environment of the driver or of a process that"
        " it started",
        f"{named(labels)} stands in one",
    )


def _among(found: Evidence, texts: set[bytes]) -> list[str]:
    """Tokens and stored values; a workload's own environment is no secret from itself."""
    labels = [label for text in texts for label in found.in_any_form(text)]
    return [label for label in labels if label not in {SPEC_VALUE, TEMPLATE_VALUE}]


@_each("SEC-FILE-01", "no file with a secret can be read by others", _UPSTREAM)
async def files(bench: Bench) -> None:
    found = await gathered(bench)
    bench.hold(
        not found.open_files,
        "a file that holds a secret is never readable by other users",
        "; ".join(f"{name} has {named(sorted(has))}" for name, has in found.open_files.items()),
    )


@_check("SEC-FILE-02", "a deleted value is in no file", service="credential-store")
async def files_after_delete(bench: StoreBench) -> None:
    found = await gathered(bench)
    bench.hold(
        not found.left,
        "after DeleteCredential, and the end of the process, a value is in no file of the driver's",
        "; ".join(f"{name} has {named(sorted(has))}" for name, has in found.left.items()),
    )


@_each("SEC-HOST-01", "text from requests cannot forge log lines")
async def forged_lines(bench: Bench) -> None:
    found = await gathered(bench)
    log = found.log + found.error_log
    bench.hold(
        not re.search(rb"^" + FORGED.encode(), log, re.MULTILINE),
        "a line break in a name or id from a request is escaped in the log",
        "what stood behind it begins a line of its own",
    )
    bench.hold(
        TERMINAL.encode() not in log,
        "control characters from a request are escaped in the log",
        "an escape sequence for terminals stands in it",
    )


@_each("PROC-LOG-01", "ordinary calls leave no stack trace in the log")
async def traces(bench: Bench) -> None:
    found = await gathered(bench)
    trace = _TRACES.search(found.log)
    bench.hold(
        trace is None,
        "after ordinary calls there is no stack trace in the log",
        f"{trace[0].decode() if trace else ''!r} stands in it",
    )


_outage = partial(check, profile="security", needs=("spawned", "outage"), own=True, once=True)


@_outage("SEC-LOG-03.d", "no secret shows in the log while the platform is down")
async def outage_log(bench: ComputeBench) -> None:
    found = Evidence()
    sandbox = planted(bench, found)
    async with bench.backend.outage():
        found.heard(await bench.create(sandbox))
    await _judge_outage(bench, found)


@_outage(
    "SEC-LOG-03.e",
    "no stored value shows in the log while the backend is down",
    service="credential-store",
)
async def store_outage_log(bench: StoreBench) -> None:
    found = Evidence()
    value = found.plant(bench, STORED)
    kept = await bench.kept(None, value)
    async with bench.backend.outage():
        found.heard(await bench.store(bench.slot(), value))
        found.heard(await bench.store(kept.slot, value, existing=kept.handle))
        found.heard(await bench.resolve(bench.item(kept)))
    await _judge_outage(bench, found)


@_outage(
    "SEC-LOG-03.f", "no token shows in the log while the issuer is down", service="credentials"
)
async def credentials_outage_log(bench: CredentialsBench) -> None:
    if not bench.profile.credentials.known:
        raise NotTestable("credentials.known, names that the driver can resolve")
    found = Evidence()
    first = await bench.resolve(bench.known_name)
    bench.need(first.ok and first.answer.token, str(first), "CREDF-RES-01")
    found.secrets.append(("a token", first.answer.token))
    async with bench.backend.outage():
        for name in bench.profile.credentials.known:
            found.heard(await bench.resolve(name))
    await _judge_outage(bench, found)


async def _judge_outage(bench: Bench, found: Evidence) -> None:
    for rpc, text in found.errors:
        labels = found.in_any_form(text.encode())
        bench.hold(
            not labels, f"an error of {rpc} in an outage has no secret", f"{named(labels)} is in it"
        )
    await bench.clean()
    await end(bench.instance)
    labels = found.in_any_form(bench.instance.log())
    bench.hold(
        not labels,
        "after calls that failed in an outage no secret that was sent stands in the driver's log",
        f"{named(labels)} stands there",
    )
