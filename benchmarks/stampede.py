"""500 callers at once over 20 names not asked for before, with and without a dead issuer."""

from __future__ import annotations

from benchmarks.figures import Section, Target, median, percentile
from benchmarks.processes import Bench, Process, driver
from benchmarks.raw import LIST, RESOLVE, RawClient
from openshell_drivers._wire import credentials_driver_pb2 as wire

CALLERS = 500
NAMES = 20


def measure(bench: Bench, *, rounds: int, seconds: float) -> Section:
    """Make the two stampedes in turn, `rounds` times, each with new names."""
    command = driver("cached", "cached.py", "--log-level", "error", request=_request("first"))
    kinds = ("all issuers alive", "one issuer hangs")
    found: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    with bench.running(command) as process:
        for turn in range(-1, rounds):  # the first stampede warms up
            for dead in (turn % 2, 1 - turn % 2):
                latencies = _stampede(process, turn, dead=bool(dead))
                if turn >= 0:
                    found[kinds[dead]].append(latencies)
        fetches = _fetches(process)
    section = Section(
        title=f"Stampede: {CALLERS} calls, {NAMES} cold names, issuers of 20 ms; the healthy ones",
        columns=("issuers", "p50 ms", "p99 ms", "slowest ms"),
        samples=found,
    )
    for kind in kinds:
        runs = found[kind]
        section.rows.append(
            (
                kind,
                f"{median([percentile(run, 0.5) for run in runs]) * 1000:.1f}",
                f"{median([percentile(run, 0.99) for run in runs]) * 1000:.1f}",
                f"{median([max(run) for run in runs]) * 1000:.1f}",
            )
        )
    with_dead, without = (
        [percentile(run, 0.99) for run in found[kind]] for kind in reversed(kinds)
    )
    section.targets += [
        Target(
            what="p99 of healthy names with a dead issuer to without",
            value=median([one / two for one, two in zip(with_dead, without, strict=True)]),
            limit=1.2,
            unit="x",
            ratio=True,
        ),
        Target(
            what="fetches per name",
            value=max(fetches.count(name) for name in fetches),
            limit=1,
            unit="",
            ratio=True,
        ),
    ]
    section.notes.append(f"{len(fetches) - 1} fetches for {2 * NAMES * (rounds + 1)} cold names")
    return section


def _stampede(process: Process, turn: int, *, dead: bool) -> list[float]:
    """Give the seconds of every call to a healthy name."""
    names = [f"{turn}-{dead}-{number}" for number in range(NAMES - 1)]
    last = f"dead-{turn}" if dead else f"alive-{turn}"
    calls = [[*names, last][number % NAMES] for number in range(CALLERS)]
    healthy = {index for index, name in enumerate(calls) if name != last}
    with RawClient(process.socket, RESOLVE) as client:
        seconds = client.burst([_request(name) for name in calls], wait_for=healthy)
    return list(seconds.values())


def _fetches(process: Process) -> list[str]:
    with RawClient(process.socket, LIST) as client:
        answer = client.call(b"")
    if answer is None:
        raise RuntimeError("the cached driver does not list")
    listed = wire.ListCredentialsResponse.FromString(answer).credentials
    return [info.scopes[0] for info in listed]


def _request(name: str) -> bytes:
    return wire.ResolveCredentialRequest(name=name).SerializeToString()
