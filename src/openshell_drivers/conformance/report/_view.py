"""What the page shows, in the order it shows it: rows, cards and gaps, made from a report.

Knows nothing of HTML but the names of anchors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from openshell_drivers.conformance._clauses import clause_of
from openshell_drivers.conformance.report.documents import ordered
from openshell_drivers.conformance.report.model import (
    ClauseText,
    Failure,
    Outcome,
    Profile,
    Report,
    Result,
    ServiceName,
    ServiceVerdict,
    Verdict,
)
from openshell_drivers.conformance.report.verdicts import counts, service_verdicts
from openshell_drivers.conformance.report.words import OUTCOME_WORDS, Word

#: What gets a card, in the order of the cards' sections.
CARDED: Final[Mapping[str, tuple[Outcome, ...]]] = {
    "What fails": ("fail",),
    "Where the suite itself broke": ("error",),
    "Waived": ("unexpected-pass", "waived"),
    "Recommendations not followed": ("warn",),
}
_GAPS: Final = ("not-testable", "not-observable", "blocked")


@dataclass(frozen=True, slots=True)
class Cell:
    """One outcome of the matrix."""

    outcome: Outcome
    word: Word
    preset: str
    anchor: str
    """Where the page says more; empty where there is no more to say."""
    hint: str
    columns: int
    """How many presets it speaks for."""


@dataclass(frozen=True, slots=True)
class Row:
    """One check under every preset; None where it does not apply."""

    check: str
    clause: str
    title: str
    level: str
    cells: tuple[Cell | None, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The checks of one service and profile."""

    service: ServiceName
    profile: Profile
    verdict: ServiceVerdict
    here: tuple[Verdict | None, ...]
    """The verdict under each preset alone."""
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """One failure, under all presets where it is the same."""

    anchor: str
    result: Result
    word: Word
    presets: tuple[str, ...]
    clause: ClauseText | None
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Something to supply, or to do, and the checks that wait for it."""

    reason: str
    word: Word
    checks: tuple[tuple[str, Result, tuple[str, ...]], ...]
    """Each with its anchor and its presets."""


@dataclass(frozen=True, slots=True)
class View:
    """All that is made from results."""

    groups: tuple[Group, ...]
    sections: tuple[tuple[str, tuple[Card, ...]], ...]
    gaps: tuple[Gap, ...]
    observations: tuple[tuple[Result, tuple[str, ...], tuple[str, ...]], ...]
    """Checks that noted something: with their presets and what they noted."""
    counts: dict[str, int]


def view(report: Report) -> View:
    """Arrange a report for reading."""
    report = ordered(report)
    clauses = {clause.id: clause for clause in report.clauses}
    cards, anchors = _cards(report.results, clauses)
    gaps = _gaps(report.results, anchors)
    return View(
        groups=tuple(_groups(report, anchors)),
        sections=tuple(
            (title, found)
            for title, outcomes in CARDED.items()
            if (found := tuple(card for card in cards if card.result.outcome in outcomes))
        ),
        gaps=gaps,
        observations=tuple(_observations(report.results)),
        counts=counts(report.results),
    )


Anchors = dict[tuple[str, str], str]  # check and preset -> anchor


def _cards(
    results: Sequence[Result], clauses: Mapping[str, ClauseText]
) -> tuple[list[Card], Anchors]:
    together: dict[tuple[object, ...], list[Result]] = {}
    carded = {outcome for outcomes in CARDED.values() for outcome in outcomes}
    for result in results:
        if result.outcome in carded:
            together.setdefault(_sameness(result), []).append(result)
    cards: list[Card] = []
    anchors: Anchors = {}
    for same in together.values():
        first = same[0]
        anchor = _unused(f"f-{_slug(first.check)}", anchors)
        anchors |= {(each.check, each.preset): anchor for each in same}
        presets = tuple(each.preset for each in same)
        word, clause = OUTCOME_WORDS[first.outcome], clauses.get(first.clause)
        cards.append(Card(anchor, first, word, presets, clause, first.failure))
    return cards, anchors


def _sameness(result: Result) -> tuple[object, ...]:
    """What makes two failures of a check one card."""
    key: tuple[object, ...] = (result.check, result.revision, result.outcome)
    if result.fingerprint:
        return (*key, result.fingerprint)
    failure = result.failure
    if failure is None:
        return (*key, result.reason)
    return (*key, result.reason, failure.expected, failure.observed, failure.sees, failure.mend)


def _gaps(results: Iterable[Result], anchors: Anchors) -> tuple[Gap, ...]:
    """Group what could not be judged by what is wanting; enters the anchors."""
    found: dict[tuple[Outcome, str], dict[str, list[Result]]] = {}
    for result in results:
        if result.outcome in _GAPS:
            reason = result.reason or "no reason was given"
            if result.blocked_by:  # one cause, whatever each of them saw of it
                reason = f"{clause_of(result.blocked_by)} is to be mended first"
            checks = found.setdefault((result.outcome, reason), {})
            checks.setdefault(result.check, []).append(result)
    gaps = []
    for (outcome, reason), checks in sorted(found.items(), key=_by_gap):
        entries = []
        for check, same in checks.items():
            anchor = _unused(f"n-{_slug(check)}", anchors)
            anchors |= {(check, each.preset): anchor for each in same}
            entries.append((anchor, same[0], tuple(each.preset for each in same)))
        gaps.append(Gap(reason, OUTCOME_WORDS[outcome], tuple(entries)))
    return tuple(gaps)


def _by_gap(item: tuple[tuple[Outcome, str], object]) -> tuple[int, str]:
    (outcome, reason), _ = item
    return _GAPS.index(outcome), reason


def _groups(report: Report, anchors: Anchors) -> Iterable[Group]:
    presets = report.run.presets
    for verdict in service_verdicts(report.results):
        key = (verdict.service, verdict.profile)
        results = [each for each in report.results if (each.service, each.profile) == key]
        checks: dict[str, list[Result]] = {}
        for result in results:
            checks.setdefault(result.check, []).append(result)
        rows = tuple(_row(presets, same, anchors) for same in checks.values())
        yield Group(*key, verdict, tuple(_here(results, each) for each in presets), rows)


def _here(results: Iterable[Result], preset: str) -> Verdict | None:
    found = service_verdicts(each for each in results if each.once or each.preset == preset)
    return found[0].verdict if found else None


def _row(presets: Sequence[str], results: list[Result], anchors: Anchors) -> Row:
    first = results[0]
    cells: tuple[Cell | None, ...]
    if first.once:
        cells = (_cell(first, anchors, len(presets)),)
    else:
        by_preset = {each.preset: _cell(each, anchors, 1) for each in results}
        cells = tuple(by_preset.get(preset) for preset in presets)
    outcomes = tuple(dict.fromkeys(each.outcome for each in results))
    return Row(first.check, first.clause, first.title, first.level, cells, outcomes)


def _cell(result: Result, anchors: Anchors, columns: int) -> Cell:
    outcome, preset = result.outcome, result.preset
    anchor = anchors.get((result.check, preset), "")
    return Cell(outcome, OUTCOME_WORDS[outcome], preset, anchor, result.reason, columns)


def _observations(
    results: Iterable[Result],
) -> Iterable[tuple[Result, tuple[str, ...], tuple[str, ...]]]:
    found: dict[tuple[str, tuple[str, ...]], list[Result]] = {}
    for result in results:
        said = (result.reason, *result.notes) if result.outcome == "info" else tuple(result.notes)
        said = tuple(filter(None, said))
        if said:
            found.setdefault((result.check, said), []).append(result)
    for (_, said), same in found.items():
        yield same[0], tuple(each.preset for each in same), said


def _slug(check: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", check)


def _unused(anchor: str, anchors: Anchors) -> str:
    taken, name, number = set(anchors.values()), anchor, 1
    while name in taken:
        number += 1
        name = f"{anchor}-{number}"
    return name
