"""`card`: a failure, for an author who reads nothing else."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from openshell_drivers._logs import printable
from openshell_drivers.conformance._clauses import Clause, clause_of, clauses
from openshell_drivers.conformance._client import Event

_WIDTH: Final = 100
_LABEL: Final = 10
_CALLS: Final = 8
_LINES: Final = 6
_LONGEST: Final = 4000
_ANSWER: Final = 600
#: Milliseconds from which on it is worth a word how long a call took.
_SLOW: Final = 300
_SOURCES: Final = {"sdk": "a recommendation of this suite, not a gateway's"}


def card(results: Sequence[Event]) -> str:
    """Show one failure, and all gateways under which it is the same."""
    return "\n".join(_lines(results))


def grouped(results: Iterable[Event]) -> list[list[Event]]:
    """Put together what is the same failure under several gateways."""
    groups: dict[tuple[str, str], list[Event]] = {}
    for result in results:
        groups.setdefault((result["check"], result["fingerprint"]), []).append(result)
    return list(groups.values())


def weightiest_first(groups: Iterable[list[Event]], results: Iterable[Event]) -> list[list[Event]]:
    """Order failures by how many other results wait for the clause that is broken."""
    waiting = waiters(results)
    return sorted(groups, key=lambda group: -waiting[group[0]["clause"]])


def waiters(results: Iterable[Event]) -> Counter[str]:
    """How many results could not be judged because of each clause."""
    return Counter(
        clause_of(each["blocked_by"])
        for each in results
        if each["outcome"] == "blocked" and each["blocked_by"]
    )


def _lines(results: Sequence[Event]) -> Iterator[str]:
    first = results[0]
    failure = first["failure"]
    clause = clauses().get(first["clause"])
    yield f"{first['check']}  {first['title']}"
    yield from _field("under", _under(results))
    if clause is not None:
        yield from _field("rule", clause.text)
    yield from _field("expected", failure["expected"])
    yield from _field("observed", failure["observed"])
    yield from _field("user sees", failure["sees"])
    yield from _field("mend", failure["mend"])
    calls = [line for each in failure["transcript"][-_CALLS:] for line in _call(each)]
    yield from _block("last calls", calls)
    yield from _block("driver's log", failure["log"][-_LINES:])
    if clause is not None:
        yield from _field("source", _SOURCES.get(clause.source, clause.source) + _where(clause))
    yield from _field("again", first["repeat"], wrap=False)


def _where(clause: Clause) -> str:
    return f": {clause.where}" if clause.where else ""


def _under(results: Sequence[Event]) -> str:
    levels: dict[str, list[str]] = {}
    for result in results:
        levels.setdefault(result["level"], []).append(result["preset"])
    return "; ".join(f"{', '.join(presets)} ({level})" for level, presets in levels.items())


def _call(call: Event) -> Iterator[str]:
    """Write the question behind its time, and the answer below."""
    asked = printable(f"{call['rpc']} {call['request']}".rstrip(), _ANSWER)
    for number, line in enumerate(_wrapped(asked)):
        yield f"{call['at']:7.3f} s  {line}" if number == 0 else f"{'':13}{line}"
    took = f" after {call['milliseconds'] / 1000:.1f} s" if call["milliseconds"] > _SLOW else ""
    said = printable(f"{call['code']}{took} {call['message']}".strip(), _ANSWER)
    for number, line in enumerate(_wrapped(said)):
        yield f"{'->' if number == 0 else '':>13}  {line}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH - 20, break_on_hyphens=False)


def _field(label: str, text: str, *, wrap: bool = True) -> Iterator[str]:
    text = printable(text, _LONGEST)
    if text:
        indent = " " * (_LABEL + 2)
        lines = (
            textwrap.wrap(text, _WIDTH - len(indent), break_on_hyphens=False) if wrap else [text]
        )
        yield f"  {label:{_LABEL}}{lines[0]}"
        yield from (indent + line for line in lines[1:])


def _block(label: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"  {label}"
        yield from (f"    {printable(line, 200)}" for line in lines)
