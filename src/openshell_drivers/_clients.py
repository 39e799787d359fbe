"""The typed clients of the driver services: domain types in, domain types out, errors by status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
from anyio.lowlevel import checkpoint_if_cancelled
from google.protobuf.message import Message
from grpc import aio

from openshell_drivers._codec import credential_store as store_codec
from openshell_drivers._codec import credentials as credentials_codec
from openshell_drivers._codec import extension
from openshell_drivers._services.names import CREDENTIAL_STORE, CREDENTIALS
from openshell_drivers._wire import credential_driver_pb2 as store_wire
from openshell_drivers._wire import credentials_driver_pb2 as credentials_wire
from openshell_drivers._wire.datamodel_pb2 import CredentialHandle
from openshell_drivers.credential_store import (
    ListedCredential,
    StoreCapabilities,
    StoredCredential,
)
from openshell_drivers.credentials import Credential, CredentialInfo, CredentialRef
from openshell_drivers.errors import DriverError, error_for
from openshell_drivers.secrets import Secret

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class Caller:
    """One channel, and how a call over it fails."""

    def __init__(self, channel: aio.Channel, timeout: float) -> None:
        self._channel = channel
        self._timeout = timeout

    async def unary(
        self, service: str, method: str, request: RequestT, response: type[ResponseT]
    ) -> ResponseT:
        call = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            return await call(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise _translate(error) from None  # its text repeats metadata and peer
        except asyncio.CancelledError:
            await checkpoint_if_cancelled()  # grpcio's own is not known to anyio's scopes
            raise

    async def stream(
        self, service: str, method: str, request: RequestT, response: type[ResponseT]
    ) -> AsyncGenerator[ResponseT, None]:
        call = self._channel.unary_stream(
            f"/{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )(request)
        try:
            async for message in call:
                yield message
        except grpc.RpcError as error:
            raise _translate(error) from None
        except asyncio.CancelledError:
            await checkpoint_if_cancelled()
            raise
        finally:
            call.cancel()


def _translate(error: grpc.RpcError) -> DriverError:
    code = error.code() if isinstance(error, aio.AioRpcError) else grpc.StatusCode.UNKNOWN
    details = (error.details() if isinstance(error, aio.AioRpcError) else None) or code.name
    return error_for(code.name, details)


class CredentialsClient:
    """Calls `CredentialsDriver`. Every method raises the `DriverError` of the answer's status."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def resolve_credential(self, name: str) -> Credential:
        """Get the token for a name."""
        response = await self._caller.unary(
            CREDENTIALS,
            "ResolveCredential",
            credentials_codec.encode_ref(CredentialRef(name=name)),
            credentials_wire.ResolveCredentialResponse,
        )
        return credentials_codec.decode_credential(response)

    async def list_credentials(self) -> tuple[CredentialInfo, ...]:
        """List the names that can be resolved."""
        response = await self._caller.unary(
            CREDENTIALS,
            "ListCredentials",
            credentials_wire.ListCredentialsRequest(),
            credentials_wire.ListCredentialsResponse,
        )
        return credentials_codec.decode_list(response)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRef:
    """A stored value as a gateway names it: the handle and whose it is."""

    handle: str
    workspace: str
    provider: str
    provider_id: str
    key: str


class CredentialStoreClient:
    """Calls `CredentialDriver`. Every method raises the `DriverError` of the answer's status."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get_capabilities(self) -> StoreCapabilities:
        """Shake hands as a 0.1.x gateway does, and get what the driver says of itself."""
        response = await self._caller.unary(
            CREDENTIAL_STORE,
            "GetCapabilities",
            store_wire.GetCredentialDriverCapabilitiesRequest(
                gateway=extension.metadata(store_codec.FAMILY, "client", "1")
            ),
            store_wire.GetCredentialDriverCapabilitiesResponse,
        )
        return store_codec.decode_capabilities(response)

    async def store_credential(
        self,
        value: Secret,
        *,
        workspace: str,
        provider: str,
        provider_id: str,
        key: str,
        object_id: str = "",
    ) -> StoredRef:
        """Store a new value and get the reference to it."""
        ref = StoredRef(
            handle="", workspace=workspace, provider=provider, provider_id=provider_id, key=key
        )
        return await self._store(ref, value, object_id)

    async def overwrite_credential(self, ref: StoredRef, value: Secret) -> StoredRef:
        """Replace a stored value; the old handle leads to the new one (CREDU-STORE-02)."""
        return await self._store(ref, value, "")

    async def _store(self, ref: StoredRef, value: Secret, object_id: str) -> StoredRef:
        existing = CredentialHandle(handle=ref.handle) if ref.handle else None
        response = await self._caller.unary(
            CREDENTIAL_STORE,
            "StoreCredential",
            store_wire.StoreCredentialRequest(
                provider=ref.provider,
                credential_key=ref.key,
                value=value.reveal(),
                existing_handle=existing,
                workspace=ref.workspace,
                provider_id=ref.provider_id,
                object_id=object_id,
            ),
            store_wire.StoreCredentialResponse,
        )
        return StoredRef(
            handle=response.handle.handle,
            workspace=ref.workspace,
            provider=ref.provider,
            provider_id=ref.provider_id,
            key=ref.key,
        )

    async def resolve_credentials(self, refs: Sequence[StoredRef]) -> tuple[StoredCredential, ...]:
        """Get the values of a batch, in its order. All or an error (CREDU-RES-02)."""
        ids = [f"credential-{number}" for number in range(len(refs))]
        response = await self._caller.unary(
            CREDENTIAL_STORE,
            "ResolveCredentials",
            store_wire.ResolveCredentialsRequest(
                credentials=[
                    store_wire.ResolveCredentialRequest(
                        request_id=request_id,
                        provider=ref.provider,
                        credential_key=ref.key,
                        handle=CredentialHandle(handle=ref.handle),
                        workspace=ref.workspace,
                        provider_id=ref.provider_id,
                    )
                    for request_id, ref in zip(ids, refs, strict=True)
                ]
            ),
            store_wire.ResolveCredentialsResponse,
        )
        return store_codec.decode_resolved(response, ids)

    async def delete_credential(self, ref: StoredRef) -> None:
        """Delete a value; one that is gone is no error."""
        await self._caller.unary(
            CREDENTIAL_STORE,
            "DeleteCredential",
            store_wire.DeleteCredentialRequest(
                provider=ref.provider,
                credential_key=ref.key,
                handle=CredentialHandle(handle=ref.handle),
                workspace=ref.workspace,
                provider_id=ref.provider_id,
            ),
            store_wire.DeleteCredentialResponse,
        )

    async def list_stored_credentials(self) -> tuple[ListedCredential, ...]:
        """List what is stored."""
        response = await self._caller.unary(
            CREDENTIAL_STORE,
            "ListCredentials",
            store_wire.ListCredentialsRequest(),
            store_wire.ListCredentialsResponse,
        )
        return store_codec.decode_list(response)
