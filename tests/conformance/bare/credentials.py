"""`Credentials`: the fork's CredentialsDriver."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare import protos
from tests.conformance.bare.errors import InvalidArgument
from tests.conformance.bare.issuer import Issuer, Token, TokenCache


class Credentials:
    """One method for each RPC, named after it."""

    token_type = "bearer"

    def __init__(self, issuer: Issuer) -> None:
        self.messages = protos.schema("named")
        self.issuer = issuer
        self.cache = TokenCache(issuer)

    async def resolve_credential(self, request: Any) -> Any:
        self.judge_name(request.name)
        return self.resolved(await self.cache.get(request.name))

    def judge_name(self, name: str) -> None:
        if not name:
            raise InvalidArgument("name is empty")

    def resolved(self, token: Token) -> Any:
        return self.messages.ResolveCredentialResponse(
            token=token.text,
            expires_at_ms=int(token.expires_at * 1000),
            token_type=self.token_type,
        )

    async def list_credentials(self, _request: Any) -> Any:
        """All names once, sorted; the issuer is not asked (CREDF-LIST-01)."""
        listed = [
            self.messages.CredentialInfo(name=name, scopes=known.scopes)
            for name, known in sorted(self.issuer.known.items())
        ]
        return self.messages.ListCredentialsResponse(credentials=listed)
