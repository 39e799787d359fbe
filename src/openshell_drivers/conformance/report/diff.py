"""`compare`: what changed from one report to a later one.

Results are matched on check and preset and compared only if they have the same revision: ids are
stable, so reports of different machines and languages compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from openshell_drivers.conformance.report.documents import ordered
from openshell_drivers.conformance.report.model import Outcome, Report, Result
from openshell_drivers.conformance.report.verdicts import UNJUDGED
from openshell_drivers.conformance.report.words import target_name

Kind = Literal[
    "regression",
    "new-warning",
    "uncovered",
    "other-failure",
    "waiver-changed",
    "lost",
    "fixed",
    "new",
    "removed",
    "meaning-changed",
    "level-changed",
    "verdict-changed",
    "capability-changed",
]

#: What each kind means, worst first.
KINDS: Final[Mapping[Kind, str]] = {
    "regression": "held before and fails now",
    "uncovered": "could not be judged before and fails now",
    "other-failure": "fails as before, but in another way",
    "new-warning": "a recommendation that was followed and is not now",
    "lost": "was judged before and cannot be now",
    "waiver-changed": "fails in both; whether it is excused has changed",
    "verdict-changed": "verdicts",
    "capability-changed": "capabilities",
    "fixed": "failed before and holds now",
    "new": "checks that the earlier report does not have",
    "removed": "checks that the later report does not have",
    "meaning-changed": "checks that mean something else now, so they are not compared",
    "level-changed": "checks that are required more or less strictly now",
}

_HOLDS: Final[frozenset[Outcome]] = frozenset(("pass", "info", "not-applicable", "unexpected-pass"))
_GROUP: Final[Mapping[Outcome, str]] = {
    **dict.fromkeys(_HOLDS, "holds"),
    **dict.fromkeys(UNJUDGED, "unjudged"),
}
#: From one group of outcomes to another. What is missing is no change worth a line.
_MOVES: Final[Mapping[tuple[str, str], Kind]] = {
    ("holds", "fail"): "regression",
    ("warn", "fail"): "regression",
    ("unjudged", "fail"): "uncovered",
    ("waived", "fail"): "waiver-changed",
    ("fail", "waived"): "waiver-changed",
    ("holds", "waived"): "regression",
    ("warn", "waived"): "regression",
    ("unjudged", "waived"): "uncovered",
    ("holds", "warn"): "new-warning",
    ("unjudged", "warn"): "new-warning",
    ("holds", "unjudged"): "lost",
    ("warn", "unjudged"): "lost",
    ("fail", "unjudged"): "lost",
    ("waived", "unjudged"): "lost",
    ("fail", "holds"): "fixed",
    ("fail", "warn"): "fixed",
    ("waived", "holds"): "fixed",
    ("waived", "warn"): "fixed",
    ("warn", "holds"): "fixed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference."""

    kind: Kind
    what: str
    """A check's id, ``service.profile``, or a capability's name."""
    preset: str = ""
    before: str = ""
    after: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """All differences, worst kind first."""

    before: str
    """The earlier target's name and version."""
    after: str
    changes: tuple[Change, ...]
    same: int
    """Results without a change."""

    @property
    def exit_status(self) -> int:
        """1 if anything regressed, else 0."""
        return int(any(change.kind == "regression" for change in self.changes))


def compare(before: Report, after: Report) -> Differences:
    """Compare two reports, the earlier one first."""
    old = {(each.check, each.preset): each for each in ordered(before).results}
    new = {(each.check, each.preset): each for each in ordered(after).results}
    changes: list[Change] = []
    same = 0
    for key in {**old, **new}:
        found = list(_result(key, old.get(key), new.get(key)))
        changes += found
        same += not found
    changes += _verdicts(before, after)
    changes += _capabilities(before, after)
    order = list(KINDS)
    return Differences(
        before=target_name(before),
        after=target_name(after),
        changes=tuple(sorted(changes, key=lambda change: order.index(change.kind))),
        same=same,
    )


def _result(key: tuple[str, str], old: Result | None, new: Result | None) -> Iterator[Change]:
    check, preset = key
    if old is None or new is None:
        yield Change(
            kind="new" if old is None else "removed",
            what=check,
            preset=preset,
            before=old.outcome if old else "",
            after=new.outcome if new else "",
            note=_note(new or old),
        )
        return
    if old.revision != new.revision:
        yield _change("meaning-changed", old, new, f"revision {old.revision} to {new.revision}")
        return
    if old.level != new.level:
        yield _change("level-changed", old, new, f"{old.level} to {new.level}")
    kind = _moved(old, new)
    if kind is not None:
        yield _change(kind, old, new, _note(new))


def _moved(old: Result, new: Result) -> Kind | None:
    groups = (_GROUP.get(old.outcome, old.outcome), _GROUP.get(new.outcome, new.outcome))
    if groups[0] == groups[1]:
        both = bool(old.fingerprint and new.fingerprint)
        return "other-failure" if both and old.fingerprint != new.fingerprint else None
    return _MOVES.get(groups)


def _change(kind: Kind, old: Result, new: Result, note: str) -> Change:
    return Change(
        kind=kind,
        what=new.check,
        preset=new.preset,
        before=old.outcome,
        after=new.outcome,
        note=note,
    )


def _note(result: Result | None) -> str:
    if result is None:
        return ""
    return result.failure.observed if result.failure is not None else result.reason


def _verdicts(before: Report, after: Report) -> Iterator[Change]:
    old = {f"{each.service}.{each.profile}": each.verdict for each in before.verdicts}
    new = {f"{each.service}.{each.profile}": each.verdict for each in after.verdicts}
    old["overall"], new["overall"] = before.verdict, after.verdict
    for name in dict.fromkeys(["overall", *old, *new]):
        a, b = old.get(name, "not judged"), new.get(name, "not judged")
        if a != b:
            yield Change(kind="verdict-changed", what=name, before=a, after=b)


def _capabilities(before: Report, after: Report) -> Iterator[Change]:
    old = {each.name: each for each in before.capabilities}
    new = {each.name: each for each in after.capabilities}
    declared = {True: "declared", False: "not declared", None: ""}
    for name in sorted({*old, *new}):
        a, b = (
            ", ".join(filter(None, (declared[each.declared], each.probed))) if each else "unknown"
            for each in (old.get(name), new.get(name))
        )
        if a != b:
            yield Change(kind="capability-changed", what=name, before=a, after=b)
