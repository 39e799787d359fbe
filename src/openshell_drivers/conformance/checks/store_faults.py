"""Many stores at once, and stores that nobody waits for."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import anyio

from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.store import Kept, StoreBench

_check = partial(check, service="credential-store")
_SLOW: Final = 0.8
_DEADLINE: Final = 0.25
#: How long a store that was given up is looked out for.
_LATE: Final = 1.0


@_check("CREDU-CON-01.a", "the keys of a provider can be stored at once")
async def stores_at_once(bench: StoreBench) -> None:
    await bench.proven()
    first = bench.slot()
    slots = [
        bench.slot(provider=first.provider, provider_id=first.provider_id, key=f"{first.key}_{n}")
        for n in range(12)
    ]
    values = [bench.value() for _ in slots]
    replies = await asyncio.gather(*map(bench.store, slots, values))
    for reply in replies:
        bench.code(reply, "OK", when="of one of twelve keys of a provider that are stored at once")
    right = 0
    for slot, value, reply in zip(slots, values, replies, strict=True):
        kept = Kept(slot=slot, value=value, handle=bench.configured(reply.answer.handle))
        after = await bench.resolve(bench.item(kept))
        right += after.ok and [each.value for each in after.answer.credentials] == [value]
    bench.hold(
        right == len(values),
        "twelve keys of a provider that are stored at once all have their own value afterwards",
        f"{right} have",
    )


@_check("CREDU-CON-01.b", "colliding writes of one value leave one of them")
async def colliding_writes(bench: StoreBench) -> None:
    await bench.overwriting()
    kept = await bench.kept()
    values = [bench.value("colliding value") for _ in range(8)]
    replies = await asyncio.gather(
        *(bench.store(kept.slot, value, existing=kept.handle) for value in values)
    )
    for reply in replies:
        bench.code(reply, "OK", "ABORTED", when="of a value that eight callers write at once")
    bench.hold(
        any(reply.ok for reply in replies),
        "of eight colliding writes at least one succeeds",
        "all were answered with ABORTED",
    )
    after = await bench.resolve(bench.item(kept))
    written = [value for value, reply in zip(values, replies, strict=True) if reply.ok]
    found = [each.value for each in after.answer.credentials]
    bench.hold(
        after.ok and len(found) == 1 and found[0] in written,
        "after colliding writes the handle resolves to one of the values that were written",
        "another value" if after.ok else str(after),
    )


@_check(
    "CREDU-STORE-06",
    "a store that passes its deadline leaves nothing",
    profile="resilience",
    needs=("slow",),
    once=True,
)
async def abandoned_store(bench: StoreBench) -> None:
    capabilities = await bench.capabilities()
    bench.apply(capabilities.supports_list, "without ListCredentials what is left cannot be seen")
    slot = bench.slot()
    async with bench.backend.slow(_SLOW):
        reply = await bench.store(slot, bench.value(), deadline=_DEADLINE)
    bench.apply(not reply.ok, "the driver stores without waiting for its backend")
    with anyio.move_on_after(_LATE):
        while True:
            listed = await bench.list_all()
            bench.need(listed.ok, str(listed), "CREDU-LIST-01")
            left = [each for each in listed.answer.credentials if slot.key in each.keys]
            bench.hold(
                not left,
                "after a StoreCredential that passed its deadline ListCredentials has no such key",
                f"it has {slot.key}, which no handle was given for",
            )
            await anyio.sleep(0.1)
