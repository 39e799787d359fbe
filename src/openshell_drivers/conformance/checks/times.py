"""The smaller fields of a status: names, instances, times, identities."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sight import runs, still, told, until_true

_EARLIEST: Final = -62_135_596_800
_LATEST: Final = 253_402_300_799
_APART: Final = 1.1
_SAME: Final = 1.5


async def _all_that_is_told(
    compute: ComputeBench,
) -> tuple[list[wire.DriverSandbox], list[wire.DriverPlatformEvent]]:
    """Observations of one sandbox from all three RPCs, and what the platform said of it."""
    async with compute.watching() as log:
        sandbox = await compute.made()
        found = [await still(compute, sandbox)]
        await compute.settles(sandbox.id)
        found.append(await still(compute, sandbox))
        await until_true(lambda: any(map(runs, told(log, sandbox.id))), 0.5)
        listed = (await compute.listed()).get(sandbox.id)
        if listed is not None:
            found.append(listed)
        happenings = [e.event for e in log.of(sandbox.id, "platform_event") if e.event is not None]
        return [*found, *told(log, sandbox.id)], happenings


@check("COMP-STAT-08", "another run is another instance", profile="lifecycle", presets=("0.0.111",))
async def instance_changes(compute: ComputeBench) -> None:
    sandbox = await compute.made_stopped()
    before = (await still(compute, sandbox)).status.instance_id
    reply = await compute.start(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-START-01")
    after = (await compute.reaches(sandbox.id, "Ready")).status.instance_id
    compute.apply(before or after, "the driver gives no instance_id")
    compute.hold(
        before != after,
        "DriverSandboxStatus.instance_id changes when a sandbox is stopped and started",
        f"it is {after!r} before and after",
    )


@check("COMP01-STAT-01", "the status has the sandbox's name")
async def status_has_the_name(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    seen = await still(compute, sandbox)
    compute.hold(
        seen.status.name == sandbox.name,
        f"DriverSandboxStatus.name (field 1) is the sandbox's name {sandbox.name!r}",
        f"{seen.status.name!r}",
    )


@check("COMP01-STAT-06", "a resolved identity is not root, and constant")
async def resolved_identity(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    given = [(await still(compute, sandbox)).status for _ in range(2)]
    compute.apply(given[0].HasField("resolved_identity"), "the driver resolves no identity")
    first, second = (each.resolved_identity for each in given)
    compute.hold(
        first.uid and first.gid,
        "DriverSandboxStatus.resolved_identity is not root",
        f"uid {first.uid}, gid {first.gid}",
    )
    groups = list(first.supplementary_gids)
    compute.hold(
        groups == sorted(set(groups)) and 0 not in groups,
        "supplementary_gids are sorted, unique and without 0",
        f"{groups}",
    )
    compute.hold(
        first == second, "resolved_identity is the same in every observation", "it has changed"
    )


@check("COMP01-TIME-01", "times are valid or absent")
async def valid_times(compute: ComputeBench) -> None:
    observed, happenings = await _all_that_is_told(compute)
    conditions = [c for each in observed for c in each.status.conditions]
    for what, stamp in (
        *(("DriverCondition.transition_time", c.transition_time) for c in conditions),
        *(("DriverPlatformEvent.event_time", e.event_time) for e in happenings),
    ):
        compute.hold(
            _EARLIEST <= stamp.seconds <= _LATEST and 0 <= stamp.nanos < 10**9,
            f"{what} lies in the years 1 to 9999 and has 0 to 999999999 nanoseconds",
            f"seconds {stamp.seconds}, nanos {stamp.nanos}",
        )


@check("COMP01-TIME-02", "a condition's time stands while its status does", profile="lifecycle")
async def steady_times(compute: ComputeBench) -> None:
    sandbox = await compute.made_settled()
    first = _times(await still(compute, sandbox))
    compute.apply(first, "the driver gives no times")
    await asyncio.sleep(_APART)
    second = _times(await still(compute, sandbox))
    for key, time in first.items():
        compute.hold(
            second.get(key, time) == time,
            f"transition_time of {key[0]}={key[1]} stays as it is while nothing changes",
            f"it moved by {second.get(key, time) - time:.3f} s between two observations",
        )


def _times(sandbox: wire.DriverSandbox) -> dict[tuple[str, str], float]:
    return {
        (c.type, c.status): c.transition_time.seconds + c.transition_time.nanos / 1e9
        for c in sandbox.status.conditions
        if c.HasField("transition_time")
    }


@check("COMPAT01-04", "older and newer times tell the same instant", once=True)
async def both_times(compute: ComputeBench) -> None:
    capabilities = await compute.capabilities()
    compute.apply(capabilities.HasField("extension"), "the driver does not speak with 0.1.x")
    request, answer = wire.GetCapabilitiesRequest(), wire.GetCapabilitiesResponse
    empty = await compute.caller.ask("GetCapabilities", request, answer, whole=True)
    compute.apply(empty.ok, "the driver refuses gateways before 0.1")
    observed, happenings = await _all_that_is_told(compute)
    for condition in (c for each in observed for c in each.status.conditions):
        newer = _instant(condition, "transition_time")
        _judge_pair(
            compute,
            "DriverCondition.last_transition_time and transition_time",
            _parsed(condition.last_transition_time),
            newer,
        )
    for event in happenings:
        older = event.timestamp_ms / 1000 if event.timestamp_ms else None
        _judge_pair(
            compute,
            "DriverPlatformEvent.timestamp_ms and event_time",
            older,
            _instant(event, "event_time"),
        )


def _judge_pair(
    compute: ComputeBench, fields: str, older: float | None, newer: float | None
) -> None:
    compute.hold(
        (older is None) == (newer is None),
        f"{fields} are both there, or both not",
        "only the newer one can be read" if older is None else "only the older one is there",
    )
    if older is not None and newer is not None:
        compute.hold(
            abs(older - newer) < _SAME,
            f"{fields} are the same instant",
            f"they are {abs(older - newer):.0f} s apart",
        )


def _instant(message: Any, field: str) -> float | None:
    if not message.HasField(field):
        return None
    stamp = getattr(message, field)
    return float(stamp.seconds + stamp.nanos / 1e9)


def _parsed(text: str) -> float | None:
    """Read an RFC 3339 time; None where there is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
