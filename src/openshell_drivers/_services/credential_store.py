"""`CredentialDriver`, served from a credential store."""

from __future__ import annotations

import contextlib
import logging
from typing import Final

import anyio

from openshell_drivers._checks import returned
from openshell_drivers._codec import credential_store as codec
from openshell_drivers._codec import extension
from openshell_drivers._faults import describe
from openshell_drivers._locks import KeyedLocks
from openshell_drivers._rpc import Service, Unary
from openshell_drivers._services import names
from openshell_drivers._version import driver_version
from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers.credential_store import (
    CredentialSlot,
    CredentialStore,
    StoreCapabilities,
    StoredCredential,
)
from openshell_drivers.errors import DriverError, FailedPrecondition, Internal, NotFound
from openshell_drivers.secrets import Secret

_UNDO_SECONDS: Final = 5.0
_log: Final = logging.getLogger("openshell_drivers.credential_store")


def capabilities(store: CredentialStore[object]) -> StoreCapabilities:
    """Say what the class implements; nothing can be claimed that is not there."""
    listing = type(store).list_stored_credentials
    return StoreCapabilities(
        driver_name=store.name,
        driver_version=driver_version(store),
        backend_kind=store.backend_kind or store.name,
        supports_list=listing is not CredentialStore.list_stored_credentials,
        supports_expires_at=store.reports_expiry,
    )


class _Methods:
    def __init__(self, store: CredentialStore[object], *, require_handshake: bool) -> None:
        self._store = store
        self._require_handshake = require_handshake
        self._locks = KeyedLocks()
        # Computed once: the answer is the same, byte for byte, for the life of the process.
        self._capabilities = codec.encode_capabilities(capabilities(store))

    async def get_capabilities(
        self, request: wire.GetCredentialDriverCapabilitiesRequest
    ) -> wire.GetCredentialDriverCapabilitiesResponse:
        if request.HasField("gateway"):
            extension.judge(request.gateway, codec.FAMILY)
        elif self._require_handshake:
            raise FailedPrecondition("gateway metadata refused: it is missing")
        return self._capabilities

    async def store(self, request: wire.StoreCredentialRequest) -> wire.StoreCredentialResponse:
        slot, value, new = codec.decode_store(request)
        async with self._locks.hold(slot.id):
            if new:
                await self._store_new(slot, value)
            else:
                await self._store.store_credential(slot, value)
        return codec.encode_stored(slot, self._store.name)

    async def _store_new(self, slot: CredentialSlot, value: Secret) -> None:
        done = False
        try:
            await self._store.store_credential(slot, value)
            done = True
        finally:
            if not done:  # failed or cancelled: nobody learns the handle (CREDU-STORE-06)
                with anyio.move_on_after(_UNDO_SECONDS, shield=True):
                    await self._undo(slot)

    async def _undo(self, slot: CredentialSlot) -> None:
        try:
            await self._store.delete_credential(slot)
        except Exception as error:  # noqa: BLE001  # the first error is the one to answer
            _log.warning("a failed store may have left a value", extra={"fault": describe(error)})

    async def resolve(
        self, request: wire.ResolveCredentialsRequest
    ) -> wire.ResolveCredentialsResponse:
        batch = codec.decode_batch(request)
        found: list[wire.ResolvedCredential | None] = [None] * len(batch)
        limiter = anyio.CapacityLimiter(self._store.resolve_concurrency)

        async def one(index: int, request_id: str, slot: CredentialSlot) -> None:
            async with limiter:
                stored = await returned(
                    StoredCredential, self._store.resolve_stored_credential, slot
                )
            found[index] = codec.encode_resolved(
                request_id, stored, reports_expiry=self._store.reports_expiry
            )

        try:
            async with anyio.create_task_group() as tasks:
                for index, (request_id, slot) in enumerate(batch):
                    tasks.start_soon(one, index, request_id, slot)
        except* Exception as group:  # noqa: BLE001  # every item's error becomes the batch's
            raise _first(group) from None
        answered = [item for item in found if item is not None]
        if len(answered) < len(batch):  # what an item awaited was cancelled, and so were the rest
            raise Internal("the driver gave up resolving")
        return wire.ResolveCredentialsResponse(credentials=answered)

    async def delete(self, request: wire.DeleteCredentialRequest) -> wire.DeleteCredentialResponse:
        slot = codec.decode_slot(request)
        async with self._locks.hold(slot.id):
            with contextlib.suppress(NotFound):  # gone is what was asked for (CREDU-DEL-01)
                await self._store.delete_credential(slot)
        return wire.DeleteCredentialResponse()

    async def list_(self, request: wire.ListCredentialsRequest) -> wire.ListCredentialsResponse:
        listed = await self._store.list_stored_credentials()
        return codec.encode_list(listed)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Pick the error to answer a batch with: the first that a driver raised on purpose."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((leaf for leaf in leaves if isinstance(leaf, DriverError)), leaves[0])


def service(store: CredentialStore[object], *, require_handshake: bool = False) -> Service:
    """Bind the five methods."""
    methods = _Methods(store, require_handshake=require_handshake)
    return Service(
        name=names.CREDENTIAL_STORE,
        methods=[
            Unary(
                name="GetCapabilities",
                request=wire.GetCredentialDriverCapabilitiesRequest,
                answer=methods.get_capabilities,
            ),
            Unary(
                name="StoreCredential",
                request=wire.StoreCredentialRequest,
                answer=methods.store,
                about=lambda request: request.credential_key,
            ),
            Unary(
                name="ResolveCredentials",
                request=wire.ResolveCredentialsRequest,
                answer=methods.resolve,
            ),
            Unary(
                name="DeleteCredential",
                request=wire.DeleteCredentialRequest,
                answer=methods.delete,
                about=lambda request: request.credential_key,
            ),
            Unary(
                name="ListCredentials", request=wire.ListCredentialsRequest, answer=methods.list_
            ),
        ],
    )
