"""What a section of the benchmarks gives: rows to read, targets to hold, samples to keep."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LOOK_SECONDS = 0.2
_SLACK = 0.1
_BUSY = (0, 1, 2, 5, 6, 7)  # of /proc/stat: user, nice, system, irq, softirq, steal


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A figure and the limit it is to hold."""

    what: str
    value: float
    limit: float
    unit: str
    at_least: bool = False
    ratio: bool = False
    """Whether it holds on any machine. `--check` judges only these, with some slack."""

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def failed(self) -> bool:
        """Whether it is a ratio that is off by more than noise."""
        slack = 1 - _SLACK if self.at_least else 1 + _SLACK
        far = self.value < self.limit * slack if self.at_least else self.value > self.limit * slack
        return self.ratio and far

    def line(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "ok    " if self.met else "MISSED"
        return f"{verdict} {self.what}: {self.value:.4g} {self.unit} ({sign} {self.limit:g})"


@dataclass(slots=True, kw_only=True)
class Section:
    """One table, with the samples behind it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: Any = None

    def text(self) -> str:
        table = [self.columns, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.columns))]
        lines = [self.title, "-" * len(self.title)]
        for row in table:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join(cells))
        lines += [f"note: {note}" for note in self.notes]
        lines += [target.line() for target in self.targets]
        return "\n".join(lines)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """The quartiles, as the honest companion of a median."""
    return f"{percentile(values, 0.25):.2f}-{percentile(values, 0.75):.2f}"


class Neighbours:
    """The CPU that everybody else on the machine uses, in cores, between two looks."""

    def __init__(self) -> None:
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._before = self._busy()

    def cores(self, seconds: float, own: float) -> float:
        """Give what was used since the last look, less `own` CPU seconds."""
        now = self._busy()
        used, self._before = now - self._before, now
        return max(0.0, (used - own) / seconds)

    def wait(self, cores: float, limit: float) -> float:
        """Wait until they use less than `cores`; give the seconds it took, at most `limit`."""
        began = time.perf_counter()
        while (waited := time.perf_counter() - began) < limit:
            self._before = self._busy()
            time.sleep(_LOOK_SECONDS)
            if self.cores(_LOOK_SECONDS, 0.0) < cores:
                break
        return waited

    def _busy(self) -> float:
        numbers = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:]
        return sum(int(numbers[field]) for field in _BUSY) / self._ticks
