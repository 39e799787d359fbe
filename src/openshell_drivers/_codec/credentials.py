"""Domain <-> wire for `CredentialsDriver` (the kagenti line)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from openshell_drivers._codec.times import from_milliseconds, to_milliseconds
from openshell_drivers._faults import WrongType
from openshell_drivers._wire import credentials_driver_pb2 as wire
from openshell_drivers.credentials import Credential, CredentialInfo, CredentialRef
from openshell_drivers.errors import Internal, InvalidArgument, Unavailable
from openshell_drivers.secrets import Secret


def decode_ref(message: wire.ResolveCredentialRequest) -> CredentialRef:
    """Read a request; an empty name is the caller's mistake (CREDF-RES-02)."""
    if not message.name:
        raise InvalidArgument("name is empty")
    return CredentialRef(name=message.name)


def encode_ref(ref: CredentialRef) -> wire.ResolveCredentialRequest:
    return wire.ResolveCredentialRequest(name=ref.name)


def encode_credential(credential: Credential) -> wire.ResolveCredentialResponse:
    """Write an answer; an expired token is not sent (CREDF-RES-03)."""
    if credential.expires_at is not None and credential.expires_at <= datetime.now(UTC):
        raise Unavailable("the credential has expired")
    return wire.ResolveCredentialResponse(
        token=credential.token.reveal(),
        expires_at_ms=to_milliseconds(credential.expires_at),
        token_type=credential.token_type,
    )


def decode_credential(message: wire.ResolveCredentialResponse) -> Credential:
    """Read an answer; one without a token or a type is the driver's mistake."""
    if not message.token or not message.token_type.strip():
        raise Internal("the driver answered without a token or its type")
    return Credential(
        token=Secret(message.token),
        expires_at=from_milliseconds(message.expires_at_ms),
        token_type=message.token_type,
    )


def encode_list(infos: Iterable[CredentialInfo]) -> wire.ListCredentialsResponse:
    """Write the list sorted by name; a name twice is the driver's mistake (CREDF-LIST-01)."""
    found = list(infos)
    for info in found:
        if not isinstance(info, CredentialInfo):
            raise WrongType(f"list_credentials gave a {type(info).__name__}, not a CredentialInfo")
    ordered = sorted(found, key=lambda info: info.name)
    if len({info.name for info in ordered}) != len(ordered):
        raise Internal("the driver lists a credential twice")
    return wire.ListCredentialsResponse(
        credentials=[wire.CredentialInfo(name=i.name, scopes=i.scopes) for i in ordered]
    )


def decode_list(message: wire.ListCredentialsResponse) -> tuple[CredentialInfo, ...]:
    return tuple(
        CredentialInfo(name=info.name, scopes=tuple(info.scopes)) for info in message.credentials
    )
