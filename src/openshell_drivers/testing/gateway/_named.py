"""`CredentialsGateway`: the kagenti line at a `CredentialsDriver`'s socket.

The real one dials at its start and then calls nothing; the calls here are what its proto offers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import anyio

from openshell_drivers._services.names import CREDENTIALS
from openshell_drivers._wire import credentials_driver_pb2 as wire
from openshell_drivers.errors import DriverError
from openshell_drivers.secrets import Secret
from openshell_drivers.testing.gateway._calls import Calls
from openshell_drivers.testing.gateway._dial import dialled
from openshell_drivers.testing.gateway._errors import UserError
from openshell_drivers.testing.gateway._preset import PRESETS, Preset


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedToken:
    """A driver's answer to a name, as it came."""

    token: Secret
    token_type: str
    expires_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCredential:
    """What a driver lists, as it came."""

    name: str
    scopes: tuple[str, ...]


class CredentialsGateway(anyio.AsyncContextManagerMixin):
    """Dials on the line's schedule, or raises `GatewayRefused`; `preset` must have the service."""

    def __init__(self, socket: Path | str, *, preset: Preset | str = "fork-mvp") -> None:
        self.preset = PRESETS[preset] if isinstance(preset, str) else preset
        if "credentials_driver" not in self.preset.revision.contracts:
            raise ValueError(f"{self.preset.name} has no CredentialsDriver")
        self._socket = Path(socket)

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self, None]:
        async with dialled(
            self._socket,
            self.preset.credentials_dial,
            authority=self.preset.credentials_authority,
            receive_limit=self.preset.receive_limit,
        ) as channel:
            self._calls = Calls(channel, CREDENTIALS, self.preset)
            yield self

    async def resolve(self, name: str) -> NamedToken:
        """Ask for the token of a name, without a deadline. Raises `UserError`."""
        request = wire.ResolveCredentialRequest(name=name)
        try:
            answer = await self._calls.ask(
                "ResolveCredential", request, wire.ResolveCredentialResponse
            )
        except DriverError as error:
            raise UserError(error.code, error.message) from None
        return NamedToken(
            token=Secret(answer.token),
            token_type=answer.token_type,
            expires_at_ms=answer.expires_at_ms,
        )

    async def list_credentials(self) -> tuple[NamedCredential, ...]:
        """Ask what can be resolved. A driver that does not say has none to show."""
        try:
            answer = await self._calls.ask(
                "ListCredentials", wire.ListCredentialsRequest(), wire.ListCredentialsResponse
            )
        except DriverError as error:
            if error.code == "UNIMPLEMENTED":
                return ()
            raise UserError(error.code, error.message) from None
        return tuple(
            NamedCredential(name=each.name, scopes=tuple(each.scopes))
            for each in answer.credentials
        )
