"""``verify --list`` and ``verify --explain``: the clauses and their checks, without a target."""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from openshell_drivers.conformance._checks import Check, checks
from openshell_drivers.conformance._clauses import Clause, Line, clauses
from openshell_drivers.errors import ConfigError

_LINES: Final[tuple[tuple[Line, str], ...]] = (("F", "fork"), ("U", "0.0.x"), ("N", "0.1.x"))
_WIDTH: Final = 100
_LABEL: Final = 12


def show(form: str) -> int:
    """Print all clauses, as a table or as a JSON list."""
    if form == "json":
        print(json.dumps([_document(each) for each in clauses().values()], indent=2))
        return 0
    names = "/".join(name for _, name in _LINES)
    print(f"{'clause':16}{names:22}{'observed':10}checks")
    for clause in clauses().values():
        found = ", ".join(check.id for check in _checks(clause)) or _without(clause)
        print(f"{clause.id:16}{_levels(clause):22}{clause.observed:10}{found}")
    print(f"\n{len(clauses())} clauses, {len(checks())} checks; levels by gateway line")
    return 0


def explain(name: str) -> int:
    """Print all about one clause, or about the clause of one check. Raises `ConfigError`."""
    check = checks().get(name)
    clause = clauses().get(check.clause if check is not None else name)
    if clause is None:
        known = [*clauses(), *checks()]
        near = " or ".join(difflib.get_close_matches(name.upper(), known, n=2))
        hint = f"; did you mean {near}?" if near else ""
        raise ConfigError(f"there is no clause or check {name!r}{hint}")
    for line in _explained(clause, [check] if check is not None else _checks(clause)):
        print(line)
    return 0


def _checks(clause: Clause) -> list[Check]:
    return [check for check in checks().values() if check.clause == clause.id]


def _levels(clause: Clause) -> str:
    return "/".join(clause.level(line) or "-" for line, _ in _LINES)


def _without(clause: Clause) -> str:
    return "none" if clause.observed == "none" else "none yet"


def _explained(clause: Clause, found: list[Check]) -> Iterator[str]:
    levels = [f"{clause.level(line) or 'nothing'} ({name})" for line, name in _LINES]
    yield from _field(clause.id, clause.text)
    yield from _field("level", ", ".join(levels))
    yield from _field(
        "source", f"{clause.source}: {clause.where}" if clause.where else clause.source
    )
    yield from _field("covers", ", ".join(clause.covers))
    yield from _field("a user sees", clause.sees)
    yield from _field("mend", clause.mend)
    yield from _field("observed by", "" if clause.observed == "none" else clause.observed)
    yield from _field("not observed", clause.unobserved)
    for check in found:
        yield from _field("check", f"{check.id}: {check.title}")
        run = f"profile {check.profile}, service {check.service}, revision {check.revision}"
        needs = f"; needs {', '.join(check.needs)}" if check.needs else ""
        yield from _field("", run + needs)
    if not found and clause.observed != "none":
        yield from _field("check", "none yet")


def _field(label: str, text: str) -> Iterator[str]:
    indent = " " * (_LABEL + 2)
    lines = textwrap.wrap(text, _WIDTH - len(indent), break_on_hyphens=False)
    for number, line in enumerate(lines):
        yield (f"{label:{_LABEL}}  " if not number else indent) + line


def _document(clause: Clause) -> dict[str, Any]:
    return {
        "id": clause.id,
        "text": clause.text,
        "levels": {name: clause.level(line) for line, name in _LINES},
        "source": clause.source,
        "where": clause.where,
        "observed": clause.observed,
        "unobserved": clause.unobserved,
        "sees": clause.sees,
        "mend": clause.mend,
        "covers": list(clause.covers),
        "checks": [
            {
                "id": check.id,
                "title": check.title,
                "service": check.service,
                "profile": check.profile,
                "needs": list(check.needs),
                "presets": list(check.presets),
                "revision": check.revision,
            }
            for check in _checks(clause)
        ],
    }
