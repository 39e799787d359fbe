"""Figures: how long calls take, and how many a second there can be. They judge nobody."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any, Final

from openshell_drivers.conformance._checks import SERVICES, check
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.benches.store import StoreBench

_CALLS: Final = 100
_AT_ONCE: Final = 16
_SECONDS: Final = 8.0
_ROUNDS: Final = 5
_SLOW: Final = 1.0


@check(
    "PROC-PERF-01",
    "calls one after the other are answered promptly",
    services=SERVICES,
    profile="performance",
    once=True,
)
async def latency(bench: Bench) -> None:
    await bench.ping()
    seconds: list[float] = []
    began = time.monotonic()
    while len(seconds) < _CALLS and time.monotonic() - began < _SECONDS:
        seconds.append((await bench.ping()).seconds)
    bench.note(f"the smallest call: {_figures(seconds)}")
    for what, times in (await _work(bench)).items():
        bench.note(f"{what}: {_figures(times)}")
    middle = statistics.median(seconds)
    bench.hold(
        middle < _SLOW,
        f"half of the smallest calls are answered within {_SLOW:g} s",
        f"it took {middle:.2f} s",
    )


async def _work(bench: Bench) -> dict[str, list[float]]:
    """The calls that do something, a few times."""
    found: dict[str, list[float]] = {}

    def keep(what: str, reply: Any) -> None:
        bench.need(reply.ok, str(reply))
        found.setdefault(what, []).append(reply.seconds)

    for _ in range(_ROUNDS):
        if isinstance(bench, ComputeBench):
            sandbox = bench.sandbox()
            began = time.monotonic()
            keep("CreateSandbox", await bench.create(sandbox))
            await bench.reaches(sandbox.id, "Ready")
            found.setdefault("until a sandbox runs", []).append(time.monotonic() - began)
            keep("GetSandbox", await bench.get(sandbox.id))
            keep("ListSandboxes", await bench.list_all())
            keep("DeleteSandbox", await bench.delete(sandbox.id))
        elif isinstance(bench, StoreBench):
            began = time.monotonic()
            kept = await bench.kept()
            found.setdefault("StoreCredential", []).append(time.monotonic() - began)
            keep("ResolveCredentials", await bench.resolve(bench.item(kept)))
            keep("DeleteCredential", await bench.delete(kept))
        elif isinstance(bench, CredentialsBench) and bench.profile.credentials.known:
            keep("ResolveCredential", await bench.resolve(bench.known_name))
    return found


def _figures(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    slow = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    middle = statistics.median(ordered)
    return (
        f"{middle * 1000:.1f} ms at the median, {slow * 1000:.1f} ms at worst, {len(ordered)} calls"
    )


@check(
    "PROC-PERF-02",
    "calls at the same time are answered promptly",
    services=SERVICES,
    profile="performance",
    once=True,
)
async def throughput(bench: Bench) -> None:
    done: list[float] = []
    began = time.monotonic()

    async def work() -> None:
        async with bench.another_caller() as caller:
            while len(done) < _CALLS * 5 and time.monotonic() - began < _SECONDS:
                reply = await bench.ping(caller)
                bench.need(reply.ok, str(reply))
                done.append(reply.seconds)

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    rate = len(done) / (time.monotonic() - began)
    bench.note(
        f"{rate:.0f} of the smallest calls a second from {_AT_ONCE} clients: {_figures(done)}"
    )
    bench.hold(
        rate > _AT_ONCE / _SLOW,
        f"{_AT_ONCE} clients get more than {_AT_ONCE / _SLOW:.0f} answers a second",
        f"{rate:.1f}",
    )
