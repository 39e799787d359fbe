"""Whether a report agrees with itself: its claims are computed again from its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from openshell_drivers.conformance.report.model import Report, Result, ServiceVerdict
from openshell_drivers.conformance.report.verdicts import (
    executed,
    exit_status,
    overall,
    service_verdicts,
    waiver_problems,
)

#: Statuses of runs that judged nothing; a report cannot tell why.
_NOT_RUN: Final = (2, 4)


def check_consistency(report: Report) -> list[str]:
    """Say where a report contradicts itself; empty if nowhere."""
    return [
        *_verdicts(report),
        *_totals(report),
        *_status(report),
        *_uniqueness(report),
        *_scope(report),
        *_explanations(report),
    ]


def _verdicts(report: Report) -> Iterator[str]:
    claimed = {(each.service, each.profile): each for each in report.verdicts}
    found = {(each.service, each.profile): each for each in service_verdicts(report.results)}
    for key in {**found, **claimed}:
        name = ".".join(key)
        mine, theirs = found.get(key), claimed.get(key)
        if mine is None or theirs is None:
            what = "a verdict without results" if mine is None else "results without a verdict"
            yield f"{name}: {what}"
        else:
            yield from _differences(name, theirs, mine)


def _differences(name: str, claimed: ServiceVerdict, found: ServiceVerdict) -> Iterator[str]:
    if claimed.verdict != found.verdict:
        yield f"{name}: says {claimed.verdict}, its results say {found.verdict}"
    if {key: n for key, n in claimed.counts.items() if n} != found.counts:
        yield f"{name}: its counts are not those of its results"


def _totals(report: Report) -> Iterator[str]:
    run, ran = report.run, executed(report.results)
    if run.executed != ran:
        yield f"run.executed is {run.executed}, the results say {ran}"
    if run.complete and len(report.results) < run.planned:
        yield f"run.complete, but {run.planned} were planned and {len(report.results)} have results"
    verdicts = service_verdicts(report.results)
    verdict = overall(verdicts, complete=run.complete, executed=ran)
    if report.verdict != verdict:
        yield f"verdict is {report.verdict}, the results say {verdict}"


def _status(report: Report) -> Iterator[str]:
    status = exit_status(
        verdict=report.verdict,
        results=report.results,
        leaks=report.leaks,
        waiver_problems=waiver_problems(report.results, report.waivers, report.run.started),
    )
    if report.exit_status in _NOT_RUN and not executed(report.results):
        return
    if report.exit_status != status:
        yield f"exit_status is {report.exit_status}, the rest of the report says {status}"


def _uniqueness(report: Report) -> Iterator[str]:
    found = Counter((result.check, result.preset) for result in report.results)
    for (check, preset), times in found.items():
        if times > 1:
            yield f"{check} under {preset}: {times} results"


def _scope(report: Report) -> Iterator[str]:
    presets = {result.preset for result in report.results} - set(report.run.presets)
    profiles = {result.profile for result in report.results} - set(report.run.profiles)
    for name, extra in (("preset", presets), ("profile", profiles)):
        for each in sorted(extra):
            yield f"results of {name} {each}, which the run did not select"


def _explanations(report: Report) -> Iterator[str]:
    waived = {waiver.check for waiver in report.waivers if waiver.used}
    for result in report.results:
        for problem in _unexplained(result, waived):
            yield f"{result.check} under {result.preset}: {problem}"


def _unexplained(result: Result, waived: set[str]) -> Iterator[str]:
    if result.outcome in ("fail", "warn", "waived") and result.failure is None:
        yield f"{result.outcome} without a failure that says why"
    if result.outcome == "waived" and result.check not in waived:
        yield "waived, but no waiver of the report was used for it"
    if result.outcome == "pass" and result.failure is not None:
        yield "a pass with a failure"
