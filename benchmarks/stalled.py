"""What a watcher that reads nothing costs: memory, and messages when it reads at last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product

from benchmarks.figures import Section, Target, median
from benchmarks.fleets import Watching, bare_fleet, fleet
from benchmarks.processes import Bench, Command
from benchmarks.targets.backend import SANDBOXES

CHANGES = 60_000
_WARM_UP = 20_000
_COMMANDS = (fleet("SDK"), bare_fleet("bare"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One process: what it held before, how it grew, and what the sleeper got on waking."""

    server: str
    stalled: bool
    before: float
    growth: tuple[float, float]
    """After the changes, and after as many again. Resident MiB: what is unshared depends on which
    other processes have the same libraries."""
    received: int


def measure(bench: Bench, *, rounds: int, seconds: float) -> Section:
    """Make the changes with and without a stalled watcher, in a new process each time."""
    samples = [
        _sample(bench, command, stalled=stalled)
        for _ in range(rounds)
        for command, stalled in product(_COMMANDS, (False, True))
    ]
    section = Section(
        title=f"A stalled watcher of {SANDBOXES:,} sandboxes, {CHANGES:,} changes (medians)",
        columns=(
            *("server", "watchers", "RSS before MiB", "growth MiB", "after twice that"),
            "messages on waking",
        ),
        samples=[asdict(each) for each in samples],
    )
    for command, stalled in product(_COMMANDS, (False, True)):
        section.rows.append(_row(_of(samples, command.name, stalled=stalled)))
    section.targets += _targets(samples)
    section.notes.append(f"the watcher that reads has been told of {_WARM_UP:,} changes before")
    return section


def _sample(bench: Bench, command: Command, *, stalled: bool) -> Sample:
    with bench.running(command) as process, Watching(process, 1) as reading:
        reading.read()
        reading.order(_WARM_UP)  # what changes leave behind in any case
        reading.read()
        before = process.memory()[0]
        with Watching(process, int(stalled)) as asleep:
            after = []
            for _ in range(2):
                mark = reading.order(CHANGES)
                reading.read()
                after.append(process.memory()[0])
            for watcher in asleep.watchers:
                watcher.look_for(mark)
            asleep.read()
            received = sum(watcher.messages for watcher in asleep.watchers)
    return Sample(
        server=command.name,
        stalled=stalled,
        before=before,
        growth=(after[0] - before, after[1] - before),
        received=received,
    )


def _of(samples: Sequence[Sample], server: str, *, stalled: bool) -> list[Sample]:
    return [each for each in samples if (each.server, each.stalled) == (server, stalled)]


def _row(own: Sequence[Sample]) -> tuple[str, ...]:
    return (
        own[0].server,
        "one reads, one is stalled" if own[0].stalled else "one reads",
        f"{median([each.before for each in own]):.1f}",
        f"{median([each.growth[0] for each in own]):.2f}",
        f"{median([each.growth[1] for each in own]):.2f}",
        f"{median([each.received for each in own]):,.0f}" if own[0].stalled else "-",
    )


def _targets(samples: Sequence[Sample]) -> list[Target]:
    alone, beside = (_of(samples, "SDK", stalled=stalled) for stalled in (False, True))
    pairs = list(zip(beside, alone, strict=True))
    first, second = (
        median([(mine.growth[n] - other.growth[n]) * 1024 / SANDBOXES for mine, other in pairs])
        for n in (0, 1)
    )
    received = median([each.received for each in beside]) / SANDBOXES
    name = "SDK, stalled watcher"
    return [
        Target(what=f"{name}: memory per sandbox", value=first, limit=0.5, unit="KiB"),
        Target(what=f"{name}: after twice the changes", value=second, limit=0.5, unit="KiB"),
        Target(
            what=f"{name}: messages on waking per sandbox",
            value=received,
            limit=2,  # what was under way when it stalled, and the latest state of each
            unit="",
            ratio=True,
        ),
    ]
