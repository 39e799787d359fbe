"""What the compute wire tests share: paths, metadata of a gateway, and raw calls."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import Message
from grpc import aio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers._wire.extension_pb2 import PeerMetadata
from openshell_drivers.reference.memory import Memory, MemoryConfig
from tests.wire import gateway
from tests.wire.gateway import Gateway

COMPUTE: Final = "/openshell.compute.v1.ComputeDriver/"
CONTRACT: Final = "openshell.compute.contract"
#: more time than any answer here takes
SECONDS: Final = 30.0


def memory(**config: Any) -> Memory:
    """Make the reference driver; its sandboxes become ready at once."""
    return Memory(MemoryConfig(**{"ready_seconds": 0.0, **config}))


def peer(**changes: object) -> PeerMetadata:
    """Make the metadata of a 0.1.2 gateway, with changes."""
    lists = {"supported_capabilities": [CONTRACT], "required_capabilities": [CONTRACT]}
    return gateway.peer(**{**lists, **changes})


async def call(to: Gateway, method: str, request: Message) -> Any:
    """Call a method of the service by its name."""
    kind = getattr(wire, f"{method}Response")
    return await to.call(COMPUTE + method, request, kind)


async def create(to: Gateway, sandbox_id: str = "id-1", name: str = "box") -> None:
    request = wire.CreateSandboxRequest(sandbox=wire.DriverSandbox(id=sandbox_id, name=name))
    await call(to, "CreateSandbox", request)


def watch(to: Gateway) -> aio.UnaryStreamCall[bytes, wire.WatchSandboxesEvent]:
    """Open a watch."""
    method: aio.UnaryStreamMultiCallable[bytes, wire.WatchSandboxesEvent] = to.channel.unary_stream(
        COMPUTE + "WatchSandboxes", response_deserializer=wire.WatchSandboxesEvent.FromString
    )
    return method(b"")
