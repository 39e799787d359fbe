"""What must not grow with the number of calls, and what a driver does with nothing to do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import SERVICES, ServiceName, check
from openshell_drivers.conformance._instances import Instance
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.benches.store import StoreBench
from openshell_drivers.conformance.checks import _procs

_ALL: Final[tuple[ServiceName, ...]] = ("compute", "credential-store", "credentials")
_WARM: Final = 6
_ROUNDS: Final = 24
_SECONDS: Final = 14.0
#: How long a driver may take to give back what it holds, and a round with sandboxes.
_SETTLING: Final = 2.0
_LONG_ROUND: Final = 1.5
_IDLE: Final = 2.0
_BUSY: Final = 0.25
#: What tells a thread that never rests on a machine that is busy with others.
_MOMENT: Final = 0.0005
_SOME: Final = 0.04
_MOST: Final = 0.8
_MEMORY: Final = 24 * 1024 * 1024

Function = Callable[[Any], Awaitable[None]]


@dataclass(slots=True)
class Growth:
    """Counts after the warm-up, half-way and at the end."""

    rounds: int = 0
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def grows(self, counts: list[int]) -> bool:
        """Whether it went up in both halves, by about as much as there were rounds."""
        first, middle, last = counts
        half = max(self.rounds // 4, 2)
        return middle - first >= half and last - middle >= half


def _each(clause: str, title: str, **more: Any) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        for letter, service in zip("abc", _ALL, strict=True):
            declare = partial(check, service=service, needs=("spawned",), once=True, limit=600.0)
            declare(f"{clause}.{letter}", title, **more)(function)
        return function

    return register


@_each("PROC-GROW-01", "open files do not grow in number", profile="resilience")
async def descriptors(bench: Bench) -> None:
    found = await _growth(bench)
    _judge(bench, found, found.descriptors, "open file descriptors")


@_each("PROC-GROW-02", "threads and processes do not grow in number", profile="resilience")
async def threads(bench: Bench) -> None:
    found = await _growth(bench)
    _judge(bench, found, found.threads, "threads")
    _judge(bench, found, found.processes, "processes that it started")


@_each("PROC-GROW-03", "memory does not grow", profile="performance")
async def memory(bench: Bench) -> None:
    found = await _growth(bench)
    first, middle, last = (count / 1024 / 1024 for count in found.memory)
    text = f"{first:.0f}, {middle:.0f} and {last:.0f} MiB"
    bench.note(f"memory in {found.rounds} rounds of calls: {text}")
    bench.hold(found.memory[2] - found.memory[1] < _MEMORY, "memory stays about the same", text)


def _judge(bench: Bench, found: Growth, counts: list[int], what: str) -> None:
    first, middle, last = counts
    bench.hold(
        not found.grows(counts),
        f"over {found.rounds} rounds of calls, cancelled calls and connections the number of {what}"
        " stays about the same",
        f"{first} after the warm-up, {middle} half-way, {last} at the end",
    )


async def _growth(bench: Bench) -> Growth:
    """Have it measured, once for the service."""
    key = (bench.instance, f"growth {bench.check.service}")
    if key not in bench.world.facts:
        bench.world.facts[key] = asyncio.create_task(_measured(bench))
    task: asyncio.Task[Growth] = bench.world.facts[key]
    return await asyncio.shield(task)


async def _measured(bench: Bench) -> Growth:
    found = Growth()
    async with bench.started_spare() as spare:
        own = type(bench)(bench.world, bench.check, bench.preset, spare)
        await own.begin()
        try:
            slowest = 0.0
            for number in range(_WARM):
                began = time.monotonic()
                await _round(own, whole=number < 2 or slowest < _LONG_ROUND)
                slowest = max(slowest, time.monotonic() - began)
            await _count(found, spare)
            whole = slowest < _LONG_ROUND
            began = time.monotonic()
            for number in range(1, _ROUNDS + 1):
                await _round(own, whole=whole)
                found.rounds = number
                if number == _ROUNDS // 2:
                    await _count(found, spare)
                if number > 8 and time.monotonic() - began > _SECONDS and len(found.threads) > 1:
                    break
            await _count(found, spare)
        finally:
            await own.clean()
            await own.end()
    return found


async def _count(found: Growth, instance: Instance) -> None:
    """Count when the driver has come to rest: the least of several counts."""
    deadline = time.monotonic() + _SETTLING
    least = _counts(instance.pid)
    while time.monotonic() < deadline:
        await asyncio.sleep(_SETTLING / 10)
        now = _counts(instance.pid)
        if now == least:
            break
        least = tuple(map(min, least, now))
    found.descriptors.append(least[0])
    found.threads.append(least[1])
    found.processes.append(least[2])
    found.memory.append(_procs.memory(instance.pid))


def _counts(pid: int) -> tuple[int, ...]:
    return _procs.descriptors(pid), _procs.threads(pid), len(_procs.descendants(pid))


async def _round(bench: Bench, *, whole: bool) -> None:
    """A connection that comes and goes, calls, some of them cancelled; with all that is made."""
    async with bench.another_caller() as caller:
        replies = await asyncio.gather(*(bench.ping(caller) for _ in range(8)))
        bench.need(all(reply.ok for reply in replies), str(replies[0]))
    cancelled = [asyncio.create_task(bench.ping()) for _ in range(4)]
    await asyncio.sleep(0)
    for call in cancelled:
        call.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    if isinstance(bench, ComputeBench):
        await _compute_round(bench, whole=whole)
    elif isinstance(bench, StoreBench):
        kept = await bench.kept()
        await bench.value_of(kept)
        await bench.delete(kept)
    elif isinstance(bench, CredentialsBench):
        for name in ("conformance-unknown", *bench.profile.credentials.known):
            await bench.resolve(name)


async def _compute_round(bench: ComputeBench, *, whole: bool) -> None:
    for _ in range(2):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                request = wire.WatchSandboxesRequest()
                async with bench.caller.stream("WatchSandboxes", request) as call:
                    await call.read()
                    await asyncio.sleep(1)
    if whole:
        sandbox = await bench.made()
        await bench.get(sandbox.id)
        await bench.delete(sandbox.id)
        await bench.gone(sandbox.id)
    await bench.get(bench.fresh_id())


@check(
    "PROC-IDLE-01",
    "with nothing to do the processor rests",
    services=SERVICES,
    profile="resilience",
    needs=("spawned",),
    once=True,
)
async def idle(bench: Bench) -> None:
    async with (
        bench.started_spare() as spare,
        bench.another_caller(socket=spare.socket) as caller,
    ):
        reply = await bench.ping(caller)
        bench.need(reply.ok, str(reply))
        if isinstance(bench, ComputeBench):
            async with bench.watching(caller=caller):
                used = await _used(spare.pid)
        else:
            used = await _used(spare.pid)
    bench.hold(
        used < _BUSY,
        f"with an open connection and nothing to do the driver uses less than {_BUSY:.0%} of a"
        " processor",
        f"it used {used:.0%} over {_IDLE:g} s",
    )


async def _used(pid: int) -> float:
    """The share of a processor that is used over a while, once start-up is over."""
    least = 1.0
    for _ in range(2):
        before, began = _procs.processor(pid), time.monotonic()
        await asyncio.sleep(_IDLE / 2)
        seconds = time.monotonic() - began
        shares = [0.0]
        for name, now in _procs.processor(pid).items():
            if name in before:
                shares.append(_share(before[name], now, seconds))
        least = min(least, max(shares))
    return least


def _share(before: _procs.Use, now: _procs.Use, seconds: float) -> float:
    """How much a thread runs, or would run if the machine were not busy with others."""
    running = now.running - before.running
    wanted = running + now.waiting - before.waiting
    # One that only wakes up now and then waits as well, but runs for a moment each time.
    insatiable = (
        running > seconds * _SOME
        and running > (now.turns - before.turns) * _MOMENT
        and wanted > seconds * _MOST
    )
    return (wanted if insatiable else running) / seconds
