"""What results amount to: verdicts per service and profile, the verdict of a run, its exit status.

Pure functions of what a report holds, so that anybody can compute them again.

A verdict needs every MUST in `GOOD`, the rule that keeps skips from reading as green:

- any ``fail`` makes it ``non-conformant``, also that of a SHOULD under ``--strict``;
- else any MUST that is not good makes it ``partial``: one that could not be tested, was blocked,
  met an ``error`` of the suite, or was merely observed. So does a profile of which nothing ran;
- else anything waived, or a waiver that is no longer needed, makes it ``conformant-with-waivers``.

Performance says how a driver lies to a budget, which is no clause: its failures count as
observations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import Final, get_args

from openshell_drivers.conformance.report.model import (
    Leak,
    Outcome,
    Profile,
    Result,
    ServiceName,
    ServiceVerdict,
    Verdict,
    WaiverUse,
)

OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
SERVICES: Final[tuple[ServiceName, ...]] = get_args(ServiceName)
PROFILES: Final[tuple[Profile, ...]] = get_args(Profile)

#: Where a check ran to its end.
EXECUTED: Final[frozenset[Outcome]] = frozenset(
    ("pass", "fail", "warn", "info", "waived", "unexpected-pass")
)
#: What a MUST may be without spoiling a verdict.
GOOD: Final[frozenset[Outcome]] = frozenset(("pass", "waived", "unexpected-pass", "not-applicable"))
#: What could not be judged for want of something.
UNJUDGED: Final[frozenset[Outcome]] = frozenset(
    ("not-testable", "not-observable", "blocked", "error")
)
_WAIVED: Final[frozenset[Outcome]] = frozenset(("waived", "unexpected-pass"))
_WORST_FIRST: Final[tuple[Verdict, ...]] = (
    "non-conformant",
    "incomplete",
    "partial",
    "conformant-with-waivers",
    "conformant",
)


def executed(results: Iterable[Result]) -> int:
    """How many results come from a check that ran to its end."""
    return sum(result.outcome in EXECUTED for result in results)


def counts(results: Iterable[Result]) -> dict[str, int]:
    """How many results have which outcome, in the order of `OUTCOMES`; none that is zero."""
    found = Counter(result.outcome for result in results)
    return {outcome: found[outcome] for outcome in OUTCOMES if found[outcome]}


def service_verdicts(results: Iterable[Result]) -> list[ServiceVerdict]:
    """Judge each profile of each service of which there are results."""

    def place(result: Result) -> tuple[int, int]:
        return SERVICES.index(result.service), PROFILES.index(result.profile)

    return [
        _judged(SERVICES[service], PROFILES[profile], list(group))
        for (service, profile), group in groupby(sorted(results, key=place), key=place)
    ]


def gateway_verdicts(results: Sequence[Result], *, complete: bool) -> dict[str, Verdict]:
    """The verdict under each gateway of which there are results, in their order."""
    presets = dict.fromkeys(result.preset for result in results)
    found = {preset: [each for each in results if each.preset == preset] for preset in presets}
    return {
        preset: overall(service_verdicts(here), complete=complete, executed=executed(here))
        for preset, here in found.items()
    }


def overall(verdicts: Iterable[ServiceVerdict], *, complete: bool, executed: int) -> Verdict:
    """The verdict of a run: the worst of its parts.

    A run that was cut short, or in which nothing ran, is ``incomplete``, unless it found a failure.
    """
    found: set[Verdict] = {each.verdict for each in verdicts}
    if not complete or not executed or not found:
        found.add("incomplete")
    return next(verdict for verdict in _WORST_FIRST if verdict in found)


def waiver_problems(
    results: Sequence[Result], waivers: Iterable[WaiverUse], started: str
) -> list[str]:
    """Say what is wrong with the waivers of a run that began at `started` (RFC 3339).

    One that is not used is a problem only where its check ran to its end: a check that was not
    selected, or not testable here, says nothing about its waiver.
    """
    ran = {result.check for result in results if result.outcome in EXECUTED}
    waivers = list(waivers)
    problems = [
        f"{waiver.check}: its waiver expired on {waiver.expires}"
        for waiver in waivers
        if (days_left(waiver, started) or 0) < 0
    ]
    passed = dict.fromkeys(each.check for each in results if each.outcome == "unexpected-pass")
    problems += [f"{check}: passes, so its waiver is to be removed" for check in passed]
    return problems + [
        f"{waiver.check}: its waiver is not used"
        for waiver in waivers
        if not waiver.used and waiver.check in ran and waiver.check not in passed
    ]


def days_left(waiver: WaiverUse, started: str) -> int | None:
    """Days from a run's begin (RFC 3339) to a waiver's last day; None if either is no date."""
    try:
        return (date.fromisoformat(waiver.expires[:10]) - date.fromisoformat(started[:10])).days
    except ValueError:
        return None


def exit_status(
    *,
    verdict: Verdict,
    results: Iterable[Result],
    leaks: Sequence[Leak] = (),
    waiver_problems: Sequence[str] = (),
    configured: bool = True,
    ready: bool = True,
) -> int:
    """The exit status of a run. The first that holds:

    4  the target never became ready: nothing can be said of it;
    2  wrong usage or configuration: nothing was run;
    1  ``non-conformant``. Before all that follows, since a failure is a failure whatever else went
       wrong: who has learnt to live with one of those must not miss it;
    3  the suite itself broke, so what is green is not to be trusted;
    7  a waiver has expired, is not used, or its check passes. Mended by an edit at any time, so it
       goes before 6, which is the everyday state of who tests an attached socket;
    6  ``partial`` or ``incomplete``, zero checks executed included;
    5  all is well but something was left behind at the target;
    0  ``conformant`` or ``conformant-with-waivers``.
    """
    reasons = (
        (4, not ready),
        (2, not configured),
        (1, verdict == "non-conformant"),
        (3, any(result.outcome == "error" for result in results)),
        (7, bool(waiver_problems)),
        (6, verdict in ("partial", "incomplete")),
        (5, bool(leaks)),
    )
    return next((status for status, holds in reasons if holds), 0)


def _judged(service: ServiceName, profile: Profile, results: list[Result]) -> ServiceVerdict:
    return ServiceVerdict(
        service=service,
        profile=profile,
        verdict=_verdict(profile, results),
        counts=counts(results),
        missing=_missing(results),
    )


def _verdict(profile: Profile, results: list[Result]) -> Verdict:
    found = {result.outcome for result in results}
    musts = {result.outcome for result in results if result.level == "MUST"}
    if profile == "performance":
        musts -= {"fail", "warn", "info"}
    elif "fail" in found:
        return "non-conformant"
    if musts - GOOD or not found & EXECUTED:
        return "partial"
    return "conformant-with-waivers" if found & _WAIVED else "conformant"


def _missing(results: Iterable[Result]) -> list[str]:
    wanting: Mapping[str, None] = dict.fromkeys(
        result.reason
        for result in results
        if result.outcome in ("not-testable", "not-observable") and result.reason
    )
    return list(wanting)
