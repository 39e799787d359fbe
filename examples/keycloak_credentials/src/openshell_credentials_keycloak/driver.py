"""`KeycloakDriver`: names to tokens, by client credentials or token exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar, Final

import anyio

from openshell_credentials_keycloak._grant import Grant, load_http
from openshell_credentials_keycloak._quiet import quiet
from openshell_credentials_keycloak._rules import LONGEST_TIMEOUT
from openshell_credentials_keycloak._tls import TlsContexts
from openshell_credentials_keycloak.config import KeycloakConfig
from openshell_drivers import (
    Credential,
    CredentialInfo,
    CredentialRef,
    CredentialsDriver,
    NotFound,
)
from openshell_drivers.tokens import FetchedToken, TokenCache, TokenPolicy

#: Each grant ends its own fetch in time; this is only the wall behind it.
_POLICY: Final = TokenPolicy(fetch_timeout=LONGEST_TIMEOUT + 3)


class KeycloakDriver(CredentialsDriver[KeycloakConfig]):
    """Gives out short-lived tokens of Keycloak, or any OAuth 2.0 issuer.

    Every name stands alone: its files, its issuer and its failures touch no other.
    """

    name: ClassVar[str] = "keycloak"

    def __init__(self, config: KeycloakConfig) -> None:
        super().__init__(config)
        self._contexts = TlsContexts()
        self._grants: dict[str, Grant] = {}
        self._tokens = TokenCache(self._fetch, policy=_POLICY)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Look at every credential's files once, then serve; no issuer is needed to start."""
        self._grants = await self._grants_of(self.config)
        with quiet():
            async with self._tokens, anyio.create_task_group() as background:
                background.start_soon(load_http)
                yield
                background.cancel_scope.cancel()

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        """Give the token in hand, or fetch one; a changed secret is used from the next call on."""
        grant = self._grants.get(ref.name)
        if grant is None:
            raise NotFound(f"no credential {ref.name!r} is configured")
        if grant.stale() and await grant.look():
            self._tokens.renew(ref.name)
        return await self._tokens.get(ref.name)

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        """Name what is configured; asks nobody."""
        return [
            CredentialInfo(name=name, scopes=credential.scopes)
            for name, credential in sorted(self.config.credentials.items())
        ]

    async def reload(self, config: KeycloakConfig) -> None:
        """Take a new configuration; credentials that it leaves as they were keep their tokens."""
        grants = await self._grants_of(config)
        before, self._grants, self.config = self._grants, grants, config
        for name, grant in before.items():
            if grants.get(name) is not grant:
                self._tokens.forget(name)
        self._contexts.clear()

    async def _grants_of(self, config: KeycloakConfig) -> dict[str, Grant]:
        grants = {}
        for name, credential in config.credentials.items():
            grant = self._grants.get(name)
            if grant is None or (grant.config, grant.secrets_dir) != (
                credential,
                config.secrets_dir,
            ):
                grant = Grant(name, credential, config.secrets_dir, self._contexts)
                await grant.look()
            grants[name] = grant
        return grants

    async def _fetch(self, name: str) -> FetchedToken:
        grant = self._grants.get(name)
        if grant is None:  # removed while a caller waited
            raise NotFound(f"no credential {name!r} is configured")
        return await grant.fetch()
