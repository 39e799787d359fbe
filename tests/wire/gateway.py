"""A peer that sends what it is told to, right or wrong, and sees the status as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from google.protobuf.message import Message
from grpc import aio

from openshell_drivers._wire import credential_driver_pb2 as store
from openshell_drivers._wire import credentials_driver_pb2 as credentials
from openshell_drivers._wire.datamodel_pb2 import CredentialHandle
from openshell_drivers._wire.extension_pb2 import PeerMetadata, ProtocolVersion

STORE: Final = "/openshell.credentials.v1.CredentialDriver/"
CREDENTIALS: Final = "/openshell.credentials.v1.CredentialsDriver/"
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, kw_only=True)
class Item:
    """A stored value as a gateway knows it."""

    key: str = "API_TOKEN"
    workspace: str = "team"
    provider: str = "github"
    provider_id: str = "0b5e"
    handle: str | None = None


class Gateway:
    """Calls over one channel. A status comes out as `grpc.aio.AioRpcError`."""

    def __init__(self, channel: aio.Channel, target: Path) -> None:
        self.channel = channel
        self.target = target

    async def call(self, path: str, request: Message, response: type[ResponseT]) -> ResponseT:
        """Call any method with any message."""
        call = self.channel.unary_unary(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return await call(request, timeout=30)

    def raw(self, path: str) -> aio.UnaryUnaryMultiCallable[bytes, bytes]:
        """Make a method that takes and gives bytes."""
        return self.channel.unary_unary(path)

    async def capabilities(
        self, peer: PeerMetadata | None = None
    ) -> store.GetCredentialDriverCapabilitiesResponse:
        return await self.call(
            STORE + "GetCapabilities",
            store.GetCredentialDriverCapabilitiesRequest(gateway=peer),
            store.GetCredentialDriverCapabilitiesResponse,
        )

    async def put(self, item: Item, value: str, *, object_id: str = "") -> Item:
        """Store a value, over the old one if the item has a handle."""
        existing = None if item.handle is None else _handle(item)
        response = await self.call(
            STORE + "StoreCredential",
            store.StoreCredentialRequest(
                provider=item.provider,
                credential_key=item.key,
                value=value,
                existing_handle=existing,
                workspace=item.workspace,
                provider_id=item.provider_id,
                object_id=object_id,
            ),
            store.StoreCredentialResponse,
        )
        return replace(item, handle=response.handle.handle)

    async def resolve(
        self, items: Sequence[Item], ids: Sequence[str] | None = None
    ) -> store.ResolveCredentialsResponse:
        ids = [f"credential-{n}" for n in range(len(items))] if ids is None else ids
        return await self.call(
            STORE + "ResolveCredentials",
            store.ResolveCredentialsRequest(
                credentials=[
                    store.ResolveCredentialRequest(
                        request_id=request_id,
                        provider=item.provider,
                        credential_key=item.key,
                        handle=_handle(item),
                        workspace=item.workspace,
                        provider_id=item.provider_id,
                    )
                    for request_id, item in zip(ids, items, strict=True)
                ]
            ),
            store.ResolveCredentialsResponse,
        )

    async def value(self, item: Item) -> str:
        """Resolve one item."""
        response = await self.resolve([item])
        return response.credentials[0].value

    async def delete(self, item: Item) -> None:
        await self.call(
            STORE + "DeleteCredential",
            store.DeleteCredentialRequest(
                provider=item.provider,
                credential_key=item.key,
                handle=_handle(item),
                workspace=item.workspace,
                provider_id=item.provider_id,
            ),
            store.DeleteCredentialResponse,
        )

    async def list_stored(self) -> store.ListCredentialsResponse:
        return await self.call(
            STORE + "ListCredentials", store.ListCredentialsRequest(), store.ListCredentialsResponse
        )

    async def token(self, name: str) -> credentials.ResolveCredentialResponse:
        return await self.call(
            CREDENTIALS + "ResolveCredential",
            credentials.ResolveCredentialRequest(name=name),
            credentials.ResolveCredentialResponse,
        )

    async def names(self) -> credentials.ListCredentialsResponse:
        return await self.call(
            CREDENTIALS + "ListCredentials",
            credentials.ListCredentialsRequest(),
            credentials.ListCredentialsResponse,
        )


def _handle(item: Item) -> CredentialHandle:
    assert item.handle is not None, "the item was never stored"
    return CredentialHandle(driver="any", handle=item.handle)


@asynccontextmanager
async def dial(path: Path, authority: str = "[::]:50051") -> AsyncIterator[Gateway]:
    """Open a channel as the gateways do."""
    options = [
        ("grpc.default_authority", authority),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with aio.insecure_channel(f"unix:{path}", options=options) as channel:
        yield Gateway(channel, path)


def peer(**changes: object) -> PeerMetadata:
    """Make the metadata of a 0.1.2 gateway, with changes."""
    metadata = PeerMetadata(
        protocol_version=ProtocolVersion(major=1, minor=0),
        implementation_name="openshell/gateway",
        implementation_version="0.1.2",
        supported_capabilities=["openshell.credentials.contract"],
        required_capabilities=["openshell.credentials.contract"],
    )
    for name, value in changes.items():
        metadata.ClearField(name)  # type: ignore[arg-type]  # the names are the test's
        metadata.MergeFrom(PeerMetadata(**{name: value}))  # type: ignore[arg-type]  # as above
    return metadata


async def refusal(call: Awaitable[object]) -> tuple[str, str]:
    """Await a call that must fail, and give its code's name and its message."""
    try:
        await call
    except aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    raise AssertionError("the call was answered")
