"""The report of a run, put together from its results."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from openshell_drivers.conformance._clauses import clauses
from openshell_drivers.conformance._detect import Found
from openshell_drivers.conformance._request import Request
from openshell_drivers.conformance._units import Unit
from openshell_drivers.conformance._waivers import Waiver, used
from openshell_drivers.conformance.benches._base import World
from openshell_drivers.conformance.report.model import (
    ClauseText,
    Environment,
    Leak,
    Report,
    Result,
    Run,
    Target,
    Verdict,
)
from openshell_drivers.conformance.report.verdicts import (
    exit_status,
    overall,
    service_verdicts,
    waiver_problems,
)

_EXECUTED = frozenset({"pass", "fail", "warn", "info", "waived", "unexpected-pass"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a run went."""

    world: World
    found: Found
    units: Sequence[Unit]
    results: Sequence[Result]
    leaks: Sequence[Leak]
    started: str
    """RFC 3339."""
    seconds: float
    waivers: Sequence[Waiver]
    stopped: str
    """Why it was cut short; empty if it was not."""
    full: bool
    """Whether nothing was left out by hand."""


def assemble(request: Request, course: Course) -> Report:
    """Put it together, in the order of the plan."""
    order = {unit.key: number for number, unit in enumerate(course.units)}
    ordered = sorted(course.results, key=lambda r: order.get(f"{r.check}[{r.preset}]", len(order)))
    uses, ordered = used(course.waivers, ordered)
    problems = waiver_problems(ordered, uses, course.started)
    verdicts = service_verdicts(ordered)
    executed = sum(result.outcome in _EXECUTED for result in ordered)
    whole = not course.stopped and len(ordered) == len(course.units)
    verdict = overall(verdicts, complete=whole, executed=executed)
    have = {f"{result.check}[{result.preset}]" for result in ordered}
    lost = [unit.key for unit in course.units if unit.key not in have and not course.stopped]
    run = Run(
        id=course.world.run,
        started=course.started,
        seconds=round(course.seconds, 2),
        seed=course.world.seed,
        complete=whole,
        planned=len(course.units),
        executed=executed,
        selection="full" if course.full else "selective",
        presets=list(request.presets),
        profiles=list(request.profiles),  # type: ignore[arg-type]  # judged before the run
        command=request.command,
        suite=metadata.version("openshell-drivers"),
        faults=_faults(request, course.world),
    )
    warnings = [f"the run was cut short: {course.stopped}"] if course.stopped else []
    if lost:
        warnings.append(f"by a fault of the suite there is no result of {', '.join(lost)}")
    warnings += problems
    return Report(
        verdict=verdict,
        exit_status=_status(request, verdict, ordered, course.leaks, problems),
        run=run,
        target=_target(request, course.world, course.found),
        environment=_environment(request),
        verdicts=verdicts,
        clauses=_clauses(ordered),
        results=list(ordered),
        leaks=list(course.leaks),
        waivers=uses,
        warnings=warnings,
    )


def _status(
    request: Request,
    verdict: Verdict,
    results: Sequence[Result],
    leaks: Sequence[Leak],
    problems: Sequence[str],
) -> int:
    status = exit_status(verdict=verdict, results=results, leaks=leaks, waiver_problems=problems)
    if request.strict and status not in {1, 3} and any(r.outcome == "warn" for r in results):
        return 1
    return status


def _faults(request: Request, world: World) -> Literal["", "sdk-injected", "profile"]:
    if world.profile.backend.outage_begin:
        return "profile"
    return "sdk-injected" if request.target.kind == "driver" else ""


def _target(request: Request, world: World, found: Found) -> Target:
    told = world.profile.target
    return Target(
        given=request.target.given,
        read_as=request.target.read_as,
        mode="attached" if request.target.kind == "socket" else "spawned",
        name=told.name or found.name or request.target.name,
        version=found.version,
        services=list(found.services),
        organization=told.organization,
        url=told.url,
    )


def _environment(request: Request) -> Environment:
    return Environment(
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        grpc=metadata.version("grpcio"),
        cpus=os.cpu_count() or 0,
        plugins=list(request.plugins),
    )


def _clauses(results: Sequence[Result]) -> list[ClauseText]:
    checks: dict[str, list[str]] = {}
    for result in results:
        names = checks.setdefault(result.clause, [])
        if result.check not in names:
            names.append(result.check)
    return [
        ClauseText(
            id=clause.id,
            text=clause.text,
            source=clause.source,
            where=clause.where,
            checks=checks[clause.id],
            observed=clause.observed,
            unobserved=clause.unobserved,
        )
        for clause in clauses().values()
        if clause.id in checks
    ]
