"""JUnit XML, for whatever a build server makes of it.

It has no word for most outcomes: what could not be judged is a skip whose message says why, and
the verdict is a property of the suite.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent, tostring

from openshell_drivers.conformance.report.documents import ordered
from openshell_drivers.conformance.report.model import Failure, Report, Result
from openshell_drivers.conformance.report.verdicts import service_verdicts

#: Whatever XML 1.0 cannot hold, in whatever spelling.
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SKIPPED: Final = ("not-applicable", "not-testable", "not-observable", "blocked", "waived")


def to_text(report: Report) -> str:
    """The report as JUnit XML: a suite per service, profile and gateway preset."""
    results = ordered(report).results
    root = Element("testsuites", name="openshell driver conformance")
    _count(root, results)
    _properties(
        root,
        ("verdict", report.verdict),
        ("target", report.target.read_as),
        ("driver", f"{report.target.name} {report.target.version}".strip()),
        ("run", report.run.id),
        ("suite", report.run.suite),
    )
    for (name, preset), group in _suites(results):
        _suite(root, report, name, preset, group)
    indent(ElementTree(root))
    text: str = tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suites(results: Iterable[Result]) -> Iterator[tuple[tuple[str, str], list[Result]]]:
    def name(result: Result) -> tuple[str, str]:
        return f"{result.service}.{result.profile}", result.preset

    together: dict[tuple[str, str], list[Result]] = {}
    for key, group in groupby(results, key=name):
        together.setdefault(key, []).extend(group)
    yield from together.items()


def _suite(root: Element, report: Report, name: str, preset: str, results: list[Result]) -> None:
    suite = SubElement(
        root, "testsuite", name=f"{name} [{preset}]", timestamp=_clean(report.run.started)
    )
    _count(suite, results)
    verdicts = {f"{each.service}.{each.profile}": each.verdict for each in report.verdicts}
    here = service_verdicts(results)[0].verdict
    _properties(suite, ("verdict", verdicts.get(name, "")), ("verdict here", here))
    sources = {clause.id: f"{clause.source} {clause.where}".strip() for clause in report.clauses}
    for result in results:
        _case(suite, name, result, sources.get(result.clause, ""))


def _case(suite: Element, name: str, result: Result, source: str) -> None:
    case = SubElement(
        suite,
        "testcase",
        classname=name,
        name=_clean(f"{result.check} [{result.preset}] {result.title}"),
        time=f"{result.milliseconds / 1000:.3f}",
    )
    _properties(
        case,
        ("outcome", result.outcome),
        ("level", result.level),
        ("clause", result.clause),
        ("source", source),
        ("revision", str(result.revision)),
        ("fingerprint", result.fingerprint),
    )
    reason = _clean(result.reason)
    if result.outcome == "fail":
        _said(case, "failure", result, type=result.level, message=reason)
    elif result.outcome == "unexpected-pass":
        _said(case, "failure", result, type="waiver", message=f"unexpected pass: {reason}")
    elif result.outcome == "error":
        _said(case, "error", result, type="suite", message=reason)
    elif result.outcome in _SKIPPED:
        SubElement(case, "skipped", message=f"{result.outcome}: {_reason(result)}")
    if result.outcome in ("warn", "info", "waived") or result.notes:
        SubElement(case, "system-out").text = _clean(_words(result))


def _reason(result: Result) -> str:
    return _clean(result.reason or result.blocked_by or "no reason given")


def _said(case: Element, tag: str, result: Result, **attributes: str) -> None:
    SubElement(case, tag, attributes).text = _clean(_words(result))


def _words(result: Result) -> str:
    lines = [f"{result.outcome}: {result.reason}"] if result.reason else [result.outcome]
    lines += [f"note: {note}" for note in result.notes]
    if result.failure is not None:
        lines += _failure(result.failure)
    if result.repeat:
        lines.append(f"again: {result.repeat}")
    return "\n".join(lines)


def _failure(failure: Failure) -> Iterator[str]:
    yield f"expected: {failure.expected}"
    yield f"observed: {failure.observed}"
    yield f"a user sees: {failure.sees}"
    yield f"mend: {failure.mend}"
    for call in failure.transcript:
        answer = f"{call.code} {call.message}".strip()
        yield f"{call.at:9.3f} s  {call.rpc} {call.request} -> {answer}"
    for line in failure.log:
        yield f"log: {line}"


def _count(element: Element, results: list[Result]) -> None:
    outcomes = [result.outcome for result in results]
    figures = {
        "tests": len(outcomes),
        "failures": outcomes.count("fail") + outcomes.count("unexpected-pass"),
        "errors": outcomes.count("error"),
        "skipped": sum(outcome in _SKIPPED for outcome in outcomes),
    }
    for name, figure in figures.items():
        element.set(name, str(figure))
    element.set("time", f"{sum(result.milliseconds for result in results) / 1000:.3f}")


def _properties(element: Element, *pairs: tuple[str, str]) -> None:
    holder = SubElement(element, "properties")
    for name, value in pairs:
        if value:
            SubElement(holder, "property", name=name, value=_clean(value))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
