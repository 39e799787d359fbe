"""`Live`: the progress and the end of ``openshell-drivers verify``, instead of pytest's own."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, TextIO

from openshell_drivers._logs import printable
from openshell_drivers.conformance._client import Event, Feed
from openshell_drivers.conformance._pytest.cards import card, grouped, weightiest_first
from openshell_drivers.conformance._pytest.summary import counted, heading, summary

_BAD: Final = ("fail", "warn", "waived", "unexpected-pass", "error")
_SIGNS: Final = {"fail": "✕", "warn": "!", "waived": "≈", "unexpected-pass": "↑", "error": "#"}
_CLEAR: Final = "\r\x1b[2K"


class Live:
    """On a terminal one changing line; else a line for each failure as it comes."""

    def __init__(self, request: Mapping[str, Any], out: TextIO | None = None) -> None:
        self._request = request
        self._out = out or sys.stdout
        self._changing = self._out.isatty()
        self._feed: Feed | None = None
        self._units: dict[str, Event] = {}
        self._counts: Counter[str] = Counter()
        self._said: set[tuple[str, str]] = set()

    def planned(self, feed: Feed) -> None:
        """The driver is there; this is what will be looked at."""
        self._feed = feed
        plan = feed.plan()
        self._units = {unit["key"]: unit for unit in plan["units"]}
        for line in heading(self._request, feed):
            self._line(line)
        checks = counted(len({unit["check"] for unit in self._units.values()}), "check")
        presets = counted(len({unit["preset"] for unit in self._units.values()}), "gateway")
        self._line(f"plan      {checks} under {presets}")
        self._line("")

    def show(self, result: Event | None) -> None:
        """Something has changed, or time has passed."""
        if result is not None:
            self._counts[result["outcome"]] += 1
            self._units.pop(f"{result['check']}[{result['preset']}]", None)
            self._first(result)
        if self._changing:
            width = shutil.get_terminal_size().columns - 1
            self._write(_CLEAR + self._progress()[:width])

    def stopping(self) -> None:
        """No more results are wanted."""
        self._line(_CLEAR * self._changing + "stopping; what was made is being removed")

    def finished(self) -> None:
        """All is done: show what failed, and the verdict."""
        if self._changing:
            self._write(_CLEAR)
        if self._feed is None:
            return
        results = self._feed.results
        keys = [unit["key"] for unit in self._feed.plan().get("units", ())]
        failed = [results[key] for key in keys if key in results and results[key]["failure"]]
        for outcome in _BAD:
            groups = grouped(each for each in failed if each["outcome"] == outcome)
            for group in weightiest_first(groups, results.values()):
                self._line(f"\n{_SIGNS[outcome]} {card(group)}")
        self._line("")
        for line in summary(self._request, self._feed):
            self._line(line)
        self._out.flush()

    def _first(self, result: Event) -> None:
        """Say once what is the same under every gateway."""
        key = (result["check"], result["fingerprint"])
        if result["outcome"] in _BAD and key not in self._said:
            self._said.add(key)
            where = f"{result['check']} [{result['preset']}]"
            sign = _SIGNS[result["outcome"]]
            text = printable(f"{sign} {where} {result['title']}: {result['reason']}", 400)
            self._line(_CLEAR * self._changing + text)

    def _progress(self) -> str:
        done = sum(self._counts.values())
        bad = ", ".join(f"{self._counts[each]} {each}" for each in _BAD if self._counts[each])
        waits = next(iter(self._units.values()), None)
        under_way = (
            "" if waits is None else f"; {waits['check']} [{waits['preset']}] {waits['title']}"
        )
        return printable(f"{done}/{done + len(self._units)} {bad or 'all well'}{under_way}", 400)

    def _line(self, text: str) -> None:
        self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
