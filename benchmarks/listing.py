"""ListSandboxes of 10,000: its size and its time, alone and while a watch is told of changes."""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product

from benchmarks.figures import Section, Target, median, percentile
from benchmarks.fleets import LIST, WIDTH, Watching, bare_fleet, fleet
from benchmarks.processes import Bench, Process
from benchmarks.raw import RawClient

#: length of a message -> what the list is then
WIDTHS = {20: "short messages", WIDTH: "long messages"}
CHANGES_A_SECOND = 5000
_LIMIT = 4 * 1024 * 1024
_CALLS = 5
_BATCH = 50
_PAUSE_SECONDS = 0.1
_LOOK_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Some lists of one server in one round."""

    server: str
    messages: str
    streaming: bool
    bytes: int
    seconds: list[float]
    cpu_seconds: float | None
    """Of the server, for one list, if it does nothing else."""


def measure(bench: Bench, *, rounds: int, seconds: float) -> Section:
    """Let both servers list in turn, with and without a stream of changes."""
    samples: list[Sample] = []
    for width, messages in WIDTHS.items():
        commands = fleet("SDK", width), bare_fleet("bare", width)
        with bench.all_running(commands) as processes:
            for turn, process in product(range(-1, rounds), processes):
                found = _alone(process, messages), _streaming(process, messages)
                samples += found if turn >= 0 else ()
    section = Section(
        title="ListSandboxes of 10,000 (medians)",
        columns=("server", "sandboxes with", "meanwhile", "MiB", "ms", "p95 ms", "server CPU ms"),
        samples=[asdict(each) for each in samples],
    )
    for messages, streaming, server in product(WIDTHS.values(), (False, True), ("SDK", "bare")):
        wanted = server, messages, streaming
        own = [each for each in samples if (each.server, each.messages, each.streaming) == wanted]
        section.rows.append(_row(own))
    largest = max(each.bytes for each in samples if each.server == "SDK")
    section.targets.append(
        Target(what="SDK: largest list", value=largest / 2**20, limit=_LIMIT / 2**20, unit="MiB")
    )
    section.notes.append(f"meanwhile: a watcher is told of {CHANGES_A_SECOND:,} changes a second")
    section.notes.append("a list above 4 MiB, which no gateway receives, is sent without messages")
    return section


def _alone(process: Process, messages: str) -> Sample:
    seconds, size = [], 0
    with RawClient(process.socket, LIST) as client:
        before = process.cpu_seconds()
        for _ in range(_CALLS):
            began = time.perf_counter()
            answer = client.call(b"")
            seconds.append(time.perf_counter() - began)
            size = _size(answer)
        cpu = process.cpu_seconds() - before
    return Sample(
        server=process.command.name,
        messages=messages,
        streaming=False,
        bytes=size,
        seconds=seconds,
        cpu_seconds=cpu / _CALLS,
    )


def _streaming(process: Process, messages: str) -> Sample:
    with Watching(process, 1) as watching, RawClient(process.socket, LIST) as client:
        watching.read()
        pause = _BATCH * 1000 // CHANGES_A_SECOND
        watching.order(CHANGES_A_SECOND, batch=_BATCH, milliseconds=pause)
        seconds, size = _list_while(watching, client)
    return Sample(
        server=process.command.name,
        messages=messages,
        streaming=True,
        bytes=size,
        seconds=seconds,
        cpu_seconds=None,
    )


def _list_while(watching: Watching, client: RawClient) -> tuple[list[float], int]:
    """List some times while a watcher is told of changes, and let it read to the last of them."""
    seconds: list[float] = []
    size = 0
    (watcher,) = watching.watchers
    with selectors.DefaultSelector() as selector:
        selector.register(watcher, selectors.EVENT_READ)
        selector.register(client, selectors.EVENT_READ)
        sent, answered, told = 0.0, time.perf_counter(), False
        while len(seconds) < _CALLS:
            if answered and time.perf_counter() > answered + _PAUSE_SECONDS:
                client.send([b""])
                sent, answered = time.perf_counter(), 0.0
            for key, _ in selector.select(_LOOK_SECONDS):
                if key.fileobj is watcher:
                    told = watcher.read() or told
                elif answers := client.receive():
                    answered = time.perf_counter()
                    seconds.append(answered - sent)
                    size = _size(answers[0].message)
    if not told:
        watching.read()
    return seconds, size


def _size(answer: bytes | None) -> int:
    if answer is None:
        raise RuntimeError("a list was refused")
    return len(answer)


def _row(own: Sequence[Sample]) -> tuple[str, ...]:
    seconds = [each for sample in own for each in sample.seconds]
    cpu = [each.cpu_seconds for each in own if each.cpu_seconds is not None]
    return (
        own[0].server,
        own[0].messages,
        "changes" if own[0].streaming else "nothing",
        f"{own[0].bytes / 2**20:.2f}",
        f"{median(seconds) * 1000:.1f}",
        f"{percentile(seconds, 0.95) * 1000:.1f}",
        f"{median(cpu) * 1000:.1f}" if cpu else "-",
    )
