"""What a target serves, found by asking each service the smallest question it has."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from openshell_drivers._services.names import COMPUTE, CREDENTIAL_STORE, CREDENTIALS
from openshell_drivers._wire import compute_driver_pb2 as compute
from openshell_drivers._wire import credential_driver_pb2 as store
from openshell_drivers._wire import credentials_driver_pb2 as credentials
from openshell_drivers.conformance._caller import SILENT, Caller, Transcript, channel_to
from openshell_drivers.conformance._checks import ServiceName
from openshell_drivers.conformance._instances import Instance, TargetNotReady
from openshell_drivers.testing.gateway import PRESETS
from openshell_drivers.testing.gateway._handshake import metadata

_WAIT: Final = 10.0


class Found:
    """The driver as it introduces itself."""

    def __init__(self) -> None:
        self.services: list[ServiceName] = []
        self.name = ""
        self.version = ""
        self.notes: list[str] = []


async def detect(instance: Instance) -> Found:
    """Ask. Raises `TargetNotReady` if nothing answers."""
    newest = PRESETS["0.1-latest"]
    channel = channel_to(instance.socket, newest.authority)
    transcript = Transcript(lambda text: text)
    found = Found()
    try:
        one = Caller(channel, COMPUTE, newest, transcript)
        request = compute.GetCapabilitiesRequest(gateway=metadata(newest, "compute"))
        deadline = time.monotonic() + _WAIT
        while True:
            reply = await one.ask(
                "GetCapabilities", request, compute.GetCapabilitiesResponse, patience=_WAIT
            )
            if reply.code != "UNAVAILABLE" or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.05)
        if reply.code in {"UNAVAILABLE", SILENT}:
            raise TargetNotReady(f"the socket accepts, but {reply}" + instance.tail_text())
        _take(found, "compute", reply.code, reply.answer)
        two = Caller(channel, CREDENTIAL_STORE, newest, transcript)
        asked = store.GetCredentialDriverCapabilitiesRequest(
            gateway=metadata(newest, "credentials")
        )
        about = await two.ask(
            "GetCapabilities", asked, store.GetCredentialDriverCapabilitiesResponse, patience=_WAIT
        )
        _take(found, "credential-store", about.code, about.answer)
        three = Caller(channel, CREDENTIALS, PRESETS["fork-mvp"], transcript)
        # An empty name is refused by every driver, and served by none.
        named = credentials.ResolveCredentialRequest(name="")
        tried = await three.ask(
            "ResolveCredential", named, credentials.ResolveCredentialResponse, patience=_WAIT
        )
        _take(found, "credentials", tried.code, None)
    finally:
        await channel.close(None)
    return found


def _take(
    found: Found,
    service: ServiceName,
    code: str,
    about: compute.GetCapabilitiesResponse | store.GetCredentialDriverCapabilitiesResponse | None,
) -> None:
    if code == "UNIMPLEMENTED":
        return
    found.services.append(service)
    if about is not None and not found.name:
        found.name, found.version = about.driver_name, about.driver_version
