"""Reports as a run would make them: four gateways, some 150 checks, every outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias, get_args

from openshell_drivers.conformance.report.model import (
    Capability,
    ClauseText,
    Environment,
    Exchange,
    Failure,
    Leak,
    Level,
    Metric,
    Outcome,
    Profile,
    Report,
    Result,
    Run,
    ServiceName,
    Target,
    WaiverUse,
)
from openshell_drivers.conformance.report.verdicts import (
    executed,
    exit_status,
    overall,
    service_verdicts,
    waiver_problems,
)
from tests.conformance.report import rules

PRESETS: Final = ["fork-mvp", "0.0.111", "0.1.2", "0.1-latest"]
PROFILES: Final[list[Profile]] = list(get_args(Profile))
STARTED: Final = "2026-11-22T06:00:00Z"
_SERVICES: Final[dict[ServiceName, str]] = {
    "compute": rules.COMPUTE,
    "credentials": rules.CREDENTIALS,
    "credential-store": rules.STORE,
}

Troubles: TypeAlias = Mapping[str, tuple[Outcome, tuple[str, ...], str]]

#: What goes wrong in a troubled run: check -> outcome, presets (empty: all), reason.
TROUBLES: Final[Troubles] = {
    "COMP-DEL-02.a": ("fail", (), "NOT_FOUND instead of deleted=false"),
    "COMP-WATCH-04.a": ("fail", ("0.0.111", "0.1.2", "0.1-latest"), "no event in 30 s"),
    "COMP-WATCH-04.b": ("blocked", (), "the sandbox could not be deleted"),
    "COMP-STAT-02.a": ("fail", ("fork-mvp",), "the reason is 'Pulling'"),
    "SEC-LOG-01.a": ("fail", ("0.1-latest",), "the log holds a sandbox's token"),
    "COMP-GET-03.a": ("warn", (), "2.4 s"),
    "COMP-SOCK-08.a": ("warn", ("0.1.2",), "a peer of uid 65534 was served"),
    "COMP-LIST-02.a": ("not-testable", (), "supply the backend verbs outage_begin and outage_end"),
    "COMP-GET-05.a": ("not-testable", (), "supply the backend verbs outage_begin and outage_end"),
    "COMP-GET-05.b": ("not-testable", (), "supply the backend verbs outage_begin and outage_end"),
    "COMP-VAL-02.b": ("not-testable", (), "supply compute.refused, a template that is refused"),
    "PROC-FD-01.a": ("not-observable", (), "the process behind an attached socket is not ours"),
    "COMP-WS-01.b": ("not-applicable", (), "EnsureWorkspace is UNIMPLEMENTED, which is allowed"),
    "COMP-STAT-07.a": ("info", (), "times have whole seconds"),
    "CREDF-RES-03.a": ("waived", ("fork-mvp",), "expires_at is in milliseconds"),
    "CREDF-RES-02.b": ("unexpected-pass", (), "the waiver can go"),
    "CREDU-CON-01.a": ("error", ("0.1.2",), "KeyError at store.py:31 in settle"),
}

#: Why: expected, observed, what the user sees, how to mend it.
_WHY: Final[dict[str, tuple[str, str, str, str]]] = {
    "COMP-WATCH-04.a": (
        "after DeleteSandbox answered deleted=true, each open WatchSandboxes stream gets an event "
        "'deleted' with the sandbox's id within 30 s",
        "1 of 3 streams got it; the two that were opened later got nothing in 30 s",
        "The sandbox stays in 'Deleting' until the gateway's sweep a minute later.",
        "Give every stream a queue of its own, and put the deletion into all of them.",
    ),
    "COMP-STAT-02.a": (
        "while Ready is False and the sandbox starts, its reason is one of Starting, "
        "DependenciesNotReady, ContainerStarting, HealthCheckStarting, ReconcilerError",
        "reason 'Pulling'",
        "Each new sandbox shows as 'Error' for the seconds in which its image is fetched.",
        "Set the condition's reason to 'Starting' and say what is going on in its message.",
    ),
    "SEC-LOG-01.a": (
        "no sandbox_token in the driver's log",
        "one line holds the sandbox_token of cf-7-a, as JSON",
        "Whoever reads the driver's log can act as any sandbox.",
        "Log a request's method and id, never the message itself.",
    ),
    "COMP-GET-03.a": (
        "GetSandbox answers within 1 s",
        "2.4 s at the median of 5 calls",
        "`openshell sandbox list` hangs for seconds while sandboxes are being swept.",
        "Answer from what the driver knows, and ask the platform in the background.",
    ),
}


def everything(**changes: Any) -> Report:
    """A run in which every outcome occurs."""
    return report(troubles=TROUBLES, extras=True, **changes)


def calm(**changes: Any) -> Report:
    """A run in which all is well."""
    return report(troubles={}, extras=False, **changes)


def report(
    *,
    troubles: Troubles,
    extras: bool,
    services: tuple[ServiceName, ...] = ("compute", "credentials", "credential-store"),
    complete: bool = True,
    **changes: Any,
) -> Report:
    """Build a report that agrees with itself."""
    results = [each for service in services for each in _results(service, troubles)]
    verdicts = service_verdicts(results)
    verdict = overall(verdicts, complete=complete, executed=executed(results))
    waivers = _waivers() if extras else []
    leaks = _leaks() if extras else []
    built = Report(
        verdict=verdict,
        exit_status=exit_status(
            verdict=verdict,
            results=results,
            leaks=leaks,
            waiver_problems=waiver_problems(results, waivers, STARTED),
        ),
        run=_run(results, complete),
        target=_target(services),
        environment=Environment(
            system="Linux 6.1 x86_64", python="3.11.2", grpc="1.74.0", cpus=8, plugins=["xdist"]
        ),
        verdicts=verdicts,
        capabilities=_capabilities(),
        clauses=list(_clauses(services)),
        results=results,
        leaks=leaks,
        metrics=_metrics(),
        waivers=waivers,
        warnings=["the driver wrote 14 lines that are no UTF-8"] if extras else [],
    )
    return built.model_copy(update=changes)


def result(check: str = "COMP-GET-01.a", **changes: Any) -> Result:
    """One result, a pass unless told otherwise."""
    outcome = changes.get("outcome", "pass")
    level = changes.get("level", "MUST")
    fields: dict[str, Any] = {
        "check": check,
        "clause": check.partition(".")[0],
        "title": "an unknown id is NOT_FOUND",
        "service": "compute",
        "profile": "core",
        "preset": "0.1.2",
        "level": level,
        "milliseconds": 12.5,
        "repeat": f"openshell-drivers verify ep:acme --check {check} --gateway 0.1.2 --seed 7",
        "outcome": outcome,
    }
    if outcome in ("fail", "warn", "waived"):
        words = ("expected", "observed", "sees", "mend")
        fields["failure"] = failure(**dict(zip(words, _WHY.get(check, ()), strict=False)))
        fields["fingerprint"] = f"sha256:{check.lower()}"
    return Result.model_validate({**fields, **changes})


def failure(**changes: Any) -> Failure:
    """Why a check failed, as a check of deletion would say it."""
    fields: dict[str, Any] = {
        "expected": "DeleteSandbox of an id that does not exist answers OK with deleted=false",
        "observed": "NOT_FOUND 'sandbox cf-7-nobody does not exist'",
        "sees": "A sandbox whose machine is gone cannot be deleted: `openshell sandbox delete` "
        "fails each time, and the sandbox stays in the list for ever.",
        "mend": "In DeleteSandbox, where the platform has no such sandbox, answer an ordinary "
        "DeleteSandboxResponse with deleted=false instead of the status NOT_FOUND.",
        "transcript": _transcript(),
        "log": [
            "2026-11-22T06:00:03.114Z INFO call method=DeleteSandbox code=OK ms=41.2",
            "2026-11-22T06:00:03.201Z WARN platform: no machine cf-7-nobody",
            "2026-11-22T06:00:03.202Z INFO call method=DeleteSandbox code=NOT_FOUND ms=1.1",
        ],
        "place": "deletion:88",
    }
    return Failure.model_validate({**fields, **changes})


def _transcript() -> list[Exchange]:
    sandbox = '{"sandbox":{"id":"cf-7-a","name":"cf-7-a","spec":{"sandbox_token":"[secret]"}}}'
    rows = (
        ("CreateSandbox", sandbox, "OK", "{}", 38.4, 0.0),
        ("DeleteSandbox", '{"sandbox_id":"cf-7-a"}', "OK", '{"deleted":true}', 41.2, 0.041),
        (
            "DeleteSandbox",
            '{"sandbox_id":"cf-7-nobody"}',
            "NOT_FOUND",
            "sandbox cf-7-nobody does not exist",
            1.1,
            0.083,
        ),
    )
    names = ("rpc", "request", "code", "message", "milliseconds", "at")
    return [Exchange.model_validate(dict(zip(names, row, strict=True))) for row in rows]


def _results(service: ServiceName, troubles: Troubles) -> Iterator[Result]:
    for number, (clause, profile, level, text) in enumerate(_rules(service)):
        for letter, twist in (("a", ""), ("b", rules.TWISTS[number % len(rules.TWISTS)])):
            check = f"{clause}.{letter}"
            title = f"{text}, {twist}" if twist else text
            for preset in _presets(clause):
                outcome, reason = _outcome(troubles, check, preset)
                yield result(
                    check,
                    service=service,
                    profile=profile,
                    level=level,
                    title=title,
                    preset=preset,
                    outcome=outcome,
                    reason=reason,
                    milliseconds=round(3 + 7.3 * (number % 11), 1),
                    blocked_by="COMP-DEL-02.a" if outcome == "blocked" else "",
                )


def _outcome(troubles: Troubles, check: str, preset: str) -> tuple[Outcome, str]:
    outcome, presets, reason = troubles.get(check, ("pass", (), ""))
    return (outcome, reason) if not presets or preset in presets else ("pass", "")


def _presets(clause: str) -> list[str]:
    if clause.partition("-")[0].endswith("01"):
        return PRESETS[2:]
    return PRESETS[:1] if clause.startswith("CREDF") else PRESETS


def _rules(service: ServiceName) -> Iterator[tuple[str, Profile, Level, str]]:
    for line in _SERVICES[service].strip().splitlines():
        clause, profile, level, text = line.split(" ", 3)
        yield clause, profile, level, text  # type: ignore[misc]  # pydantic looks


def _clauses(services: tuple[ServiceName, ...]) -> Iterator[ClauseText]:
    for service in services:
        for clause, _, _, text in _rules(service):
            yield ClauseText(
                id=clause,
                text=f"{text[0].upper()}{text[1:]}.",
                source="gateway",
                where="NVIDIA/OpenShell@2f7fb65 crates/openshell-server/src/compute/mod.rs:32-33",
                checks=[f"{clause}.a", f"{clause}.b"],
            )


def _run(results: list[Result], complete: bool) -> Run:
    return Run(
        id="cf-1rk9e2-7hq2zd",
        started=STARTED,
        seconds=47.3,
        seed=7,
        complete=complete,
        planned=len(results) if complete else len(results) + 212,
        executed=executed(results),
        presets=PRESETS,
        profiles=PROFILES,
        command="openshell-drivers verify ep:acme --profile all",
        suite="0.1.0",
        faults="profile",
    )


def _target(services: tuple[ServiceName, ...]) -> Target:
    return Target(
        given="acme",
        read_as="ep:acme",
        mode="spawned",
        name="acme-compute",
        version="2.3.1",
        services=list(services),
        organization="Acme Clouds",
        url="https://example.com/acme-compute",
    )


def _capabilities() -> list[Capability]:
    rows = (
        ("StopSandbox", None, "works"),
        ("StartSandbox", None, "works"),
        ("EnsureWorkspace", False, "unsupported"),
        ("ListCredentials", True, "misbehaves"),
        ("gateway_manages_lifecycle", True, "not probed"),
    )
    return [
        Capability.model_validate({"name": name, "declared": declared, "probed": probed})
        for name, declared, probed in rows
    ]


def _leaks() -> list[Leak]:
    return [
        Leak(kind="sandbox", name="cf-1rk9e2-7hq2zd-14", attributed="COMP-WATCH-04.a"),
        Leak(kind="resource", name="volume/cf-1rk9e2-7hq2zd-14"),
    ]


def _metrics() -> list[Metric]:
    return [
        Metric(name="GetSandbox p99", value=14.25, unit="ms", budget=20, verdict="within"),
        Metric(name="change to 50 watchers", value=311, unit="ms", budget=250, verdict="over"),
        Metric(name="descriptors per 1000 calls", value=0, unit="", budget=1, verdict="within"),
        Metric(name="resident memory", value=61.2, unit="MiB"),
    ]


def _waivers() -> list[WaiverUse]:
    issue = "https://example.com/acme-compute/issues/"
    return [
        WaiverUse(
            check="CREDF-RES-03.a",
            issue=issue + "41",
            owner="@auth",
            expires="2026-12-01",
            used=True,
        ),
        WaiverUse(
            check="CREDF-RES-02.b",
            issue=issue + "17",
            owner="@auth",
            expires="2027-02-21",
            used=True,
        ),
    ]
