"""`CredentialsBench`: the fork's credentials service under test."""

from __future__ import annotations

from typing import Any

from openshell_drivers._services.names import CREDENTIALS
from openshell_drivers._wire import credentials_driver_pb2 as wire
from openshell_drivers.conformance._caller import PATIENCE, Caller, Reply
from openshell_drivers.conformance.benches._base import Bench


class CredentialsBench(Bench):
    """Names in, tokens out. Every token that comes back is a secret of the run."""

    service = CREDENTIALS

    @property
    def authority(self) -> str:
        """What the line's client calls the driver."""
        return self.preset.credentials_authority

    async def ping(self, caller: Caller | None = None, *, patience: float = PATIENCE) -> Reply[Any]:
        """ListCredentials, which needs no issuer."""
        request = wire.ListCredentialsRequest()
        answer = wire.ListCredentialsResponse
        return await (caller or self.caller).ask(
            "ListCredentials", request, answer, patience=patience
        )

    @property
    def known_name(self) -> str:
        """A name that the driver can resolve, by the profile."""
        return self.profile.credentials.known[0]

    async def resolve(
        self, name: str, *, deadline: float | None = None, caller: Caller | None = None
    ) -> Reply[wire.ResolveCredentialResponse]:
        """Resolve a name."""
        request = wire.ResolveCredentialRequest(name=name)
        answer = wire.ResolveCredentialResponse
        reply = await (caller or self.caller).ask(
            "ResolveCredential", request, answer, deadline=deadline
        )
        self.world.canaries.add(f"token of {name}", reply.answer.token)
        return reply

    async def list_all(self) -> Reply[wire.ListCredentialsResponse]:
        """List what can be resolved."""
        request = wire.ListCredentialsRequest()
        return await self.caller.ask("ListCredentials", request, wire.ListCredentialsResponse)
