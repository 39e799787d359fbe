"""From how a check ended to its `Result`."""

from __future__ import annotations

import hashlib
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from openshell_drivers.conformance._clauses import clauses
from openshell_drivers.conformance._outcomes import (
    Blocked,
    Broken,
    NotApplicable,
    NotObservable,
    NotTestable,
)
from openshell_drivers.conformance._units import Unit
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.report.model import Exchange, Failure, Level, Outcome, Result

_BROKEN: Final[Mapping[str, Outcome]] = {"MUST": "fail", "SHOULD": "warn", "INFO": "info"}
_VARIABLE: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\bcf[0-9a-z]+-[0-9a-z]+\b|\d+(\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one execution of a check ended, whatever the presets it counts for."""

    problem: BaseException | None
    milliseconds: float
    notes: list[str] = field(default_factory=list)
    transcript: list[Exchange] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


def ending(
    bench: Bench, problem: BaseException | None, seconds: float, log: Sequence[str]
) -> Ending:
    """Keep what a report may need of an execution, without any secret."""
    clean = bench.world.canaries.clean
    if isinstance(problem, Broken):  # a driver's words may be in it
        problem.expected, problem.observed = clean(problem.expected), clean(problem.observed)
        problem.sees, problem.mend = clean(problem.sees), clean(problem.mend)
    elif isinstance(problem, Blocked):
        problem.why = clean(problem.why)
    return Ending(
        problem=problem,
        milliseconds=round(seconds * 1000, 1),
        notes=[clean(note) for note in bench.notes],
        transcript=bench.transcript.exchanges() if isinstance(problem, Broken) else [],
        log=[clean(line) for line in log],
    )


def result(unit: Unit, end: Ending, *, repeat: str) -> Result:
    """Judge one unit by how its check ended."""
    outcome, reason, blocked_by = _outcome(unit.level, end.problem)
    failure = _failure(unit, end, end.problem) if isinstance(end.problem, Broken) else None
    return Result(
        check=unit.check.id,
        clause=unit.check.clause,
        title=unit.check.title,
        service=unit.check.service,
        profile=unit.check.profile,
        preset=unit.preset,
        once=unit.check.once,
        level=unit.level,
        outcome=outcome,
        reason=reason,
        milliseconds=end.milliseconds,
        failure=failure,
        notes=end.notes,
        blocked_by=blocked_by,
        revision=unit.check.revision,
        repeat=repeat,
        fingerprint=_fingerprint(unit, failure) if failure is not None else "",
    )


def _outcome(level: Level, problem: BaseException | None) -> tuple[Outcome, str, str]:
    match problem:
        case None:
            return "pass", "", ""
        case Broken():
            return _BROKEN[level], problem.observed, ""
        case Blocked():
            return "blocked", problem.why, problem.clause
        case NotApplicable():
            return "not-applicable", str(problem), ""
        case NotTestable():
            return "not-testable", str(problem), ""
        case NotObservable():
            return "not-observable", str(problem), ""
        case _:
            return "error", f"the suite broke: {described(problem)}", ""


def _failure(unit: Unit, end: Ending, problem: Broken) -> Failure:
    clause = clauses()[unit.check.clause]
    return Failure(
        expected=problem.expected,
        observed=problem.observed,
        sees=problem.sees or clause.sees,
        mend=problem.mend or clause.mend,
        transcript=end.transcript,
        log=end.log,
        place=place(problem),
    )


def _fingerprint(unit: Unit, failure: Failure) -> str:
    text = "\n".join((unit.check.id, failure.expected, failure.observed))
    return "sha256:" + hashlib.sha256(_VARIABLE.sub("#", text).encode()).hexdigest()[:16]


def place(problem: BaseException) -> str:
    """Where in the suite's checks it happened."""
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        path = PurePath(frame.filename)
        if path.parent.name == "checks":
            return f"{path.stem}:{frame.lineno}"
    return ""


def described(problem: BaseException) -> str:
    """A fault of the suite by type and place; a driver's words may be in its text."""
    if isinstance(problem, BaseExceptionGroup):
        return described(problem.exceptions[0])
    frames = traceback.extract_tb(problem.__traceback__)
    at = f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(problem).__name__}{at} ({place(problem) or 'outside of the checks'})"
