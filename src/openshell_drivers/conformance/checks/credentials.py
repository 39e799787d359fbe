"""The fork's credentials: names in, tokens out."""

from __future__ import annotations

import base64
import binascii
import json
import time
from functools import partial
from typing import Final

from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.credentials import CredentialsBench

_check = partial(check, service="credentials")
#: Milliseconds of the year 2001: a smaller time that is not 0 was counted in another unit.
SENSIBLE: Final = 10**12
_YEARS: Final = 20 * 365 * 86_400_000


def now() -> int:
    """Milliseconds since the epoch."""
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
        asked = now()  # before the call: how long the answer travels is not the driver's doing
        reply = await bench.resolve(name)
        bench.need(reply.ok, str(reply), "CREDF-RES-01")
        expiry = reply.answer.expires_at_ms
        bench.hold(
            expiry == 0 or asked < expiry < asked + _YEARS,
            "expires_at_ms is 0 or a time in the future, in milliseconds since the epoch",
            f"{expiry}, when it was {asked}",
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
