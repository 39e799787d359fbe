"""Batches: every id once, all or nothing, at the same time; and when values end."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, Final

from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.store import Handle, Kept, StoreBench
from openshell_drivers.conformance.checks.credentials import SENSIBLE

_check = partial(check, service="credential-store")
_SLOW: Final = 1.0
_PROMPT: Final = 5.0
_BATCH: Final = 32


async def _several(bench: StoreBench, number: int, *, proven: bool = True) -> list[Kept]:
    return await asyncio.gather(*(bench.kept(proven=proven) for _ in range(number)))


def _judge(bench: StoreBench, asked: dict[str, Kept], reply: Any) -> None:
    bench.code(reply, "OK", when=f"of a batch of {len(asked)}")
    ids = [each.request_id for each in reply.answer.credentials]
    bench.hold(
        sorted(ids) == sorted(asked),
        f"a batch of {len(asked)} is answered with each request_id once, unchanged",
        f"{len(ids)} answers; missing {sorted(set(asked) - set(ids))[:3]}, not asked for"
        f" {sorted(set(ids) - set(asked))[:3]}, twice"
        f" {sorted({each for each in ids if ids.count(each) > 1})[:3]}",
    )
    wrong = [
        each.request_id
        for each in reply.answer.credentials
        if each.value != asked[each.request_id].value
    ]
    bench.hold(
        not wrong,
        "each answer of a batch has the value of its own request_id",
        f"{len(wrong)} of {len(ids)} have another one's, such as {wrong[:3]}",
    )


@_check("CREDU-RES-01.a", "every request_id of a batch is answered once")
async def batches(bench: StoreBench) -> None:
    kept = await _several(bench, 10, proven=False)
    for size in (1, 2, _BATCH, 100):
        asked = {f"credential-{number}": kept[number * 7 % 10] for number in range(size)}
        reply = await bench.resolve(*(bench.item(each, name) for name, each in asked.items()))
        _judge(bench, asked, reply)


@_check("CREDU-RES-01.b", "an empty batch is answered OK and empty")
async def empty_batch(bench: StoreBench) -> None:
    reply = await bench.resolve()
    bench.code(reply, "OK", when="of an empty batch")
    number = len(reply.answer.credentials)
    bench.hold(not number, "an empty batch is answered with nothing", f"{number} answers")


@_check("CREDU-RES-01.c", "a request_id comes back as it was, whatever it looks like")
async def odd_ids(bench: StoreBench) -> None:
    kept = await _several(bench, 5)
    ids = ("credential-007", "Credential-7", "credential-1000000", "credential_7", "7")
    asked = dict(zip(ids, kept, strict=True))
    reply = await bench.resolve(*(bench.item(each, name) for name, each in asked.items()))
    _judge(bench, asked, reply)


@_check("CREDU-RES-02.a", "one missing value fails the whole batch with NOT_FOUND")
async def one_missing(bench: StoreBench) -> None:
    kept = await _several(bench, 4)
    gone = await bench.delete(kept[2])
    bench.need(gone.ok, str(gone), "CREDU-DEL-01")
    reply = await bench.resolve(
        *(bench.item(each, f"credential-{number}") for number, each in enumerate(kept))
    )
    bench.hold(
        reply.code == "NOT_FOUND",
        "ResolveCredentials of four values, one of which is gone, answers NOT_FOUND",
        f"OK with {len(reply.answer.credentials)} answers" if reply.ok else str(reply),
    )


@_check("CREDU-RES-02.b", "one malformed handle fails the whole batch")
async def one_malformed(bench: StoreBench) -> None:
    kept = await _several(bench, 3)
    items = [bench.item(each, f"credential-{number}") for number, each in enumerate(kept)]
    items[1].handle.CopyFrom(Handle(driver="x", handle="../conformance"))
    reply = await bench.resolve(*items)
    bench.hold(
        reply.code in {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"},
        "ResolveCredentials of three values, one with a malformed handle, fails with"
        " INVALID_ARGUMENT",
        f"OK with {len(reply.answer.credentials)} answers" if reply.ok else str(reply),
    )


@_check(
    "CREDU-RES-02.c",
    "a backend that cannot be reached is UNAVAILABLE",
    profile="resilience",
    needs=("outage",),
    once=True,
)
async def outage(bench: StoreBench) -> None:
    kept = await bench.kept()
    async with bench.backend.outage():
        reply = await bench.resolve(bench.item(kept))
        stored = await bench.store(bench.slot(), bench.value())
        gone = await bench.delete(kept)
    bench.apply(not reply.ok, "the driver resolves without its backend")
    bench.code(
        reply, "UNAVAILABLE", "DEADLINE_EXCEEDED", when="while the backend cannot be reached"
    )
    for each in (stored, gone):
        bench.hold(
            not each.ok,
            f"{each.rpc} fails while the backend cannot be reached",
            "it answered OK, as if it were done",
        )
    after = await bench.resolve(bench.item(kept))
    bench.hold(
        after.ok and [each.value for each in after.answer.credentials] == [kept.value],
        "after the outage a value is there whose delete had failed",
        "another value" if after.ok else str(after),
    )


@_check(
    "CREDU-RES-04",
    "a batch of 32 is resolved in time at a slow backend",
    profile="resilience",
    needs=("slow",),
    once=True,
)
async def slow_backend(bench: StoreBench) -> None:
    kept = await _several(bench, _BATCH)
    asked = {f"credential-{number}": each for number, each in enumerate(kept)}
    async with bench.backend.slow(_SLOW):
        reply = await bench.resolve(*(bench.item(each, name) for name, each in asked.items()))
    bench.hold(
        reply.ok,
        f"a batch of {_BATCH} is resolved within the gateway's 30 s, though each look at the"
        f" backend takes {_SLOW:g} s",
        f"{reply} after {reply.seconds:.1f} s",
    )
    _judge(bench, asked, reply)
    if reply.seconds > _PROMPT:
        bench.note(f"a batch of {_BATCH} took {reply.seconds:.1f} s; under {_PROMPT:g} s is better")


async def _resolved(bench: StoreBench) -> list[wire.ResolvedCredential]:
    """A stored value, and what else the profile's store gives, resolved."""
    kept = await bench.kept()
    reply = await bench.resolve(bench.item(kept))
    bench.need(reply.ok, str(reply), "CREDU-RES-01")
    return list(reply.answer.credentials)


@_check("CREDU-RES-03", "expires_at_ms is 0 or a time in milliseconds, and declared")
async def expiry(bench: StoreBench) -> None:
    declared = (await bench.capabilities()).supports_expires_at
    for each in await _resolved(bench):
        when = each.expires_at_ms
        bench.hold(
            when == 0 or when >= SENSIBLE,
            "expires_at_ms is 0 or a time in milliseconds since the epoch",
            str(when),
        )
        bench.hold(
            when == 0 or declared,
            "expires_at_ms is set only where supports_expires_at is true",
            f"{when}, and supports_expires_at is false",
        )


@_check("CREDU01-EXP-01", "expiration_time is valid, or absent")
async def expiration_time(bench: StoreBench) -> None:
    for each in await _resolved(bench):
        if not each.HasField("expiration_time"):
            continue
        time_ = each.expiration_time
        bench.hold(
            time_.seconds != 0 or time_.nanos != 0,
            "expiration_time is absent where a value does not expire",
            "it is present and zero, which is the year 1970",
        )
        bench.hold(
            -62_135_596_800 <= time_.seconds < 253_402_300_800 and 0 <= time_.nanos < 10**9,
            "expiration_time is a valid Timestamp",
            f"seconds {time_.seconds}, nanos {time_.nanos}",
        )


@_check("CREDU01-EXP-02", "both times of expiry name one instant")
async def both_times(bench: StoreBench) -> None:
    for each in await _resolved(bench):
        time_ = each.expiration_time
        millis = time_.seconds * 1000 + time_.nanos // 10**6
        if each.HasField("expiration_time") and millis == 0:
            continue  # CREDU01-EXP-01
        bench.hold(
            millis == max(each.expires_at_ms, 0),
            "expires_at_ms and expiration_time are set together and name one instant",
            f"{each.expires_at_ms} and {millis if each.HasField('expiration_time') else 'nothing'}",
        )


@_check("CREDU01-EXP-03", "no expired value is given out")
async def not_expired(bench: StoreBench) -> None:
    now = int(time.time() * 1000)
    for each in await _resolved(bench):
        millis = each.expiration_time.seconds * 1000
        bench.hold(
            millis <= 0 or millis + 999 > now - 1000,
            "what ResolveCredentials gives has not expired",
            f"expiration_time has passed {(now - millis) / 1000:.0f} s ago",
        )
