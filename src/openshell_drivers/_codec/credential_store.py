"""Domain <-> wire for `CredentialStore` (the upstream lines)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from openshell_drivers._codec import extension
from openshell_drivers._codec.handles import Owner, new_slot, open_handle
from openshell_drivers._codec.times import (
    from_milliseconds,
    from_timestamp,
    to_milliseconds,
    to_timestamp,
)
from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers._wire.datamodel_pb2 import CredentialHandle
from openshell_drivers.credential_store import (
    CredentialSlot,
    ListedCredential,
    StoreCapabilities,
    StoredCredential,
)
from openshell_drivers.errors import FailedPrecondition, Internal, InvalidArgument
from openshell_drivers.secrets import Secret

FAMILY = "credentials"

_Owned = wire.StoreCredentialRequest | wire.ResolveCredentialRequest | wire.DeleteCredentialRequest


def encode_capabilities(
    capabilities: StoreCapabilities,
) -> wire.GetCredentialDriverCapabilitiesResponse:
    """Write the answer that all lines accept (CREDU-CAP-01, CREDU01-NEG-01)."""
    return wire.GetCredentialDriverCapabilitiesResponse(
        driver_name=capabilities.driver_name,
        driver_version=capabilities.driver_version,
        backend_kind=capabilities.backend_kind,
        supports_list=capabilities.supports_list,
        supports_expires_at=capabilities.supports_expires_at,
        extension=extension.metadata(FAMILY, capabilities.driver_name, capabilities.driver_version),
    )


def decode_capabilities(
    message: wire.GetCredentialDriverCapabilitiesResponse,
) -> StoreCapabilities:
    return StoreCapabilities(
        driver_name=message.driver_name,
        driver_version=message.driver_version,
        backend_kind=message.backend_kind,
        supports_list=message.supports_list,
        supports_expires_at=message.supports_expires_at,
    )


def _owner(message: _Owned) -> Owner:
    if not message.provider:
        raise InvalidArgument("provider is empty")
    if not message.credential_key:
        raise InvalidArgument("credential_key is empty")
    return Owner(
        workspace=message.workspace,
        provider=message.provider,
        provider_id=message.provider_id,
        key=message.credential_key,
    )


def decode_store(message: wire.StoreCredentialRequest) -> tuple[CredentialSlot, Secret, bool]:
    """Read a store: the slot, the value, and whether the slot is new."""
    owner = _owner(message)
    object_id = message.object_id or owner.provider_id  # CREDU-STORE-04
    value = Secret(message.value)
    if message.HasField("existing_handle"):
        slot = open_handle(message.existing_handle.handle, owner, object_id)
        return slot, value, False
    return new_slot(owner, object_id), value, True


def encode_stored(slot: CredentialSlot, driver_name: str) -> wire.StoreCredentialResponse:
    handle = CredentialHandle(driver=driver_name, handle=slot.handle)
    return wire.StoreCredentialResponse(handle=handle)


def decode_slot(
    message: wire.ResolveCredentialRequest | wire.DeleteCredentialRequest,
) -> CredentialSlot:
    """Find the slot of a resolve or a delete; ``handle.driver`` is not looked at (CREDU-HND-01)."""
    if not message.HasField("handle"):
        raise InvalidArgument("handle is missing")
    return open_handle(message.handle.handle, _owner(message))


def decode_batch(message: wire.ResolveCredentialsRequest) -> list[tuple[str, CredentialSlot]]:
    """Read a batch; ids must be there and differ, since each is answered once (CREDU-RES-01)."""
    ids = [item.request_id for item in message.credentials]
    if not all(ids):
        raise InvalidArgument("a request_id is empty")
    if len(set(ids)) != len(ids):
        raise InvalidArgument("a request_id occurs twice")
    return [(item.request_id, decode_slot(item)) for item in message.credentials]


def encode_resolved(
    request_id: str, stored: StoredCredential, *, reports_expiry: bool
) -> wire.ResolvedCredential:
    """Write one item, with both time fields; an expired value is not sent (CREDU01-EXP-01..03)."""
    item = wire.ResolvedCredential(request_id=request_id, value=stored.value.reveal())
    if stored.expires_at is None:
        return item
    if not reports_expiry:
        raise Internal("the driver gives an expiry without declaring reports_expiry")
    if stored.expires_at <= datetime.now(UTC):
        raise FailedPrecondition("the credential has expired")
    item.expires_at_ms = to_milliseconds(stored.expires_at)
    item.expiration_time.CopyFrom(to_timestamp(stored.expires_at))
    return item


def decode_resolved(
    message: wire.ResolveCredentialsResponse, ids: Sequence[str]
) -> tuple[StoredCredential, ...]:
    """Read a batch in the order of `ids`; anything but one answer each is the driver's mistake."""
    found = {item.request_id: item for item in message.credentials}
    if len(message.credentials) != len(ids) or set(found) != set(ids):
        raise Internal("the driver did not answer every request_id exactly once")
    return tuple(
        StoredCredential(value=Secret(found[each].value), expires_at=_expiry(found[each]))
        for each in ids
    )


def _expiry(item: wire.ResolvedCredential) -> datetime | None:
    if item.HasField("expiration_time"):
        return from_timestamp(item.expiration_time)
    return from_milliseconds(item.expires_at_ms)


def encode_list(listed: Iterable[ListedCredential]) -> wire.ListCredentialsResponse:
    return wire.ListCredentialsResponse(
        credentials=[
            wire.ListedCredential(handle=each.handle, keys=each.keys, metadata=each.metadata)
            for each in listed
        ]
    )


def decode_list(message: wire.ListCredentialsResponse) -> tuple[ListedCredential, ...]:
    return tuple(
        ListedCredential(handle=each.handle, keys=tuple(each.keys), metadata=dict(each.metadata))
        for each in message.credentials
    )
