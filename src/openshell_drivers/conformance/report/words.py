"""The words and signs by which the written reports speak of outcomes and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from openshell_drivers.conformance.report.model import Outcome, Report, Verdict
from openshell_drivers.conformance.report.verdicts import UNJUDGED


@dataclass(frozen=True, slots=True)
class Word:
    """How an outcome is shown: never by colour alone."""

    sign: str
    """One character that no system draws as an emoji."""
    name: str
    meaning: str
    tone: str
    """The colour's name in the style sheet."""


OUTCOME_WORDS: Final[Mapping[Outcome, Word]] = MappingProxyType(
    {
        "pass": Word("✓", "pass", "holds", "good"),
        "fail": Word("✕", "fail", "a rule that gateways rely on does not hold", "bad"),
        "warn": Word("!", "warning", "a recommendation is not followed", "warn"),
        "info": Word("i", "note", "observed; there is no right or wrong", "told"),
        "not-applicable": Word("–", "not applicable", "the driver may do without", "quiet"),
        "not-testable": Word("?", "not testable", "something has to be supplied first", "open"),
        "not-observable": Word("∅", "not observable", "cannot be seen in this mode", "open"),
        "blocked": Word("⊘", "blocked", "another failure stands in the way", "open"),
        "waived": Word("≈", "waived", "fails, excused for a time", "warn"),
        "unexpected-pass": Word("↑", "unexpected pass", "has a waiver, and passes", "warn"),
        "error": Word("#", "suite error", "the suite itself broke", "broken"),
    }
)

VERDICT_TONES: Final[Mapping[Verdict, str]] = MappingProxyType(
    {
        "conformant": "good",
        "conformant-with-waivers": "warn",
        "partial": "warn",
        "non-conformant": "bad",
        "incomplete": "broken",
    }
)
VERDICT_SIGNS: Final[Mapping[Verdict, str]] = MappingProxyType(
    {
        "conformant": "✓",
        "conformant-with-waivers": "≈",
        "partial": "?",
        "non-conformant": "✕",
        "incomplete": "…",
    }
)
VERDICT_NAMES: Final[Mapping[Verdict, str]] = MappingProxyType(
    {
        "conformant": "Conformant",
        "conformant-with-waivers": "Conformant with waivers",
        "partial": "Partial",
        "non-conformant": "Not conformant",
        "incomplete": "Incomplete",
    }
)


def count(number: int, one: str, many: str = "") -> str:
    """A number with its noun: ``1 check``, ``3 checks``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(things: Iterable[str]) -> str:
    """Things in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    *most, last = list(things) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def target_name(report: Report) -> str:
    """What was judged, as people call it: name and version, or the target as it was given."""
    target = report.target
    return " ".join(filter(None, (target.name or target.given, target.version)))


def failing(report: Report, *outcomes: Outcome) -> int:
    """How many checks have one of the outcomes under some gateway."""
    return len({each.check for each in report.results if each.outcome in outcomes})


def headline(report: Report) -> str:
    """The verdict in one plain sentence or two."""
    each = f"under each of {len(report.run.presets)} gateway lines"
    chosen = "" if report.run.selection == "full" else " Only a selection of the checks was run."
    match report.verdict:
        case "conformant":
            said = f"Every required check that applies holds, {each}."
        case "conformant-with-waivers":
            waived = failing(report, "waived", "unexpected-pass")
            said = f"All else holds, {each}; {count(waived, 'check')} excused by a waiver."
        case "partial":
            said = f"Nothing fails, but {_unjudged(report)} could not be judged."
        case "non-conformant":
            said = _broken(report)
        case "incomplete":
            run = report.run
            said = f"The run was cut short: {run.executed} of {run.planned} results are in."
    return said + chosen


def _broken(report: Report) -> str:
    failures = [each for each in report.results if each.outcome == "fail"]
    rules = count(len({each.clause for each in failures}), "rule")
    seen = {each.preset for each in failures}
    once = any(each.once for each in failures)  # then it fails under all of them
    well = [] if once else [preset for preset in report.run.presets if preset not in seen]
    spared = f" Nothing fails under {listed(well)}." if well else ""
    return f"It breaks {rules} that gateways rely on.{spared}"


def _unjudged(report: Report) -> str:
    musts = {
        each.check for each in report.results if each.level == "MUST" and each.outcome in UNJUDGED
    }
    return count(len(musts), "required check") if musts else "a whole profile"
