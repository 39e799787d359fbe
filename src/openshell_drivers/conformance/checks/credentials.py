"""The fork's credentials: names in, tokens out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from functools import partial
from typing import Any, Final

from openshell_drivers.conformance._caller import SILENT
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance._outcomes import NotTestable
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.benches.store import StoreBench
from openshell_drivers.testing.gateway import PRESETS

_check = partial(check, service="credentials")
#: Milliseconds of the year 2001: a smaller time that is not 0 was counted in another unit.
SENSIBLE: Final = 10**12
_YEARS: Final = 20 * 365 * 86_400_000
_LASTING: Final = 60_000
_SLOW: Final = 2.0
_SWIFT: Final = 1.0
_HANGING: Final = 60.0
_LIMIT: Final = 30.0
_MARGIN: Final = 3.0
_LONGEST_LIFE: Final = 20.0
_MOST: Final = 10


def _now() -> int:
    return int(time.time() * 1000)


@_check("CREDF-RES-01.a", "a known name gives a token and its type", needs=("known",))
async def token_and_type(bench: CredentialsBench) -> None:
    for name in bench.profile.credentials.known:
        reply = await bench.resolve(name)
        bench.code(reply, "OK", when="of a known name")
        missing = [field for field in ("token", "token_type") if not getattr(reply.answer, field)]
        bench.hold(
            not missing,
            "ResolveCredential of a known name gives token and token_type",
            f"{' and '.join(missing)} is empty",
        )


@_check(
    "CREDF-RES-01.b", "expires_at_ms is in milliseconds and in the future, or 0", needs=("known",)
)
async def expiry_in_milliseconds(bench: CredentialsBench) -> None:
    for name in [*bench.profile.credentials.known, *bench.profile.credentials.expiring]:
        now = _now()  # before the call: how long the answer travels is not the driver's doing
        reply = await bench.resolve(name)
        bench.need(reply.ok, str(reply), "CREDF-RES-01")
        expiry = reply.answer.expires_at_ms
        bench.hold(
            expiry == 0 or now < expiry < now + _YEARS,
            "expires_at_ms is 0 or a time in the future, in milliseconds since the epoch",
            f"{expiry}, when it was {now}",
        )


@_check("CREDF-RES-02.a", "an empty name is INVALID_ARGUMENT")
async def empty_name(bench: CredentialsBench) -> None:
    bench.code(await bench.resolve(""), "INVALID_ARGUMENT", when="of an empty name")


@_check("CREDF-RES-02.b", "an unknown name is NOT_FOUND")
async def unknown_name(bench: CredentialsBench) -> None:
    reply = await bench.resolve(bench.profile.credentials.unknown)
    bench.code(reply, "NOT_FOUND", when="of an unknown name")


@_check(
    "CREDF-RES-02.c",
    "an issuer that cannot be reached is UNAVAILABLE",
    profile="resilience",
    needs=("known", "outage"),
)
async def issuer_down(bench: CredentialsBench) -> None:
    async with bench.backend.outage():
        reply = await bench.resolve(bench.known_name)
    bench.apply(not reply.ok, "the driver needs no issuer for this name")
    bench.code(
        reply,
        *("UNAVAILABLE", "DEADLINE_EXCEEDED"),
        when="of a name that is in no cache, while the issuer cannot be reached",
    )


@_check("CREDF-RES-03.a", "a token that lasts is given again", needs=("known",))
async def cached(bench: CredentialsBench) -> None:
    first = await bench.resolve(bench.known_name)
    bench.need(first.ok, str(first), "CREDF-RES-01")
    bench.apply(
        first.answer.expires_at_ms > _now() + _LASTING, "the token does not say that it lasts"
    )
    second = await bench.resolve(bench.known_name)
    bench.hold(
        second.answer.token == first.answer.token,
        "two ResolveCredential calls in a row give one token, which lasts for more than a minute",
        "the second call gave another token",
    )


@_check(
    "CREDF-RES-03.b",
    "calls at the same time share one fetch",
    profile="resilience",
    needs=("known",),
    own=True,
)
async def single_flight(bench: CredentialsBench) -> None:
    for name in bench.profile.credentials.known:
        replies = await asyncio.gather(*(bench.resolve(name) for _ in range(16)))
        for reply in replies:
            bench.need(reply.ok, str(reply), "CREDF-RES-01")
        tokens = {reply.answer.token for reply in replies}
        bench.hold(
            len(tokens) == 1,
            "16 ResolveCredential calls of one name at once share one fetch and give one token",
            f"they gave {len(tokens)} tokens",
        )


@_check(
    "CREDF-RES-03.c",
    "no expired token is given",
    profile="resilience",
    needs=("expiring",),
)
async def never_expired(bench: CredentialsBench) -> None:
    name = bench.profile.credentials.expiring[0]
    first = await bench.resolve(name)
    bench.need(first.ok and first.answer.token, str(first), "CREDF-RES-01")
    wait = (first.answer.expires_at_ms - _now()) / 1000
    bench.apply(0 < wait < _LONGEST_LIFE, "the token of credentials.expiring does not expire soon")
    await asyncio.sleep(wait + 0.1)
    now = _now()
    reply = await bench.resolve(name)
    bench.need(reply.ok, str(reply), "CREDF-RES-01")
    bench.hold(
        reply.answer.token != first.answer.token and reply.answer.expires_at_ms > now - 100,
        "after its expiry a token is not given out any more",
        "ResolveCredential gave the token that has expired"
        if reply.answer.token == first.answer.token
        else f"expires_at_ms {reply.answer.expires_at_ms} has passed",
    )


@_check(
    "CREDF-RES-05",
    "a slow fetch delays only its own name",
    profile="resilience",
    needs=("known", "slow"),
)
async def slow_issuer(bench: CredentialsBench) -> None:
    names = bench.profile.credentials.known
    if len(names) < 2:
        raise NotTestable("credentials.known has to name at least two")
    reply = await bench.resolve(names[0])
    bench.need(reply.ok, str(reply), "CREDF-RES-01")
    bench.apply(reply.answer.expires_at_ms > _now() + _LASTING, "tokens are not cached")
    async with bench.backend.slow(_SLOW):
        slow = asyncio.create_task(bench.resolve(names[1]))
        await asyncio.sleep(0.2)
        bench.apply(not slow.done(), "the driver does not wait for its issuer")
        quick, cached_took = await _timed(bench, names[0])
        others = [*names[2:], *bench.profile.credentials.expiring]
        later = [await _timed(bench, name) for name in others[:1]]
        slowly = await slow
    for reply in (quick, slowly, *(each for each, _ in later)):
        bench.need(reply.ok, str(reply), "CREDF-RES-03")
    bench.hold(
        cached_took <= _SWIFT,
        f"while the fetch of one name takes {_SLOW:g} s, a cached token of another one is given"
        f" within {_SWIFT:g} s",
        f"it took {cached_took:.2f} s",
    )
    # Begun a little later: after all of the other's fetch it takes nearly twice as long.
    for _, took in later if slowly.seconds > _SLOW * 0.9 else []:
        bench.hold(
            took <= _SLOW * 1.45,
            f"while the fetch of one name takes {_SLOW:g} s, that of another one begins and ends"
            f" within {_SLOW * 1.45:g} s",
            f"it took {took:.2f} s",
        )


async def _timed(bench: CredentialsBench, name: str) -> tuple[Any, float]:
    """Resolve, and the seconds that it took without those that the suite was kept from running."""
    before = bench.world.stall.total
    reply = await bench.resolve(name)
    return reply, reply.seconds - (bench.world.stall.total - before)


@_check(
    "CREDF-RES-06",
    "a resolve ends within 30 s whatever the issuer does",
    profile="resilience",
    needs=("known", "slow"),
)
async def bounded(bench: CredentialsBench) -> None:
    async with bench.backend.slow(_HANGING):
        try:
            async with asyncio.timeout(_LIMIT + _MARGIN):
                reply = await bench.resolve(bench.known_name)
        except TimeoutError:
            bench.fail(
                f"ResolveCredential ends within {_LIMIT:g} s while the issuer does not answer",
                f"no answer in {_LIMIT + _MARGIN:g} s",
            )
    if not reply.ok:
        bench.code(
            reply, "DEADLINE_EXCEEDED", "UNAVAILABLE", when="while the issuer does not answer"
        )


@_check("CREDF-RES-07", "expires_at_ms is not later than the token's own end", needs=("known",))
async def not_beyond_the_token(bench: CredentialsBench) -> None:
    looked = False
    for name in bench.profile.credentials.known:
        reply = await bench.resolve(name)
        bench.need(reply.ok, str(reply), "CREDF-RES-01")
        end = _end_of(reply.answer.token)
        if end is None or reply.answer.expires_at_ms == 0:
            continue
        looked = True
        bench.hold(
            reply.answer.expires_at_ms <= end * 1000 + 999,
            "expires_at_ms is not later than `exp` in the token itself",
            f"it is later by {reply.answer.expires_at_ms / 1000 - end:.1f} s",
        )
    bench.apply(looked, "no token says itself when it ends")


def _end_of(token: str) -> int | None:
    """The ``exp`` of a JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return int(claims["exp"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        return None


@_check(
    "CREDF-RES-08", "a name matches exactly or not at all", profile="security", needs=("known",)
)
async def exact_names(bench: CredentialsBench) -> None:
    known = bench.known_name
    wrong = {
        "with a blank before it": f" {known}",
        "with a blank after it": f"{known} ",
        "with a line break after it": f"{known}\n",
        "with a NUL after it": f"{known}\0",
        "as a path": f"./{known}",
        "as a path with a way back": f"x/../{known}",
        "as a pattern": "*",
        "without its last character": known[:-1] or "x",
    }
    if known.swapcase() != known:
        wrong["in the other case"] = known.swapcase()
    listed = await bench.list_all()
    legal = {each.name for each in listed.answer.credentials}
    for how, name in wrong.items():
        if name not in legal:
            reply = await bench.resolve(name)
            bench.code(reply, "NOT_FOUND", "INVALID_ARGUMENT", when=f"of a known name {how}")
    for name in ("../../../../etc/passwd", "x" * 5_000):
        bench.code(
            await bench.resolve(name), "NOT_FOUND", "INVALID_ARGUMENT", when="of a hostile name"
        )


@_check(
    "CREDF-RES-09",
    "a caller that leaves does not spoil the fetch of others",
    profile="resilience",
    needs=("known", "slow"),
)
async def leaving_caller(bench: CredentialsBench) -> None:
    async with bench.backend.slow(_SLOW / 2):
        leaver = asyncio.create_task(bench.resolve(bench.known_name, deadline=0.4))
        await asyncio.sleep(0.1)
        async with bench.another_caller() as other:
            stayer = asyncio.create_task(bench.resolve(bench.known_name, caller=other))
            await leaver
            reply = await stayer
    bench.hold(
        reply.ok,
        "a ResolveCredential that waits together with one whose caller leaves is answered OK",
        str(reply),
    )


@_check(
    "CREDF-RES-10",
    "while the issuer is down a valid cached token is given",
    profile="resilience",
    needs=("known", "outage"),
)
async def cached_in_an_outage(bench: CredentialsBench) -> None:
    first = await bench.resolve(bench.known_name)
    bench.need(first.ok, str(first), "CREDF-RES-01")
    bench.apply(
        first.answer.expires_at_ms > _now() + _LASTING, "the token does not say that it lasts"
    )
    async with bench.backend.outage():
        reply = await bench.resolve(bench.known_name)
    bench.hold(
        reply.ok,
        "ResolveCredential of a name whose token is valid for more than a minute answers OK while"
        " the issuer is down",
        str(reply),
    )


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
