"""The end of a run in plain words, for pytest's summary and for ``openshell-drivers verify``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from openshell_drivers._logs import printable
from openshell_drivers.conformance._client import Event, Feed
from openshell_drivers.conformance._pytest.cards import waiters

VERDICTS: Final[Mapping[str, str]] = {
    "conformant": "conformant",
    "conformant-with-waivers": "conformant, with waivers",
    "partial": "partial: nothing failed, but not all could be judged",
    "non-conformant": "not conformant",
    "incomplete": "incomplete: the run was cut short, or nothing ran",
}
_WORDS: Final[Mapping[str, str]] = {
    "pass": "held",
    "fail": "failed",
    "warn": "not as recommended",
    "info": "noted",
    "not-applicable": "not needed",
    "not-testable": "not testable",
    "not-observable": "not observable",
    "blocked": "blocked",
    "waived": "waived",
    "unexpected-pass": "passed in spite of a waiver",
    "error": "broke in the suite",
}
#: How many kinds of reasons are told apart where nothing of the driver's is to blame.
_REASONS: Final = 4
_STATUS: Final[Mapping[int, str]] = {
    1: "a rule that gateways rely on does not hold",
    3: "the suite itself broke",
    5: "all is well, but something was left behind",
    6: "not all could be judged",
    7: "there is a problem with waivers",
}


def counted(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}{'s' * (number != 1)}"


def summary(request: Event, feed: Feed) -> Iterator[str]:
    """All that there is to say, line by line."""
    for line in _summary(request, feed):
        yield printable(line, 2000)


def heading(request: Event, feed: Feed) -> Iterator[str]:
    """What is judged."""
    target = request["target"]
    read = target["read_as"]
    yield f"target    {target['given']}" + (f", read as {read}" if read != target["given"] else "")
    plan, start = feed.planned, feed.start
    if plan is not None:
        name = " ".join(filter(None, (plan["name"], plan["version"]))) or "a driver without a name"
        yield f"driver    {name}, serves {', '.join(plan['services']) or 'nothing that is known'}"
    if start is not None:
        yield f"profile   {start['profile']}; run {start['run']}, seed {start['seed']}"


def _summary(request: Event, feed: Feed) -> Iterator[str]:
    yield from heading(request, feed)
    last = feed.last or {}
    if last.get("event") != "finished":
        yield f"verdict   none: {_first_line(last.get('why', 'the run did not end'))}"
        return
    yield from _services(last["verdicts"])
    yield from _gateways(last["gateways"])
    yield from _blocked(feed.results.values())
    yield from _recommended(feed.results.values())
    yield from _missing(feed.results.values())
    yield from _list("left behind:", [_leak(each) for each in last["leaks"]])
    yield from _list("note:", last["warnings"])
    yield from _list("reports:", last["files"])
    status = last["exit_status"]
    why = _STATUS.get(status, "")
    size = f"{counted(len(feed.results), 'result')} in {last['seconds']:.1f} s"
    yield f"verdict   {VERDICTS[last['verdict']]} ({size})"
    if status:
        yield f"status    {status}" + (f": {why}" if why else "")


def _services(verdicts: Collection[Event]) -> Iterator[str]:
    for each in verdicts:
        counts = ", ".join(f"{n} {_WORDS.get(name, name)}" for name, n in each["counts"].items())
        place = f"{each['service']}, {each['profile']}"
        yield f"  {place:32}{VERDICTS[each['verdict']].partition(':')[0]:26}{counts}"


def _gateways(verdicts: Mapping[str, str]) -> Iterator[str]:
    """What to expect of each gateway; nothing where it is the same of all."""
    if len(set(verdicts.values())) > 1:
        for preset, verdict in verdicts.items():
            yield f"  under {preset:26}{VERDICTS[verdict].partition(':')[0]}"


def _blocked(results: Collection[Event]) -> Iterator[str]:
    """What could not be judged because something else is broken."""
    broken = {r["clause"] for r in results if r["outcome"] in {"fail", "warn", "info"}}
    waiting = waiters(results)
    for clause, number in waiting.most_common():
        which = (
            "which is broken: mend that first" if clause in broken else "which did not hold there"
        )
        yield f"  {counted(number, 'result')} blocked by {clause}, {which}"
    others = [r for r in results if r["outcome"] == "blocked" and not r["blocked_by"]]
    for reason, number in Counter(_first_line(r["reason"]) for r in others).most_common(_REASONS):
        yield f"  {counted(number, 'result')} blocked: {reason}"


def _recommended(results: Collection[Event]) -> Iterator[str]:
    checks = {result["check"] for result in results if result["outcome"] == "warn"}
    if checks:
        number = counted(len(checks), "recommendation")
        yield f"  {number} not followed: no failure, unless --strict says so"


def _missing(results: Collection[Event]) -> Iterator[str]:
    """What could not be tested, and what to supply."""
    wanting: dict[str, set[str]] = defaultdict(set)
    for result in results:
        if result["outcome"] in {"not-testable", "not-observable"}:
            wanting[result["reason"]].add(result["check"])
    if wanting:
        yield "could not be judged; to have it judged, supply:"
    for reason, checks in sorted(wanting.items(), key=lambda each: -len(each[1])):
        named = ", ".join(sorted(checks)[:4]) + (", ..." if len(checks) > 4 else "")
        yield f"  {reason} (for {counted(len(checks), 'check')}: {named})"


def _leak(leak: Event) -> str:
    blamed = f" (as {leak['attributed']} failed)" if leak["attributed"] else ""
    return f"{leak['kind']} {leak['name']}{blamed}"


def _list(title: str, lines: Collection[str]) -> Iterator[str]:
    if lines:
        yield title
        yield from (f"  {line}" for line in lines)


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0]
