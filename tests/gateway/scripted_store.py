"""`ScriptedStore`: both credential services on bare grpcio, good or bad on demand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc import aio

from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers._wire import credentials_driver_pb2 as named
from openshell_drivers._wire.datamodel_pb2 import CredentialHandle
from openshell_drivers._wire.extension_pb2 import PeerMetadata, ProtocolVersion
from tests.fakes.scripted_compute import Call, Stall, Status

STORE: Final = "openshell.credentials.v1.CredentialDriver"
NAMED: Final = "openshell.credentials.v1.CredentialsDriver"
CONTRACT: Final = "openshell.credentials.contract"
_REQUESTS: Final[dict[str, Any]] = {
    "GetCapabilities": wire.GetCredentialDriverCapabilitiesRequest,
    "StoreCredential": wire.StoreCredentialRequest,
    "ResolveCredentials": wire.ResolveCredentialsRequest,
    "DeleteCredential": wire.DeleteCredentialRequest,
    "ResolveCredential": named.ResolveCredentialRequest,
    "ListCredentials": named.ListCredentialsRequest,
}
Answer = Status | Stall | Message | Callable[[Any], Message | Status]


class ScriptedStore:
    """Answers each call with the next line of its script, or else as a good driver does."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.values: dict[str, str] = {}
        self.script: defaultdict[str, list[Answer]] = defaultdict(list)
        self.capabilities = wire.GetCredentialDriverCapabilitiesResponse(
            driver_name="scripted",
            driver_version="1",
            extension=PeerMetadata(
                protocol_version=ProtocolVersion(major=1),
                implementation_name="tests/scripted",
                implementation_version="1",
                supported_capabilities=[CONTRACT],
            ),
        )

    @asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        """Serve both services at the path."""
        path.parent.mkdir(exist_ok=True, parents=True)
        server = aio.server()
        for service, methods in (
            (STORE, list(_REQUESTS)[:4]),
            (NAMED, list(_REQUESTS)[4:]),
        ):
            table = {name: self._handler(name) for name in methods}
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, table)])
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)

    def asked(self, method: str) -> list[Any]:
        """The requests of a method so far."""
        return [call.request for call in self.calls if call.method == method]

    def _handler(self, method: str) -> Any:
        async def answer(raw: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
            request = _REQUESTS[method].FromString(raw)
            metadata = {str(k): str(v) for k, v in context.invocation_metadata() or ()}
            self.calls.append(Call(method, request, raw, metadata, context.time_remaining()))
            line: Any = self.script[method].pop(0) if self.script[method] else None
            if isinstance(line, Stall):
                await line.until.wait()
                line = line.then
            if line is None or callable(line):
                line = (line or getattr(self, f"_{method}"))(request)
            if isinstance(line, Status):
                await context.abort(grpc.StatusCode[line.code], line.message)
            encoded: bytes = line.SerializeToString()
            return encoded

        return grpc.unary_unary_rpc_method_handler(answer)

    def _GetCapabilities(self, request: Message) -> Message:  # noqa: N802
        return self.capabilities

    def _StoreCredential(self, request: wire.StoreCredentialRequest) -> Message:  # noqa: N802
        owner = f"{request.workspace}/{request.provider}/{request.credential_key}"
        known = request.existing_handle.handle
        handle = known or f"{owner}/{request.object_id or request.provider_id}"
        self.values[handle] = request.value
        given = CredentialHandle(driver="its own name", handle=handle, metadata={"m": "1"})
        return wire.StoreCredentialResponse(handle=given)

    def _ResolveCredentials(  # noqa: N802
        self, request: wire.ResolveCredentialsRequest
    ) -> Message | Status:
        if any(each.handle.handle not in self.values for each in request.credentials):
            return Status("NOT_FOUND", "no such value")
        return wire.ResolveCredentialsResponse(
            credentials=[
                wire.ResolvedCredential(
                    request_id=each.request_id, value=self.values[each.handle.handle]
                )
                for each in request.credentials
            ]
        )

    def _DeleteCredential(self, request: wire.DeleteCredentialRequest) -> Message:  # noqa: N802
        self.values.pop(request.handle.handle, None)
        return wire.DeleteCredentialResponse()

    def _ResolveCredential(  # noqa: N802
        self, request: named.ResolveCredentialRequest
    ) -> Message | Status:
        if request.name != "github":
            return Status("NOT_FOUND", "no such name")
        return named.ResolveCredentialResponse(token="t0ken", token_type="bearer")

    def _ListCredentials(self, request: Message) -> Message:  # noqa: N802
        info = named.CredentialInfo(name="github", scopes=["repo"])
        return named.ListCredentialsResponse(credentials=[info])
