"""`CredentialsDriver`, served from a driver."""

from __future__ import annotations

from collections.abc import Iterable

from openshell_drivers._checks import returned
from openshell_drivers._codec import credentials as codec
from openshell_drivers._rpc import Service, Unary
from openshell_drivers._services import names
from openshell_drivers._wire import credentials_driver_pb2 as wire
from openshell_drivers.credentials import Credential, CredentialsDriver


def service(driver: CredentialsDriver[object]) -> Service:
    """Bind the two methods."""

    async def resolve(request: wire.ResolveCredentialRequest) -> wire.ResolveCredentialResponse:
        ref = codec.decode_ref(request)
        return codec.encode_credential(await returned(Credential, driver.resolve_credential, ref))

    async def list_(request: wire.ListCredentialsRequest) -> wire.ListCredentialsResponse:
        return codec.encode_list(await returned(Iterable, driver.list_credentials))

    return Service(
        name=names.CREDENTIALS,
        methods=[
            Unary(
                name="ResolveCredential",
                request=wire.ResolveCredentialRequest,
                answer=resolve,
                about=lambda request: request.name,
            ),
            Unary(name="ListCredentials", request=wire.ListCredentialsRequest, answer=list_),
        ],
    )
