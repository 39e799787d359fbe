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
    in_words,
    still,
    stops_sandboxes,
    until_true,
)

_MANY: Final = 264
"""More than the 256 places that queues like to have."""
_SNAPSHOT: Final = 60.0
#: Seconds for making them: fewer would not fill such a queue.
_CROWDING: Final = 60.0
_CHURN: Final = 150
_LONG_CHURN: Final = 300
_DRAIN: Final = 20.0
_OPENS: Final = 20.0


@check(
    "COMP-LIST-01.e",
    "a list of more than 256 sandboxes is complete",
    profile="resilience",
    own=True,
    once=True,
    limit=180,
)
async def long_list(compute: ComputeBench) -> None:
    made = await crowd(compute, _MANY, _CROWDING)
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
    await _short_snapshot(compute)
    made = await crowd(compute, _MANY, _CROWDING)
    async with compute.watching() as log:

        def missing() -> int:
            return len({each.id for each in made} - {event.id for event in log.events})

        await log.until(
            lambda: not missing(),
            _SNAPSHOT,
            f"an opened watch tells of all {len(made)} sandboxes",
            lambda: f"{missing()} are missing; the openings ended {[o.code for o in log.openings]}",
        )


async def _short_snapshot(compute: ComputeBench) -> None:
    """`Blocked` if not even one sandbox is told of when a watch opens."""
    one = await compute.made()
    async with compute.watching() as log:
        told = await until_true(lambda: bool(log.of(one.id)), LAG)
        compute.need(told, "an opened watch does not even tell of one sandbox", "COMP-WATCH-01.a")


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
            try:
                await asyncio.wait_for(call.initial_metadata(), _OPENS)
            except (TimeoutError, aio.AioRpcError):
                compute.need(False, "a watch over sandboxes does not open", "COMP-WATCH-01")
            yield call
    finally:
        await channel.close(None)


class _Reader:
    """Who begins to read a stalled watch, and what must come of it."""

    def __init__(self, call: aio.UnaryStreamCall[bytes, bytes]) -> None:
        self._call = call
        self.newest: dict[str, Seen] = {}
        self.ended = False

    async def read(self, within: float) -> None:
        """Take in one event; `ended` if there are no more."""
        try:
            raw = await asyncio.wait_for(self._call.read(), within)
        except aio.AioRpcError:
            raw = aio.EOF
        if not isinstance(raw, bytes):
            self.ended = True
            return
        event = read_event(raw, 0)
        if event.kind in {"sandbox", "deleted"}:
            self.newest[event.id] = event

    def lacks(self, gone: list[str], lasting: dict[str, wire.DriverSandbox]) -> str:
        """What a gateway at this watch does not know, in words."""
        ghosts = [e for e in gone if e in self.newest and self.newest[e].kind != "deleted"]
        if ghosts:
            return f"it went on and did not tell that {len(ghosts)} of {len(gone)} are gone"
        for sandbox_id, seen in lasting.items():
            event = self.newest.get(sandbox_id)
            told = None if event is None else event.sandbox
            if told is None or essence(told) != essence(seen):
                words = "nothing" if told is None else in_words(essence(told))
                return f"Get: {in_words(essence(seen))}; watch: {words}"
        return ""


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
    lasting = [await compute.made_settled() for _ in range(4)]
    async with _stalled(compute) as call:
        gone = await churn(compute, _LONG_CHURN // 2)
        if stops:
            stopped = await compute.stop(lasting[0].id)
            compute.need(stopped.ok, str(stopped), "COMP-STOP-01")
            await compute.rests(lasting[0].id)
        gone += await churn(compute, _LONG_CHURN // 2)
        await asyncio.gather(*(compute.gone(each) for each in gone))
        lasting.append(await compute.made_settled())  # of which a full buffer has no word
        states = {each.id: await still(compute, each) for each in lasting}
        await _read_all(compute, _Reader(call), gone, states)


async def _read_all(
    compute: ComputeBench, reader: _Reader, gone: list[str], states: dict[str, wire.DriverSandbox]
) -> None:
    deadline = time.monotonic() + _DRAIN
    while not reader.ended and reader.lacks(gone, states):
        left = deadline - time.monotonic()
        try:
            await reader.read(max(left, 0.01))
        except TimeoutError:
            compute.fail(
                "a watch that was not read for a while tells of all that happened meanwhile, "
                "or ends with an error",
                reader.lacks(gone, states),
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
    await compute.made_settled()  # of which a watch tells at once
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
