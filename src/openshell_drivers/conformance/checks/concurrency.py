"""Many calls and watches at once, slow ones and cancelled ones: none is in another's way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import grpc

from openshell_drivers._wire import compute_driver_pb2 as compute
from openshell_drivers.conformance._caller import Caller, Reply
from openshell_drivers.conformance._checks import NEEDS, SERVICES, check
from openshell_drivers.conformance._outcomes import NotTestable
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.benches.store import StoreBench
from openshell_drivers.conformance.checks._sight import tells
from openshell_drivers.conformance.checks.process import reaches_backend

_CLIENTS: Final = 4
_WATCHES: Final = 8
_CALLS: Final = 64
_TIMES: Final = 5
_HEADERS: Final = 2.0
_SLOW: Final = 0.6
_PARALLEL: Final = 8
_PROMPT: Final = 5.0
_OPENS: Final = 20.0


@check("COMP-SOCK-08.a", "several clients and watches are served side by side", once=True)
async def clients_side_by_side(bench: ComputeBench) -> None:
    await tells(bench)
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(bench.another_caller()) for _ in range(_CLIENTS)]
        logs = [
            await stack.enter_async_context(bench.watching(caller=callers[n % _CLIENTS]))
            for n in range(_WATCHES)
        ]
        sandbox = await bench.made()
        for number, log in enumerate(logs):
            await log.until(
                lambda log=log: bool(log.of(sandbox.id)),  # type: ignore[misc]
                LAG,
                f"each of {_WATCHES} watches on {_CLIENTS} connections tells of a new sandbox",
                lambda number=number, log=log: (  # type: ignore[misc]
                    f"watch number {number + 1} did not; {log.described(sandbox.id)}"
                ),
            )
        replies = await asyncio.gather(*(bench.ping(each, patience=10) for each in callers * 4))
    bad = [str(reply) for reply in replies if not reply.ok]
    bench.hold(not bad, f"calls are answered while {_WATCHES} watches are open", "; ".join(bad[:3]))


@check(
    "COMP-SOCK-08.b",
    "a slow call does not hold up others",
    services=SERVICES,
    profile="resilience",
    needs=("slow",),
    once=True,
)
async def slow_calls_side_by_side(bench: Bench) -> None:
    calls = await _different_calls(bench, _PARALLEL)
    if len(calls) < 2:
        raise NotTestable("credentials.known with three names or more, or credentials.expiring")
    slow = _SLOW if len(calls) > 4 else 2 * _SLOW
    many = len(calls) > 4
    async with bench.backend.slow(slow):
        # A call may reach for the platform more than once: one alone says how often.
        alone = await _timed(bench, [calls.pop()]) if many else slow
        taken = await _timed(bench, calls)
    one_by_one = max(slow, alone) * len(calls)
    limit = max(one_by_one * 0.7, 2 * slow + 0.5) if many else one_by_one * 0.8
    bench.hold(
        taken <= limit,
        f"{len(calls)} calls at once, each of which takes {max(slow, alone):.2g} s alone, all end"
        f" within {limit:.3g} s",
        f"it took {taken:.2f} s",
    )


async def _timed(bench: Bench, calls: Sequence[Callable[[], Awaitable[Reply[Any]]]]) -> float:
    """Make calls at once, and give the seconds that they took."""
    began, stalled = time.monotonic(), bench.world.stall.total
    replies = await asyncio.gather(*(call() for call in calls))
    own = bench.world.stall.total - stalled
    bad = [str(reply) for reply in replies if not reply.ok]
    bench.need(not bad, "; ".join(bad[:3]))
    return time.monotonic() - began - own


async def _different_calls(bench: Bench, number: int) -> list[Any]:
    if isinstance(bench, CredentialsBench):
        names = bench.profile.credentials.known
        if not names:
            raise NotTestable(NEEDS["known"])
        await bench.resolve(names[0])  # the first fetch of a process may have to load its client
        others = [*names[1:], *bench.profile.credentials.expiring[:1]]
        return [lambda name=name: bench.resolve(name) for name in others]
    if isinstance(bench, StoreBench):
        kept = [await bench.kept() for _ in range(number)]
        return [lambda one=one: bench.resolve(bench.item(one)) for one in kept]
    return [lambda: reaches_backend(bench) for _ in range(number)]


@check(
    "PROC-CALL-01",
    "cancelled calls give back what they held",
    services=SERVICES,
    profile="resilience",
    own=True,
    once=True,
)
async def cancelled_calls(bench: Bench) -> None:
    for _ in range(_TIMES):
        await asyncio.gather(*(_cancelled(bench, number) for number in range(_CALLS)))
    async with bench.another_caller() as caller:
        reply = await bench.ping(caller, patience=20)
        bench.hold(
            reply.ok, f"calls are answered after {_TIMES * _CALLS} cancelled ones", str(reply)
        )
        bench.within(reply.seconds, _PROMPT, "after cancelled calls new ones are answered")
        if isinstance(bench, ComputeBench):
            await _watch_opens(bench, caller)


async def _watch_opens(bench: ComputeBench, caller: Caller) -> None:
    async with bench.watching(caller=caller, reopen=False) as log:
        if log.openings[0].headers is None:  # they may come with the first event only
            await bench.made()
        await log.until(
            lambda: log.openings[0].headers is not None,
            _OPENS,
            f"a watch opens after {_TIMES * _CALLS} cancelled calls and watches",
            lambda: "it did not open",
        )


async def _cancelled(bench: Bench, number: int) -> None:
    if isinstance(bench, ComputeBench) and number % 2:
        with contextlib.suppress(TimeoutError, grpc.RpcError):
            async with asyncio.timeout(_HEADERS):
                request = compute.WatchSandboxesRequest()
                async with bench.caller.stream("WatchSandboxes", request) as call:
                    await call.initial_metadata()  # it has begun, and is left now
        return
    cheap = asyncio.create_task(_cheap(bench))
    await asyncio.sleep(number / 5000)
    cheap.cancel()
    await asyncio.gather(cheap, return_exceptions=True)


async def _cheap(bench: Bench) -> Reply[Any]:
    if isinstance(bench, ComputeBench):
        return await bench.get(bench.fresh_id())
    return await bench.ping()


@check("PROC-CALL-03.a", "with 64 calls and 8 watches at once each answer is its own", once=True)
async def own_sandboxes(bench: ComputeBench) -> None:
    made = [await bench.made() for _ in range(8)]
    async with AsyncExitStack() as stack:
        for _ in range(_WATCHES):
            await stack.enter_async_context(bench.watching())
        asked = [made[number % len(made)] for number in range(_CALLS)]
        replies = await asyncio.gather(*(bench.get(each.id) for each in asked))
    for each, reply in zip(asked, replies, strict=True):
        bench.need(reply.ok or reply.code == "UNAVAILABLE", str(reply), "COMP-GET-01")
        bench.hold(
            not reply.ok or reply.answer.sandbox.id == each.id,
            f"each of {_CALLS} GetSandbox calls at once answers the id that it asked for",
            f"asked for {each.id}, GetSandbox gave {reply.answer.sandbox.id!r}",
        )


@check(
    "PROC-CALL-03.b",
    "with 64 resolves at once each answer is its own",
    service="credential-store",
    once=True,
)
async def own_values(bench: StoreBench) -> None:
    kept = [await bench.kept() for _ in range(8)]
    asked = [kept[number % len(kept)] for number in range(_CALLS)]
    replies = await asyncio.gather(*(bench.resolve(bench.item(each)) for each in asked))
    for each, reply in zip(asked, replies, strict=True):
        bench.need(reply.ok, str(reply), "CREDU-RES-01")
        bench.hold(
            [found.value for found in reply.answer.credentials] == [each.value],
            f"each of {_CALLS} ResolveCredentials calls at once answers its own value",
            f"the answer about {each.slot.key} has another value",
        )
