"""The watch with many sandboxes, and with a reader that stalls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

from grpc import aio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import Caller
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches._watchlog import Seen, read_event
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sight import (
    churn,
    crowd,
    deletes,
    essence,
    stops_sandboxes,
)

_MANY: Final = 264
"""More than the 256 places that queues like to have."""
_SNAPSHOT: Final = 20.0
_CHURN: Final = 150
_DRAIN: Final = 20.0
_IDLE: Final = 1.5


@check(
    "COMP-LIST-01.e",
    "a list of more than 256 sandboxes is complete",
    profile="resilience",
    own=True,
    once=True,
    limit=180,
)
async def long_list(compute: ComputeBench) -> None:
    made = await crowd(compute, _MANY)
    missing = [0]

    async def look() -> object:
        listed = await compute.listed()
        missing[0] = sum(each.id not in listed for each in made)
        return None if missing[0] else True

    await compute.eventually(
        look,
        LAG,
        f"ListSandboxes gives all {len(made)} sandboxes in one answer",
        lambda: f"{missing[0]} are missing",
    )


@check(
    "COMP-WATCH-01.b",
    "a snapshot of more than 256 sandboxes is complete",
    profile="resilience",
    own=True,
    once=True,
    limit=180,
)
async def long_snapshot(compute: ComputeBench) -> None:
    made = await crowd(compute, _MANY)
    async with compute.watching() as log:

        def missing() -> int:
            return len({each.id for each in made} - {event.id for event in log.events})

        await log.until(
            lambda: not missing(),
            _SNAPSHOT,
            f"an opened watch tells of all {len(made)} sandboxes",
            lambda: f"{missing()} are missing; the openings ended {[o.code for o in log.openings]}",
        )


@asynccontextmanager
async def _stalled(compute: ComputeBench) -> AsyncIterator[aio.UnaryStreamCall[bytes, bytes]]:
    """A watch that nobody reads, on a connection that takes in as little as it can."""
    channel = aio.insecure_channel(
        f"unix:{quote(str(compute.instance.socket.absolute()))}",
        options=[
            ("grpc.default_authority", compute.authority),
            ("grpc.http2.lookahead_bytes", 1024),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )
    try:
        caller = Caller(channel, compute.service, compute.preset, compute.transcript)
        async with caller.stream("WatchSandboxes", wire.WatchSandboxesRequest()) as call:
            await call.initial_metadata()
            yield call
    finally:
        await channel.close(None)


async def _drained(call: aio.UnaryStreamCall[bytes, bytes]) -> tuple[list[Seen], bool]:
    """All that is left in a stream, and whether it ended."""
    events: list[Seen] = []
    deadline = time.monotonic() + _DRAIN
    while time.monotonic() < deadline:
        try:
            raw = await asyncio.wait_for(call.read(), _IDLE)
        except TimeoutError:
            return events, False
        except aio.AioRpcError:
            return events, True
        if not isinstance(raw, bytes):
            return events, True
        events.append(read_event(raw, 0))
    return events, False


@check(
    "COMP-WATCH-10.a",
    "a reader that stalled is told everything, or its stream ends",
    profile="resilience",
    own=True,
    once=True,
    limit=180,
)
async def stalled_reader(compute: ComputeBench) -> None:
    await deletes(compute)
    stops = await stops_sandboxes(compute)
    lasting = [await compute.made_ready() for _ in range(4)]
    async with _stalled(compute) as call:
        gone = await churn(compute, _CHURN // 2)
        if stops:
            stopped = await compute.stop(lasting[0].id)
            compute.need(stopped.ok, str(stopped), "COMP-STOP-01")
        gone += await churn(compute, _CHURN // 2)
        await asyncio.gather(*(compute.gone(each) for each in gone))
        events, ended = await _drained(call)
    if ended:
        return
    newest = {event.id: event for event in events if event.kind in {"sandbox", "deleted"}}
    ghosts = [each for each in gone if each in newest and newest[each].kind != "deleted"]
    compute.hold(
        not ghosts,
        "a watch that was not read for a while tells of all that happened, or ends with an error",
        f"it went on and never told that {len(ghosts)} of {len(gone)} sandboxes are gone",
    )
    for sandbox in lasting:
        seen, event = await compute.observed(sandbox.id), newest.get(sandbox.id)
        told = event.sandbox if event is not None else None
        if seen is None:
            continue
        compute.hold(
            told is not None and essence(told) == essence(seen),
            "a watch that was not read for a while ends with the state that GetSandbox shows",
            f"Get: {compute.described(seen)}; watch: "
            + ("nothing" if told is None else compute.described(told)),
        )


@check(
    "COMP-WATCH-10.b",
    "a reader that stalls keeps nobody else waiting",
    profile="resilience",
    own=True,
    once=True,
    limit=120,
)
async def stall_of_another(compute: ComputeBench) -> None:
    await deletes(compute)
    async with compute.watching() as log, _stalled(compute):
        for task in asyncio.as_completed([churn(compute, _CHURN)], timeout=60):
            try:
                gone = await task
            except TimeoutError:
                compute.fail(
                    "creates and deletes go on while another client does not read its watch",
                    "they did not come to an end in 60 s",
                )
        await log.until(
            lambda: all(log.deleted(each) or not log.of(each, "sandbox") for each in gone),
            LAG + 4,
            "a watch that is read hears of every end, while another one is not read",
            lambda: f"{sum(not log.deleted(each) for each in gone)} ends were not told",
        )
