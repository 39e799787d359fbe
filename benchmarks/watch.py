"""Watch streams: 10,000 sandboxes and their changes, told to one watcher and to ten."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import TypeVar

from benchmarks.figures import Neighbours, Section, Target, median, spread
from benchmarks.fleets import Watching, bare_fleet, fleet
from benchmarks.processes import Bench, Process

#: watchers -> changes in a burst, each told to all of them
BURSTS = {1: 10_000, 10: 2_000}
_COMMANDS = (
    bare_fleet("bare"),
    bare_fleet("bare, another process"),
    fleet("SDK"),
    bare_fleet("bare, bytes ready", ready=True),
)
_ROUNDS_OF_A_LIFE = 3
_QUIET_CORES = 0.3
_PATIENCE_SECONDS = 1.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one server did with a snapshot or a burst."""

    server: str
    watchers: int
    what: str
    round: int
    events: int
    bytes: int
    seconds: float
    server_seconds: float
    client_seconds: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def server_us(self) -> float:
        return self.server_seconds / self.events * 1e6


def measure(bench: Bench, *, rounds: int, seconds: float) -> Section:
    """Let all servers tell the same in turn; processes live for a few rounds of bursts.

    Watchers are opened once in a life, which is its one snapshot, after one that does not count.
    """
    turns: list[Turn] = []
    foreign: list[float] = []
    for first in range(0, rounds, _ROUNDS_OF_A_LIFE):
        last = min(rounds, first + _ROUNDS_OF_A_LIFE)
        neighbours = Neighbours()
        neighbours.wait(_QUIET_CORES, _PATIENCE_SECONDS)
        began, own = time.perf_counter(), time.process_time()
        life = _life(bench, range(first, last))
        own = time.process_time() - own + sum(turn.server_seconds for turn in life)
        foreign.append(neighbours.cores(time.perf_counter() - began, own))
        turns += life
    return _report(turns, foreign)


def _life(bench: Bench, rounds: range) -> list[Turn]:
    turns: list[Turn] = []
    with bench.all_running(_COMMANDS) as processes:
        for process in processes:
            with Watching(process, 1) as warm_up:
                warm_up.read()
                warm_up.order(BURSTS[1])
                warm_up.read()
        for watchers, burst in BURSTS.items():
            turns += _bursts(_shifted(processes, rounds[0]), watchers, burst, rounds)
    return turns


def _bursts(processes: Sequence[Process], watchers: int, burst: int, rounds: range) -> list[Turn]:
    """A snapshot for each server, then bursts in turn."""
    turns: list[Turn] = []
    open_ = []
    try:
        for process in processes:
            clocks = _Clocks(process)
            open_.append(Watching(process, watchers))
            seconds = open_[-1].read()
            turns.append(clocks.turn(open_[-1], "snapshot", rounds[0], seconds))
        for turn in rounds:
            for watching in _shifted(open_, turn):
                clocks = _Clocks(watching.process)
                watching.order(burst)
                turns.append(clocks.turn(watching, "changes", turn, watching.read()))
    finally:
        for watching in open_:
            watching.close()
    return turns


class _Clocks:
    """The CPU of a server and of its reader, from now on."""

    def __init__(self, process: Process) -> None:
        self._server = process.cpu_seconds()
        self._own = time.process_time()

    def turn(self, watching: Watching, what: str, turn: int, seconds: float) -> Turn:
        return Turn(
            server=watching.process.command.name,
            watchers=len(watching.watchers),
            what=what,
            round=turn,
            events=sum(watcher.messages for watcher in watching.watchers),
            bytes=sum(watcher.bytes for watcher in watching.watchers),
            seconds=seconds,
            server_seconds=watching.process.cpu_seconds() - self._server,
            client_seconds=time.process_time() - self._own,
        )


def _shifted(items: Sequence[T], by: int) -> list[T]:
    by %= len(items)
    return [*items[by:], *items[:by]]


def _report(turns: Sequence[Turn], foreign: Sequence[float]) -> Section:
    section = Section(
        title="Watch streams of 10,000 sandboxes (medians; ratios are medians within rounds)",
        columns=(
            *("server", "watchers", "told", "events/s", "server us/event", "bytes/event"),
            *("events/s ratio", "CPU ratio", "quartiles", "n", "client us"),
        ),
        samples=[asdict(turn) for turn in turns],
    )
    for watchers, what, command in product(BURSTS, ("snapshot", "changes"), _COMMANDS):
        own = _of(turns, command.name, watchers, what)
        rates, costs = _ratios(turns, command.name, watchers, what)
        section.rows.append(
            (
                command.name,
                str(watchers),
                what,
                f"{median([turn.rate for turn in own]):,.0f}",
                f"{median([turn.server_us for turn in own]):.1f}",
                f"{median([turn.bytes / turn.events for turn in own]):.0f}",
                f"{median(rates):.2f}",
                f"{median(costs):.2f}",
                spread(costs),
                str(len(own)),
                f"{median([turn.client_seconds / turn.events for turn in own]) * 1e6:.1f}",
            )
        )
        if command.name == "SDK":
            name = f"SDK: events/s to bare, {what} to {watchers}"
            section.targets.append(
                Target(
                    what=name, value=median(rates), limit=0.9, unit="x", at_least=True, ratio=True
                )
            )
    section.notes.append("'bare, bytes ready' encodes nothing: what is left is the transport")
    section.notes.append("'bare, another process' should be 1.00: so far off may all others be")
    section.notes.append(f"others used {median(foreign):.2f} cores (median)")
    return section


def _of(turns: Sequence[Turn], server: str, watchers: int, what: str) -> list[Turn]:
    wanted = server, watchers, what
    return [turn for turn in turns if (turn.server, turn.watchers, turn.what) == wanted]


def _ratios(
    turns: Sequence[Turn], server: str, watchers: int, what: str
) -> tuple[list[float], list[float]]:
    """Divide rates and costs by the bare server's, round by round."""
    pairs = list(
        zip(
            _of(turns, server, watchers, what),
            _of(turns, _COMMANDS[0].name, watchers, what),
            strict=True,
        )
    )
    rates = [mine.rate / other.rate for mine, other in pairs]
    return rates, [mine.server_us / other.server_us for mine, other in pairs]
