"""From a socket's appearance to the first answer, for a client that was there before it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from grpc import aio

from benchmarks.figures import Section, Target, median
from benchmarks.processes import BODY, Bench, sdk
from benchmarks.raw import RESOLVE
from openshell_drivers.client import connect

AFTER = (0.3, 1.5)

_Dial = Callable[[Path], Awaitable[None]]


def measure(bench: Bench, *, rounds: int, seconds: float) -> Section:
    """Let the socket of a running server appear by a rename, a new path each time."""
    section = Section(
        title="Connecting: socket appears to first answered call",
        columns=("client", "appears after s", "ms", "slowest ms"),
    )
    clients: dict[str, _Dial] = {
        "openshell_drivers.client.connect": _connect,
        "grpc.aio, wait_for_ready": _plain,
    }
    found: dict[tuple[str, float], list[float]] = {}
    with bench.running(sdk()) as server:
        for turn in range(rounds):
            for after in AFTER:
                for name, dial in clients.items():
                    place = bench.directory / f"late-{turn}-{after}-{dial.__name__}.sock"
                    taken = asyncio.run(_trial(server.socket, place, dial, after))
                    found.setdefault((name, after), []).append(taken * 1000)
    for (name, after), taken_ms in found.items():
        section.rows.append((name, f"{after:g}", f"{median(taken_ms):.1f}", f"{max(taken_ms):.1f}"))
        if name.startswith("openshell"):
            section.targets.append(
                Target(
                    what=f"connect, after {after:g} s", value=median(taken_ms), limit=20, unit="ms"
                )
            )
    section.samples = {f"{name}, {after:g} s": values for (name, after), values in found.items()}
    return section


async def _trial(at: Path, place: Path, dial: _Dial, after: float) -> float:
    waiting = asyncio.ensure_future(dial(place))
    await asyncio.sleep(after)
    began = time.perf_counter()
    os.rename(at, place)  # noqa: PTH104  # as the SDK publishes
    try:
        await asyncio.wait_for(waiting, 30)
        return time.perf_counter() - began
    finally:
        os.rename(place, at)  # noqa: PTH104  # for the next trial


async def _connect(path: Path) -> None:
    async with connect(path):
        pass


async def _plain(path: Path) -> None:
    async with aio.insecure_channel(f"unix:{path}") as channel:
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RESOLVE)
        await call(BODY, wait_for_ready=True)
