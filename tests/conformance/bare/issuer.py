"""`Issuer` and `TokenCache`: where the fork's credentials come from."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Final

from tests.conformance.bare.errors import NotFound
from tests.conformance.bare.ledger import Ledger
from tests.conformance.bare.switch import Switch


@dataclass(frozen=True)
class Known:
    """A credential that can be resolved."""

    scopes: tuple[str, ...]
    life: float = 300.0
    """Seconds from minting to expiry."""
    takes: float = 0.0
    """Seconds that the issuer needs."""


@dataclass(frozen=True)
class Token:
    """A token in the cache."""

    text: str
    expires_at: float


KNOWN: Final = {
    "bare-one": Known(("read", "write")),
    "bare-two": Known(("read",)),
    "bare-slow": Known(("read",), takes=0.5),
    "bare-short": Known(("read",), life=2.0),
}


class Issuer:
    """Mints tokens, and counts them."""

    limit = 4.0

    def __init__(self, ledger: Ledger, switch: Switch) -> None:
        self.ledger = ledger
        self.switch = switch
        self.known = dict(KNOWN)

    async def mint(self, name: str) -> Token:
        """Mint one; raises `Unavailable` while the issuer is out."""
        known = self.known[name]
        await self.switch.access(self.limit)
        await asyncio.sleep(known.takes)
        self.ledger.count_fetch(name)
        return Token(self.text(), time.time() + known.life)

    def text(self) -> str:
        return f"bare-{secrets.token_urlsafe(24)}"


class TokenCache:
    """Fetches once however many ask, and never gives what has expired (CREDF-RES-03)."""

    margin = 0.25
    """The part of a token's life before its end in which a new one is fetched."""
    longest_margin = 30.0

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self._held: dict[str, tuple[Token, float]] = {}
        self._fetches: dict[str, asyncio.Task[Token]] = {}

    async def get(self, name: str) -> Token:
        """Give a token with some of its life before it."""
        if name not in self.issuer.known:
            raise NotFound("there is no credential of this name")
        held = self._held.get(name)
        if held is not None and self.is_fresh(*held):
            return held[0]
        return await asyncio.shield(self.fetch(name))

    def is_fresh(self, token: Token, minted: float) -> bool:
        margin = min(self.longest_margin, self.margin * (token.expires_at - minted))
        return time.time() < token.expires_at - margin

    def fetch(self, name: str) -> asyncio.Task[Token]:
        """The fetch that is under way, or a new one. It goes on if a caller leaves."""
        fetch = self._fetches.get(name)
        if fetch is None:
            fetch = asyncio.ensure_future(self._fetch(name))
            self._fetches[name] = fetch
            fetch.add_done_callback(lambda done: self._done(name, done))
        return fetch

    async def _fetch(self, name: str) -> Token:
        minted = time.time()
        token = await self.issuer.mint(name)
        self._held[name] = (token, minted)
        return token

    def _done(self, name: str, fetch: asyncio.Task[Token]) -> None:
        del self._fetches[name]
        if not fetch.cancelled():
            fetch.exception()  # heard of, also when every caller has left

    async def close(self) -> None:
        """End what is under way."""
        fetches = list(self._fetches.values())
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
