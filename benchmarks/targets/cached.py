"""A driver over a `TokenCache` and issuers that take 20 ms, or for ever: ``cached.py --socket``.

The names are made up by the caller; an issuer hangs for those that begin with ``dead``. The list
names every fetch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from openshell_drivers import Credential, CredentialInfo, CredentialRef, CredentialsDriver, Secret
from openshell_drivers.cli import driver_main
from openshell_drivers.tokens import FetchedToken, TokenCache

_ISSUER_SECONDS = 0.02


class Cached(CredentialsDriver):
    """Gives tokens out of a cache."""

    name = "cached"
    version = "1"

    def __init__(self, config: None = None) -> None:
        super().__init__(config)
        self._cache = TokenCache(self._fetch)
        self._fetches: list[str] = []

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with self._cache:
            yield

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        return await self._cache.get(ref.name)

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        numbered = enumerate(self._fetches)
        return [CredentialInfo(name=str(number), scopes=(name,)) for number, name in numbered]

    async def _fetch(self, name: str) -> FetchedToken:
        self._fetches.append(name)
        if name.startswith("dead"):
            await asyncio.Event().wait()
        await asyncio.sleep(_ISSUER_SECONDS)
        return FetchedToken(token=Secret("t" * 1200), expires_in=300)


if __name__ == "__main__":
    driver_main(Cached)
