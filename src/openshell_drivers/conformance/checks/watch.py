"""The watch: that it opens, stays, and tells of what there is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance._outcomes import Blocked, NotApplicable
from openshell_drivers.conformance.benches._watchlog import Seen, WatchLog
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sight import (
    CROSSING,
    QUIET,
    after,
    quiet,
    stops_sandboxes,
    until_true,
)

_SNAPSHOT: Final = 5.0
_IDLE: Final = 5.0
_HEADERS: Final = 1.0
_REST: Final = 4.0
#: After the opening of a stream its snapshot, once or twice, is no flood.
_GREETING: Final = 1.0
_YEAR_2001, _YEAR_2286 = 10**9, 10**10


@check("COMP-WATCH-01.a", "every opening tells of all sandboxes that there are")
async def everything_at_each_opening(compute: ComputeBench) -> None:
    made = [await compute.made_settled(), await compute.made()]
    if await stops_sandboxes(compute):
        with contextlib.suppress(Blocked, NotApplicable):  # a stop that goes wrong is not its rule
            made.append(await compute.made_stopped())
    for which in ("first", "second"):
        async with compute.watching() as log:
            await log.until(
                lambda log=log: all(log.of(each.id, "sandbox") for each in made),  # type: ignore[misc]
                _SNAPSHOT,
                f"the {which} opening of the watch sends a sandbox event for each of the "
                f"{len(made)} sandboxes that exist",
                lambda log=log: _missing(log, made),  # type: ignore[misc]
            )


def _missing(log: WatchLog, made: list[wire.DriverSandbox]) -> str:
    lacking = [each for each in made if not log.of(each.id, "sandbox")]
    ended = [o.code for o in log.openings if o.code]
    return f"{len(lacking)} of them did not come" + (
        f"; the stream ended: {ended}" if ended else ""
    )


@check("COMP-WATCH-03.a", "a watch is not ended as if all were told")
async def stays_open(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        await quiet()
        _judge_ends(compute, log, QUIET)


@check(
    "COMP-WATCH-03.b",
    "a watch stays open for as long as there is nothing to tell",
    profile="lifecycle",
    own=True,
    once=True,
)
async def stays_open_idle(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        await until_true(lambda: any(o.code == "OK" for o in log.openings), _IDLE)
        _judge_ends(compute, log, _IDLE)


def _judge_ends(compute: ComputeBench, log: WatchLog, seconds: float) -> None:
    codes = [o.code for o in log.openings if o.code]
    compute.need("UNIMPLEMENTED" not in codes, "WatchSandboxes: UNIMPLEMENTED", "COMP-WATCH-01")
    compute.hold(
        "OK" not in codes,
        "WatchSandboxes does not return while the driver runs",
        f"the stream ended with status OK within {seconds:g} s",
    )
    compute.hold(
        len(codes) <= seconds,
        "WatchSandboxes stays open for seconds at least",
        f"{len(codes)} streams ended within {seconds:g} s, the last with {codes[-1:]}",
    )


@check("COMP-WATCH-04", "headers come at once, with nothing to tell", own=True, once=True)
async def headers_at_once(compute: ComputeBench) -> None:
    best: float | None = None
    for _ in range(3):  # the best of three: the machine may be busy
        async with compute.watching() as log:
            headers = log.openings[0].headers
            if headers is not None and (best is None or headers < best):
                best = headers
        if best is not None and best < _HEADERS:
            return
    if any(o.code == "UNIMPLEMENTED" for o in log.openings):
        compute.need(False, "WatchSandboxes: UNIMPLEMENTED", "COMP-WATCH-01")
    compute.fail(
        f"response headers of WatchSandboxes within {_HEADERS:g} s, without any sandbox",
        "none came for 3 s" if best is None else f"they took {best:.1f} s",
    )


@check("COMP-WATCH-09", "at rest the watch is silent", profile="lifecycle", once=True)
async def silent_at_rest(compute: ComputeBench) -> None:
    made = [await compute.made_settled() for _ in range(2)]
    async with compute.watching() as log:
        told = await until_true(lambda: all(log.last(each.id) for each in made), LAG)
        compute.need(told, "the watch does not tell of all sandboxes", "COMP-WATCH-01.a")
        await quiet()
        began = time.monotonic()
        await asyncio.sleep(_REST)
        for each in made:
            count = len([e for e in after(log.of(each.id, "sandbox"), began) if _repeats(log, e)])
            compute.hold(
                count < 2,
                f"no events of a sandbox that does not change (one is tolerated in {_REST:g} s)",
                f"{count} sandbox events",
            )


def _repeats(log: WatchLog, event: Seen) -> bool:
    """Whether an event is none of the snapshot that its stream began with."""
    first = next(e for e in log.of(event.id, "sandbox") if e.stream == event.stream)
    return event.at > first.at + _GREETING


@check("COMP-WATCH-12", "platform events say of what, how grave and when")
async def platform_events(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        made = [await compute.made_settled()]
        if compute.profile.compute.unpullable is not None:
            made.append(await compute.made(compute.variant("unpullable")))
            await compute.reaches(made[-1].id, "Error")
        await asyncio.sleep(CROSSING)
        ours = {each.id for each in made}
        found = [e for e in log.events if e.kind == "platform_event" and e.id in {"", *ours}]
        compute.apply(found, "the driver sends no platform events")
        for event in found:
            compute.hold(event.id, "a platform event with a `sandbox_id`", "it is empty")
            _judge_event(compute, event.event or wire.DriverPlatformEvent())


def _judge_event(compute: ComputeBench, event: wire.DriverPlatformEvent) -> None:
    compute.hold(
        event.type in {"Normal", "Warning"},
        "DriverPlatformEvent.type is `Normal` or `Warning`",
        f"{event.type!r}",
    )
    if compute.line == "N":
        field, seconds = "event_time", float(event.event_time.seconds)
        if not event.HasField("event_time"):
            return
    else:
        field, seconds = "timestamp_ms", event.timestamp_ms / 1000
    compute.hold(
        _YEAR_2001 < seconds < _YEAR_2286,
        f"DriverPlatformEvent.{field} is the time of the event",
        f"{seconds:.0f} seconds since 1970",
    )
