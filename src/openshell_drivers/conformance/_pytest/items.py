"""`CheckItem`: one check under one gateway as pytest shows it. It judges nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import pytest

from openshell_drivers.conformance._client import Event, Feed
from openshell_drivers.conformance._pytest.cards import card

PREFIX: Final = "openshell"
#: What a report has as its property, for the letter that pytest shows.
PROPERTY: Final = "openshell"
_FAILED: Final = frozenset({"fail", "unexpected-pass"})
_SKIPPED: Final = frozenset({"not-applicable", "not-testable", "not-observable", "blocked"})
#: Outcome -> pytest's category, letter and word; the others are pytest's own.
_SHOWN: Final = {
    "warn": ("warned", "W", ("WARNED", {"yellow": True})),
    "waived": ("waived", "w", ("WAIVED", {"yellow": True})),
}

Outcome = Literal["passed", "failed", "skipped"]


class Suite(pytest.Collector):
    """All that is planned. Its place is nowhere: no file, no folder, no setting of the host's."""

    def __init__(self, *, units: Sequence[Event], feed: Feed | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._units = units
        self._feed = feed

    def collect(self) -> Iterable[pytest.Item]:
        """Make the items."""
        for unit in self._units:
            yield CheckItem.from_parent(self, name=unit["key"], unit=unit, feed=self._feed)


class CheckItem(pytest.Item):
    """One unit. Its result is what the engine says."""

    def __init__(self, *, unit: Event, feed: Feed | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unit = unit
        self._feed = feed
        words = (unit["level"].lower(), unit["profile"], unit["service"], unit["preset"])
        self.extra_keyword_matches.update(words)

    @property
    def key(self) -> str:
        """The unit's name."""
        return str(self.unit["key"])

    def reportinfo(self) -> tuple[str, None, str]:
        """Its place in reports."""
        return PREFIX, None, self.key

    def result(self) -> Event | None:
        """Wait for the result; None if the run ends without it."""
        return None if self._feed is None else self._feed.result(self.key)

    def run(self) -> None:
        """Report the result as a test's: without any hook by which others could change it.

        There are neither fixtures nor set-up: retries and a conftest's hooks find nothing.
        """
        result = self.result()
        hook = self.ihook
        place = (PREFIX, None, self.key)
        hook.pytest_runtest_logstart(nodeid=self.nodeid, location=place)
        for report in self._reports(result):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=self.nodeid, location=place)

    def runtest(self) -> None:
        """For a plugin that insists on running it its own way."""
        outcome, text = judged(self.result())
        if outcome == "failed":
            pytest.fail(text, pytrace=False)
        if outcome == "skipped":
            pytest.skip(text)

    def _reports(self, result: Event | None) -> Iterable[pytest.TestReport]:
        if result is not None and result["outcome"] == "error":
            yield self._report("setup", "failed", result, result["reason"])
        else:
            yield self._report("setup", "passed", None)
            yield self._report("call", *_outcome(result))
        yield self._report("teardown", "passed", None)

    def _report(
        self,
        when: Literal["setup", "call", "teardown"],
        outcome: Outcome,
        result: Event | None,
        text: str = "",
    ) -> pytest.TestReport:
        longrepr: Any = (PREFIX, None, text) if outcome == "skipped" else text or None
        said = [("notes", "\n".join(result["notes"]))] if result and result["notes"] else []
        return pytest.TestReport(
            nodeid=self.nodeid,
            location=(PREFIX, None, self.key),
            keywords={self.key: 1},
            outcome=outcome,
            longrepr=longrepr,
            when=when,
            sections=said,
            duration=result["milliseconds"] / 1000 if result else 0,
            user_properties=[(PROPERTY, result["outcome"])] if result else [],
        )


def _outcome(result: Event | None) -> tuple[Outcome, Event | None, str]:
    outcome, text = judged(result)
    return outcome, result, text


def judged(result: Event | None) -> tuple[Outcome, str]:
    """What a result is to pytest, and the text that goes with it."""
    if result is None:
        return "skipped", "the run ended before it"
    name = result["outcome"]
    if name in _FAILED or name == "error":
        return "failed", card([result]) if result["failure"] else _reason(result)
    if name in _SKIPPED:
        return "skipped", f"{name}: {result['reason']}"
    return "passed", card([result]) if result["failure"] else ""


def _reason(result: Event) -> str:
    if result["outcome"] == "unexpected-pass":
        return "it passes, so its waiver is to be removed"
    return str(result["reason"])


def shown(report: pytest.TestReport) -> tuple[str, str, tuple[str, Mapping[str, bool]]] | None:
    """How pytest shows a report of ours that is neither pass, failure nor skip."""
    if report.when != "call" or not report.nodeid.startswith(f"{PREFIX}::"):
        return None
    return _SHOWN.get(str(dict(report.user_properties).get(PROPERTY, "")))
