"""`CredentialStoreGateway`: the upstream lines and the secrets of their providers.

What a user does to a provider becomes calls of a `CredentialDriver`, each with 30 seconds and none
tried twice (contract 3.13).
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Self

import anyio

from openshell_drivers._services.names import CREDENTIAL_STORE
from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers.errors import DriverError
from openshell_drivers.secrets import Secret
from openshell_drivers.testing.gateway._calls import Calls
from openshell_drivers.testing.gateway._dial import dialled
from openshell_drivers.testing.gateway._errors import GatewayRefused, UserError
from openshell_drivers.testing.gateway._handshake import judge_extension, metadata
from openshell_drivers.testing.gateway._preset import PRESETS, Preset
from openshell_drivers.testing.gateway._storing import Handle, Owner, StoreCalls

_FAMILY: Final = "credentials"
_REFRESH: Final = "openshell.refresh."
_TRIED_AGAIN: Final = frozenset(
    {
        *("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"),
        *("ABORTED", "INTERNAL", "UNKNOWN"),
    }
)


def refresh_key(name: str) -> str:
    """Give the key under which a gateway keeps material for refreshing: 82 characters."""
    return f"{_REFRESH}{hashlib.sha256(name.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider as the gateway has it: handles, and no secret."""

    name: str
    workspace: str
    id: str
    handles: Mapping[str, Handle] = field(default_factory=dict)
    expires_at: Mapping[str, datetime] = field(default_factory=dict)
    """Where the user knows when a value ends."""

    def owner(self, key: str) -> Owner:
        """Say whose a value is, as every call does."""
        return Owner(provider=self.name, key=key, workspace=self.workspace, provider_id=self.id)


class CredentialStoreGateway(anyio.AsyncContextManagerMixin):
    """Dials, shakes hands, and keeps providers. `GatewayRefused` if it would not start.

    `name` is what the operator called the driver; every handle carries it, whatever the driver
    calls itself. A driver that the gateway has `spawned` may take 10 seconds to come up; for any
    other there is one attempt.
    """

    def __init__(
        self,
        socket: Path | str,
        *,
        preset: Preset | str = "0.1-latest",
        name: str = "external",
        workspace: str = "default",
        spawned: bool = False,
    ) -> None:
        self.preset = PRESETS[preset] if isinstance(preset, str) else preset
        if "credential_driver" not in self.preset.revision.contracts:
            raise ValueError(f"{self.preset.name} has no CredentialDriver")
        self._socket = Path(socket)
        self._name = name
        self._workspace = workspace
        self._spawned = spawned
        self._providers: dict[tuple[str, str], Provider] = {}

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self, None]:
        preset = self.preset
        dial = preset.spawned_dial if self._spawned else preset.credentials_dial
        async with dialled(
            self._socket,
            dial,
            authority=preset.credentials_authority,
            receive_limit=preset.receive_limit,
        ) as channel:
            calls = Calls(channel, CREDENTIAL_STORE, preset, timeout=preset.credentials_timeout)
            await self._introduce(calls)
            self._store = StoreCalls(calls, self._name, checks_times=preset.checks_times)
            yield self

    async def _introduce(self, calls: Calls) -> None:
        """Ask what the driver is; its answer counts only where there is a handshake."""
        message = await self._ask_capabilities(calls)
        if self.preset.offers(_FAMILY):
            extension = message.extension if message.HasField("extension") else None
            judge_extension(extension, self.preset, _FAMILY)

    async def _ask_capabilities(self, calls: Calls) -> wire.GetCredentialDriverCapabilitiesResponse:
        """Call once; in the 0.1.x line a spawned driver gets time to come up."""
        again = self._spawned and self.preset.line == "N"
        delays = iter(self.preset.spawned_dial if again else ())
        while True:
            try:
                return await calls.ask(
                    "GetCapabilities",
                    wire.GetCredentialDriverCapabilitiesRequest(
                        gateway=metadata(self.preset, _FAMILY)
                    ),
                    wire.GetCredentialDriverCapabilitiesResponse,
                )
            except DriverError as error:
                delay = next(delays, None) if error.code in _TRIED_AGAIN else None
                if delay is None:
                    said = f"{error.code} {error.message}"
                    raise GatewayRefused("GetCapabilities failed", said) from None
            await anyio.sleep(delay)

    # What a user does

    @property
    def providers(self) -> tuple[Provider, ...]:
        """All providers, oldest first."""
        return tuple(self._providers.values())

    async def create_provider(
        self,
        name: str,
        values: Mapping[str, Secret],
        *,
        workspace: str | None = None,
        expires_at: Mapping[str, datetime] | None = None,
    ) -> Provider:
        """Store all values at once; if one fails, delete those that did not. `UserError`."""
        provider = Provider(
            name=name,
            workspace=self._workspace if workspace is None else workspace,
            id=str(uuid.uuid4()),
            expires_at=dict(expires_at or {}),
        )
        if (provider.workspace, name) in self._providers:
            raise UserError("ALREADY_EXISTS", "provider already exists")
        return self._commit(replace(provider, handles=await self._store_new(provider, values)))

    async def update_provider(
        self,
        name: str,
        values: Mapping[str, Secret],
        *,
        workspace: str | None = None,
        commit_fails: bool = False,
    ) -> Provider:
        """Store new keys, commit the record, then overwrite the others in place.

        The handle that an overwrite returns is thrown away (CREDU-STORE-02). If the commit fails,
        new values are deleted again and old ones have not been touched.
        """
        provider = self._provider(name, workspace)
        old = {key: value for key, value in values.items() if key in provider.handles}
        new = {key: value for key, value in values.items() if key not in provider.handles}
        handles = await self._store_new(provider, new)
        if commit_fails:
            await self._drop(provider, handles)
            raise UserError("ABORTED", "the provider has changed")
        provider = self._commit(replace(provider, handles={**provider.handles, **handles}))
        _, errors = await _each(
            old,
            lambda key: self._store.store(
                provider.owner(key), old[key], existing=provider.handles[key]
            ),
        )
        if errors:
            raise errors[0]
        return provider

    async def refresh_credential(
        self, name: str, key: str, value: Secret, *, workspace: str | None = None
    ) -> Provider:
        """Store a value beside the old one under an object of its own, then delete the old."""
        provider = self._provider(name, workspace)
        before = provider.handles.get(key)
        staged = f"{provider.id}-refresh-{uuid.uuid4()}"
        try:
            handle = await self._store.store(provider.owner(key), value, object_id=staged)
        except DriverError as error:
            raise UserError(error.code, error.message) from None
        provider = self._commit(replace(provider, handles={**provider.handles, key: handle}))
        if before is not None:
            await self._drop(provider, {key: before})
        return provider

    async def resolve_provider(
        self, name: str, *, workspace: str | None = None
    ) -> Mapping[str, Secret]:
        """Get all values in one batch, but for those that have expired. Raises `UserError`.

        `INTERNAL` unless every request was answered exactly once (CREDU-RES-01).
        """
        provider = self._provider(name, workspace)
        keys = list(provider.handles)
        wanted = [(provider.owner(key), provider.handles[key]) for key in keys]
        try:
            answers = await self._store.resolve(wanted)
        except DriverError as error:
            raise UserError(error.code, error.message) from None
        now = int(time.time() * 1000)
        found = {}
        for key, (value, driver_ms) in zip(keys, answers, strict=True):
            own = provider.expires_at.get(key)
            own_ms = None if own is None else int(own.timestamp() * 1000)
            at = 0 if key.startswith(_REFRESH) else now
            if not self._is_over(own_ms, driver_ms, at):
                found[key] = value
        return found

    def _is_over(self, own_ms: int | None, driver_ms: int | None, now: int) -> bool:
        """Compare the earlier of both ends with now. In 0.0.x a negative one means never."""
        ends = [each for each in (own_ms, driver_ms) if each is not None]
        if not ends:
            return False
        return min(ends) <= now and (self.preset.line == "N" or min(ends) > 0)

    async def delete_provider(self, name: str, *, workspace: str | None = None) -> None:
        """Delete all values, then the record; an error leaves it, so that it can be tried again."""
        provider = self._provider(name, workspace)
        _, errors = await _each(
            provider.handles,
            lambda key: self._store.delete(provider.owner(key), provider.handles[key]),
        )
        if errors:
            raise errors[0]
        del self._providers[provider.workspace, provider.name]

    # How

    async def _store_new(
        self, provider: Provider, values: Mapping[str, Secret]
    ) -> dict[str, Handle]:
        stored, errors = await _each(
            values, lambda key: self._store.store(provider.owner(key), values[key])
        )
        if errors:
            await self._drop(provider, stored)
            raise errors[0]
        return stored

    async def _drop(self, provider: Provider, handles: Mapping[str, Handle]) -> None:
        """Delete what is of no use any more; nobody hears of an error."""
        for key, handle in handles.items():
            with suppress(DriverError):
                await self._store.delete(provider.owner(key), handle)

    def _commit(self, provider: Provider) -> Provider:
        self._providers[provider.workspace, provider.name] = provider
        return provider

    def _provider(self, name: str, workspace: str | None) -> Provider:
        found = self._providers.get((self._workspace if workspace is None else workspace, name))
        if found is None:
            raise UserError("NOT_FOUND", f"provider {name!r} not found")
        return found


async def _each(
    keys: Mapping[str, object], call: Callable[[str], Awaitable[Handle]]
) -> tuple[dict[str, Handle], list[UserError]]:
    """Call for all keys at once and wait for all; what came of which."""
    done: dict[str, Handle] = {}
    errors: list[UserError] = []

    async def one(key: str) -> None:
        try:
            done[key] = await call(key)
        except DriverError as error:
            errors.append(UserError(error.code, error.message))

    async with anyio.create_task_group() as tasks:
        for key in keys:
            tasks.start_soon(one, key)
    return done, errors
