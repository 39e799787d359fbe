"""The names that the fork's service lists, and none of the other service's on the same socket."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from openshell_drivers.conformance._caller import SILENT
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.benches.store import StoreBench
from openshell_drivers.testing.gateway import PRESETS

_check = partial(check, service="credentials")
_MOST: Final = 10


async def _listed(bench: CredentialsBench) -> list[Any]:
    reply = await bench.list_all()
    bench.need(reply.ok, str(reply), "CREDF-LIST-01")
    return list(reply.answer.credentials)


@_check("CREDF-LIST-01.a", "every name that can be resolved is listed once")
async def listed_once(bench: CredentialsBench) -> None:
    reply = await bench.list_all()
    bench.code(reply, "OK")
    names = [each.name for each in reply.answer.credentials]
    missing = [name for name in bench.profile.credentials.known if name not in names]
    bench.hold(
        not missing, "ListCredentials has every name that can be resolved", f"{missing} are missing"
    )
    twice = sorted({name for name in names if names.count(name) > 1})
    bench.hold(not twice, "ListCredentials has every name once", f"it has {twice} more than once")


@_check(
    "CREDF-LIST-01.b",
    "the list needs no issuer",
    profile="resilience",
    needs=("outage",),
)
async def listed_in_an_outage(bench: CredentialsBench) -> None:
    before = sorted(each.name for each in await _listed(bench))
    async with bench.backend.outage():
        reply = await bench.list_all()
    bench.code(reply, "OK", when="while the issuer is down")
    after = sorted(each.name for each in reply.answer.credentials)
    bench.hold(
        after == before,
        "ListCredentials names the same while the issuer is down",
        f"before {before}, then {after}",
    )


@_check("CREDF-LIST-02", "the list is sorted and stays the same")
async def stable_list(bench: CredentialsBench) -> None:
    lists = [[(each.name, tuple(each.scopes)) for each in await _listed(bench)] for _ in range(3)]
    bench.hold(
        lists[0] == lists[1] == lists[2],
        "ListCredentials gives the same names and scopes in the same order every time",
        f"{lists[0]}, then {lists[1]}, then {lists[2]}",
    )
    names = [name for name, _ in lists[0]]
    bench.hold(names == sorted(names), "ListCredentials is sorted by name", str(names))


@_check("CREDF-LIST-03", "what is listed can be resolved")
async def listed_names_resolve(bench: CredentialsBench) -> None:
    for each in (await _listed(bench))[:_MOST]:
        reply = await bench.resolve(each.name)
        bench.hold(
            reply.code not in {"NOT_FOUND", SILENT},
            "ResolveCredential of a listed name answers OK or an error other than NOT_FOUND",
            str(reply),
        )


@_check("CREDF-MIX-01", "each of the two credential services decodes its own messages")
async def both_services(bench: CredentialsBench) -> None:
    store = StoreBench(bench.world, bench.check, PRESETS["0.1-latest"], bench.instance)
    store.transcript = bench.transcript
    await store.begin()
    try:
        reply = await store.ping()
        bench.apply(reply.code != "UNIMPLEMENTED", "the driver serves only one of the two")
        await _kept_apart(bench, store)
    finally:
        await store.clean()
        await store.end()


async def _kept_apart(bench: CredentialsBench, store: StoreBench) -> None:
    before = {each.name for each in await _listed(bench)}
    kept = await store.kept()
    reply = await bench.resolve(kept.slot.key)
    bench.code(
        reply, "NOT_FOUND", "INVALID_ARGUMENT", when="of the fork's service, of a stored key"
    )
    after = {each.name for each in await _listed(bench)}
    bench.hold(
        kept.slot.key not in after and kept.handle.handle not in after,
        "ListCredentials of CredentialsDriver does not name what CredentialDriver stores",
        f"it names {sorted(after - before)}",
    )
    resolved = await store.resolve(store.item(kept))
    bench.hold(
        resolved.ok and [each.value for each in resolved.answer.credentials] == [kept.value],
        "ResolveCredentials of CredentialDriver gives what was stored",
        str(resolved),
    )
    listing = await store.list_all()
    if listing.ok:
        keys = {key for each in listing.answer.credentials for key in each.keys}
        bench.hold(
            kept.slot.key in keys and not any(name in keys for name in before),
            "ListCredentials of CredentialDriver gives stored keys, none of the fork's names",
            f"{len(keys)} keys, among them {sorted(before & keys)}",
        )
