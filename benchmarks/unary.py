"""Unary calls: the SDK's server beside a bare one, in short turns, ratios within rounds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import product, repeat

from benchmarks.figures import Neighbours, Section, Target, median, percentile, spread
from benchmarks.processes import BODY, Bench, Process, bare, sdk
from benchmarks.raw import RESOLVE, Load, RawClient

CONCURRENCIES = (1, 8, 64)
_DEADLINE = "30S"
_CONTROL = "bare, another process"
_WARM_UP_SECONDS = 0.3
_ROUNDS_OF_A_LIFE = 3
_QUIET_CORES = 0.3
_ENOUGH = 1 / 3
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One server under one kind of call."""

    name: str
    process: Process
    client: RawClient
    bodies: Iterator[bytes]
    beside: str
    """The case that it is a ratio to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A case's turn in one round."""

    case: str
    concurrency: int
    round: int
    foreign_cores: float
    """What others used during the whole round."""
    failed: int
    figures: dict[str, float]


def measure(bench: Bench, *, rounds: int, seconds: float) -> Section:
    """Give every case a turn of `seconds` in each round, so that all see the same weather.

    All processes are started anew every few rounds: two of the same program differ by more than
    what is looked for here, by where their memory happens to lie.
    """
    rows: list[Row] = []
    for first in range(0, rounds, _ROUNDS_OF_A_LIFE):
        with _cases(bench) as cases:
            warm_up(cases)
            turns = range(first, min(rounds, first + _ROUNDS_OF_A_LIFE))
            for turn, concurrency in product(turns, CONCURRENCIES):
                rows += take_round(cases, concurrency, turn, seconds)
            memory = {c.name: c.process.memory() for c in cases if "deadline" not in c.name}
    return _report(cases, rows, memory)


@contextmanager
def _cases(bench: Bench) -> Iterator[Sequence[Case]]:
    """All servers at once, each in its process."""
    to_null, to_file = "SDK, JSON line to /dev/null", "SDK, JSON line to a file"
    with ExitStack() as stack:
        plain, control, quiet, null, file = (
            stack.enter_context(bench.running(command))
            for command in (
                bare(),
                bare(),
                sdk(),
                sdk(to_null, "info"),
                sdk(to_file, "info", bench.directory / "calls.log"),
            )
        )

        def case(name: str, process: Process, beside: str, deadline: str | None = None) -> Case:
            client = stack.enter_context(RawClient(process.socket, RESOLVE, deadline=deadline))
            return Case(
                name=name, process=process, client=client, bodies=repeat(BODY), beside=beside
            )

        yield [
            case("bare", plain, "bare"),
            case(_CONTROL, control, "bare"),
            case("SDK", quiet, "bare"),
            case(to_null, null, "bare"),
            case(to_file, file, "bare"),
            case("bare, deadline", plain, "bare, deadline", _DEADLINE),
            case("SDK, deadline", quiet, "bare, deadline", _DEADLINE),
        ]


def warm_up(cases: Sequence[Case]) -> None:
    """Make the first calls of each process, which are dearer."""
    for case in cases:
        _turn(case, 8, _WARM_UP_SECONDS)


def take_round(cases: Sequence[Case], concurrency: int, turn: int, seconds: float) -> list[Row]:
    """Give each case its turn, beginning with another one each time."""
    neighbours = Neighbours()
    neighbours.wait(_QUIET_CORES, _PATIENCE_SECONDS)
    began, own = time.perf_counter(), time.process_time()
    shift = turn % len(cases)
    taken = [
        (case, *_turn(case, concurrency, seconds)) for case in (*cases[shift:], *cases[:shift])
    ]
    own = time.process_time() - own + sum(server for _, _, server, _ in taken)
    foreign = neighbours.cores(time.perf_counter() - began, own)
    return [
        Row(
            case=case.name,
            concurrency=concurrency,
            round=turn,
            foreign_cores=foreign,
            failed=load.failed,
            figures=_figures(load, server, client),
        )
        for case, load, server, client in taken
    ]


def _turn(case: Case, concurrency: int, seconds: float) -> tuple[Load, float, float]:
    """Give what the client saw, and the CPU seconds of the server and of the client."""
    server, own = case.process.cpu_seconds(), time.process_time()
    load = case.client.load(case.bodies, in_flight=concurrency, seconds=seconds)
    return load, case.process.cpu_seconds() - server, time.process_time() - own


def _figures(load: Load, server: float, client: float) -> dict[str, float]:
    calls = len(load.latencies)
    return {
        "rate": load.rate,
        "server_us": server / calls * 1e6,
        "client_us": client / calls * 1e6,
        "client_cores": client / load.seconds,
        "p50_us": percentile(load.latencies, 0.5) * 1e6,
        "p99_us": percentile(load.latencies, 0.99) * 1e6,
    }


def ratios(rows: Sequence[Row], case: Case, concurrency: int, figure: str) -> list[float]:
    """Divide a case's figure by its neighbour's, round by round.

    Rounds with noisy neighbours do not count, if at least a third of them is left.
    """
    mine = {r.round: r for r in rows if (r.case, r.concurrency) == (case.name, concurrency)}
    other = {r.round: r for r in rows if (r.case, r.concurrency) == (case.beside, concurrency)}
    quiet = [turn for turn, row in mine.items() if row.foreign_cores <= _QUIET_CORES]
    used = quiet if len(quiet) >= _ENOUGH * len(mine) else list(mine)
    return [mine[turn].figures[figure] / other[turn].figures[figure] for turn in used]


def _report(
    cases: Sequence[Case], rows: Sequence[Row], memory: dict[str, tuple[float, float]]
) -> Section:
    section = Section(
        title="Unary calls on a Unix socket (medians; ratios are medians within rounds)",
        columns=(
            *("server", "in flight", "calls/s", "p50 us", "p99 us", "server us/call"),
            *("calls/s ratio", "CPU ratio", "quartiles", "n", "client us", "client cores"),
        ),
        samples=[asdict(row) for row in rows],
    )
    for concurrency, case in product(CONCURRENCIES, cases):
        section.rows.append(_line(case, concurrency, rows))
    section.targets += _targets(cases, rows)
    for name, (rss, uss) in memory.items():
        section.notes.append(f"{name}: {rss:.1f} MiB resident after the load, {uss:.1f} unshared")
    section.notes.append(f"{_CONTROL!r} should be 1.00: how far it is off is how far all may be")
    section.notes.append(f"{sum(row.failed for row in rows)} calls failed")
    foreign = median([row.foreign_cores for row in rows])
    section.notes.append(f"others used {foreign:.2f} cores (median)")
    return section


def _line(case: Case, concurrency: int, rows: Sequence[Row]) -> tuple[str, ...]:
    own = [r.figures for r in rows if (r.case, r.concurrency) == (case.name, concurrency)]

    def typical(figure: str) -> float:
        return median([figures[figure] for figures in own])

    cpu = ratios(rows, case, concurrency, "server_us")
    return (
        case.name,
        str(concurrency),
        f"{typical('rate'):,.0f}",
        f"{typical('p50_us'):,.0f}",
        f"{typical('p99_us'):,.0f}",
        f"{typical('server_us'):.0f}",
        f"{median(ratios(rows, case, concurrency, 'rate')):.2f}",
        f"{median(cpu):.2f}",
        spread(cpu),
        f"{len(cpu)}/{len(own)}",
        f"{typical('client_us'):.0f}",
        f"{typical('client_cores'):.2f}",
    )


def _targets(cases: Sequence[Case], rows: Sequence[Row]) -> list[Target]:
    targets = []
    for case in cases:
        if case.name in {case.beside, _CONTROL}:
            continue
        share = 0.8 if "JSON" in case.name else 0.9
        figures = {
            f"{case.name}: calls/s to {case.beside}, 8 in flight": median(
                ratios(rows, case, 8, "rate")
            ),
            f"{case.name}: CPU of {case.beside} to its own, 8 in flight": 1
            / median(ratios(rows, case, 8, "server_us")),
        }
        targets += [
            Target(what=what, value=value, limit=share, unit="x", at_least=True, ratio=True)
            for what, value in figures.items()
        ]
    quiet = next(case for case in cases if case.name == "SDK")
    tail = median(ratios(rows, quiet, 64, "p99_us"))
    what = "SDK: p99 to bare, 64 in flight"
    return [*targets, Target(what=what, value=tail, limit=1.2, unit="x", ratio=True)]
