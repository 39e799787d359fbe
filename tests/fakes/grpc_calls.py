"""Plain gRPC calls to a driver, with none of the SDK's client between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from openshell_drivers._services.names import CREDENTIALS, HEALTH
from openshell_drivers._wire.credentials_driver_pb2 import (
    ResolveCredentialRequest,
    ResolveCredentialResponse,
)
from openshell_drivers._wire.health_pb2 import HealthCheckRequest, HealthCheckResponse

RESOLVE = f"/{CREDENTIALS}/ResolveCredential"
CHECK = f"/{HEALTH}/Check"
WATCH = f"/{HEALTH}/Watch"

Watching = aio.UnaryStreamCall[bytes, HealthCheckResponse]

_OPTIONS = [
    ("grpc.default_authority", "localhost"),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


def channel(path: Path) -> aio.Channel:
    return aio.insecure_channel(f"unix:{path}", options=_OPTIONS)


def blocking_channel(path: Path) -> grpc.Channel:
    return grpc.insecure_channel(f"unix:{path}", options=_OPTIONS)


def resolve(over: aio.Channel, name: str, timeout: float | None = None) -> Any:
    """Start a call; await it for the answer."""
    method: Any = over.unary_unary(
        RESOLVE, response_deserializer=ResolveCredentialResponse.FromString
    )
    return method(ResolveCredentialRequest(name=name).SerializeToString(), timeout=timeout)


def watch(over: aio.Channel, service: str = "") -> Watching:
    method: Any = over.unary_stream(WATCH, response_deserializer=HealthCheckResponse.FromString)
    call: Watching = method(HealthCheckRequest(service=service).SerializeToString())
    return call


async def check(over: aio.Channel, service: str = "") -> int:
    method: Any = over.unary_unary(CHECK, response_deserializer=HealthCheckResponse.FromString)
    answer = await method(HealthCheckRequest(service=service).SerializeToString())
    return int(answer.status)


async def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """Await a call that must fail, and give its status."""
    try:
        await call
    except aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError("the call succeeded")


async def refused(over: aio.Channel) -> None:
    """Call until the driver refuses, since it is shutting down."""
    code = grpc.StatusCode.OK
    while code != grpc.StatusCode.UNAVAILABLE:
        code = await resolve(over, "quick", timeout=5).code()


async def end_of(watching: Watching) -> tuple[list[HealthCheckResponse], grpc.StatusCode]:
    """Read a stream to its end."""
    messages: list[HealthCheckResponse] = []
    try:
        while isinstance(message := await watching.read(), HealthCheckResponse):
            messages.append(message)
    except aio.AioRpcError as error:
        return messages, error.code()
    return messages, await watching.code()
