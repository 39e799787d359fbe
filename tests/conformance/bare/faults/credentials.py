"""The fork's credentials."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import PurePosixPath
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import NotFound, Unavailable
from tests.conformance.bare.faults._tools import fault, override
from tests.conformance.bare.issuer import Token


@fault("token-is-empty", kills=("CREDF-RES-01.a",))
def _(driver: Driver) -> None:
    """An empty token looks like success."""

    @override(driver.credentials, "resolved")
    def _(original: Any, token: Any) -> Any:
        made = original(token)
        made.token = ""
        return made


@fault("token-type-is-empty", kills=("CREDF-RES-01.a",))
def _(driver: Driver) -> None:
    """The token's type is not said."""
    driver.credentials.token_type = ""


@fault("expiry-in-seconds", kills=("CREDF-RES-01.b",), also=("CREDF-RES-03.c",))
def _(driver: Driver) -> None:
    """expires_at_ms is in seconds."""

    @override(driver.credentials, "resolved")
    def _(original: Any, token: Any) -> Any:
        made = original(token)
        made.expires_at_ms //= 1000
        return made


@fault("empty-name-is-unknown", kills=("CREDF-RES-02.a",))
def _(driver: Driver) -> None:
    """An empty name is like any other."""

    @override(driver.credentials, "judge_name")
    def _(_original: Any, _name: str) -> None:
        return


@fault(
    "unknown-name-is-unavailable", kills=("CREDF-RES-02.b",), also=("CREDF-RES-08", "CREDF-MIX-01")
)
def _(driver: Driver) -> None:
    """An unknown name looks like an outage."""

    @override(driver.credentials.cache, "get")
    async def _(original: Any, name: str) -> Any:
        try:
            return await original(name)
        except NotFound:
            raise Unavailable("the issuer does not know it") from None


@fault("issuer-outage-is-not-found", kills=("CREDF-RES-02.c",))
def _(driver: Driver) -> None:
    """An outage looks like an unknown name."""

    @override(driver.credentials.cache, "get")
    async def _(original: Any, name: str) -> Any:
        try:
            return await original(name)
        except Unavailable:
            raise NotFound("no token") from None


@fault(
    "each-call-fetches",
    kills=("CREDF-RES-03.a", "CREDF-RES-03.b"),
    also=("CREDF-RES-05", "CREDF-RES-10"),
)
def _(driver: Driver) -> None:
    """Nothing is kept: every call has a token minted."""

    @override(driver.credentials.cache, "is_fresh")
    def _(_original: Any, _token: Any, _minted: float) -> bool:
        return False

    @override(driver.credentials.cache, "fetch")
    def _(_original: Any, name: str) -> Any:
        return asyncio.ensure_future(driver.credentials.issuer.mint(name))


@fault("fetches-are-not-shared", kills=("CREDF-RES-03.b",))
def _(driver: Driver) -> None:
    """Calls at the same time each fetch for themselves."""
    cache = driver.credentials.cache

    @override(cache, "fetch")
    def _(_original: Any, name: str) -> Any:
        return asyncio.ensure_future(cache._fetch(name))


@fault("expired-tokens-are-given", kills=("CREDF-RES-03.c",), also=("CREDF-RES-01.b",))
def _(driver: Driver) -> None:
    """A token that was fetched once is given for ever."""

    @override(driver.credentials.cache, "is_fresh")
    def _(_original: Any, _token: Any, _minted: float) -> bool:
        return True


@fault("one-lock-over-all-fetches", kills=("CREDF-RES-05",))
def _(driver: Driver) -> None:
    """While one name is fetched, no other is answered."""
    lock = asyncio.Lock()

    @override(driver.credentials.cache, "get")
    async def _(original: Any, name: str) -> Any:
        async with lock:
            return await original(name)


@fault("one-fetch-at-a-time", kills=("CREDF-RES-05",))
def _(driver: Driver) -> None:
    """What is cached is given at once, but only one token is fetched at a time."""
    lock = asyncio.Lock()

    @override(driver.credentials.issuer, "mint")
    async def _(original: Any, name: str) -> Any:
        async with lock:
            return await original(name)


@fault("issuer-is-waited-for-without-end", kills=("CREDF-RES-06",))
def _(driver: Driver) -> None:
    """A fetch has no limit, nor has its call."""
    driver.credentials.issuer.limit = 10**6
    driver.calls.limit = 10**6


@fault("expiry-is-later-than-the-token's", kills=("CREDF-RES-07",))
def _(driver: Driver) -> None:
    """Tokens are JWTs that end a minute before expires_at_ms."""
    issuer = driver.credentials.issuer

    @override(issuer, "mint")
    async def _(original: Any, name: str) -> Any:
        made = await original(name)
        claims = json.dumps({"exp": int(made.expires_at) - 60, "n": made.text}).encode()
        body = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
        return Token(f"eyJhbGciOiJub25lIn0.{body}.{made.text}", made.expires_at)


@fault("names-are-taken-as-paths", kills=("CREDF-RES-08",))
def _(driver: Driver) -> None:
    """The last part of a path counts."""

    @override(driver.credentials.cache, "get")
    async def _(original: Any, name: str) -> Any:
        return await original(PurePosixPath(name).name)


@fault("names-are-trimmed", kills=("CREDF-RES-08",))
def _(driver: Driver) -> None:
    """Blanks around a name do not count."""

    @override(driver.credentials.cache, "get")
    async def _(original: Any, name: str) -> Any:
        return await original(name.strip())


@fault("leaving-caller-takes-the-fetch-along", kills=("CREDF-RES-09",))
def _(driver: Driver) -> None:
    """When the first caller leaves, the fetch is cancelled for all."""
    cache = driver.credentials.cache

    @override(cache, "get")
    async def _(original: Any, name: str) -> Any:
        under_way = cache._fetches.get(name)
        if under_way is not None or name not in cache.issuer.known or cache._held.get(name):
            try:
                return await original(name)
            except asyncio.CancelledError:
                raise Unavailable("the fetch was cancelled") from None
        return await cache.fetch(name)


@fault("cache-is-not-used-in-an-outage", kills=("CREDF-RES-10",))
def _(driver: Driver) -> None:
    """The issuer is asked whether a cached token is still good."""

    @override(driver.credentials.cache, "get")
    async def _(original: Any, name: str) -> Any:
        if driver.switch.read().get("outage"):
            raise Unavailable("the issuer cannot be reached")
        return await original(name)


@fault("list-lacks-one", kills=("CREDF-LIST-01.a",))
def _(driver: Driver) -> None:
    """The first name is not listed."""

    @override(driver.credentials, "list_credentials")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        del answer.credentials[0]
        return answer


@fault("list-names-one-twice", kills=("CREDF-LIST-01.a",))
def _(driver: Driver) -> None:
    """The first name is listed twice."""

    @override(driver.credentials, "list_credentials")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        answer.credentials.insert(0, answer.credentials[0])
        return answer


@fault("list-asks-the-issuer", kills=("CREDF-LIST-01.b",))
def _(driver: Driver) -> None:
    """The list needs the issuer."""

    @override(driver.credentials, "list_credentials")
    async def _(original: Any, request: Any) -> Any:
        await driver.switch.access(4.0)
        return await original(request)


@fault("list-turns", kills=("CREDF-LIST-02",))
def _(driver: Driver) -> None:
    """The list begins with another name each time."""
    turn = [0]

    @override(driver.credentials, "list_credentials")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        turn[0] += 1
        for _ in range(turn[0] % 3):
            answer.credentials.append(answer.credentials[0])
            del answer.credentials[0]
        return answer


@fault("list-names-what-is-not-there", kills=("CREDF-LIST-03",))
def _(driver: Driver) -> None:
    """A name is listed that cannot be resolved."""

    @override(driver.credentials, "list_credentials")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        answer.credentials.add(name="zz-gone")
        return answer


@fault("services-are-mixed-up", kills=("CREDF-MIX-01",))
def _(driver: Driver) -> None:
    """The fork's list has what the other service stores."""

    @override(driver.credentials, "list_credentials")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        for stored in driver.store.vault.all():
            answer.credentials.add(name=stored.owner.key)
        return answer
