"""The same by hand on `grpc.aio`: ``bare_fleet SOCKET WIDTH [ready]``.

Each watcher has a queue of ids, so that it gets the latest state of each; a state is encoded when
it changes. With ``ready`` the bytes stay as they were at first: what is left is the transport.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from benchmarks.targets.backend import MARKER, Backend, Record
from openshell_drivers._wire import compute_driver_pb2 as wire


class Watch:
    """What one watcher has yet to read."""

    def __init__(self, pending: dict[str, None]) -> None:
        self.pending = pending
        self.wake = asyncio.Event()

    def mark(self, sandbox_id: str) -> None:
        self.pending[sandbox_id] = None
        self.wake.set()


class Fleet:
    """The handlers, and the state of all sandboxes."""

    def __init__(self, width: int, ready: bool) -> None:
        self._backend = Backend(width)
        self._ready = ready
        self._sandboxes: dict[str, wire.DriverSandbox] = {}
        self._events: dict[str, bytes] = {}
        self._watches: set[Watch] = set()
        self._capabilities = wire.GetCapabilitiesResponse(
            driver_name="fleet", driver_version="1", default_image="none"
        )

    async def observe(self) -> None:
        for record in self._backend.all():
            self._update(record)
        async for batch in self._backend.changes():
            for record in batch:
                if not self._ready or record.id == MARKER:
                    self._update(record)
                for watch in self._watches:
                    watch.mark(record.id)

    def _update(self, record: Record) -> None:
        sandbox = encode(record)
        self._sandboxes[record.id] = sandbox
        self._events[record.id] = wire.WatchSandboxesEvent(
            sandbox=wire.WatchSandboxesSandboxEvent(sandbox=sandbox)
        ).SerializeToString()

    async def watch(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        watch = Watch(dict.fromkeys(self._events))
        self._watches.add(watch)
        try:
            while True:
                while watch.pending:
                    sandbox_id = next(iter(watch.pending))
                    del watch.pending[sandbox_id]
                    yield self._events[sandbox_id]
                watch.wake.clear()
                await watch.wake.wait()
        finally:
            self._watches.discard(watch)

    async def list_sandboxes(self, request: Any, context: Any) -> wire.ListSandboxesResponse:
        return wire.ListSandboxesResponse(sandboxes=self._sandboxes.values())

    async def ensure_workspace(self, request: Any, context: Any) -> wire.EnsureWorkspaceResponse:
        self._backend.order(request.workspace)
        return wire.EnsureWorkspaceResponse()

    async def get_capabilities(self, request: Any, context: Any) -> wire.GetCapabilitiesResponse:
        return self._capabilities

    async def create(self, request: Any, context: Any) -> wire.CreateSandboxResponse:
        return wire.CreateSandboxResponse(runtime_identity=f"memory://{request.sandbox.id}")

    def handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "openshell.compute.v1.ComputeDriver",
            {
                "WatchSandboxes": grpc.unary_stream_rpc_method_handler(self.watch),
                "ListSandboxes": _unary(self.list_sandboxes, wire.ListSandboxesRequest),
                "EnsureWorkspace": _unary(self.ensure_workspace, wire.EnsureWorkspaceRequest),
                "GetCapabilities": _unary(self.get_capabilities, wire.GetCapabilitiesRequest),
                "CreateSandbox": _unary(self.create, wire.CreateSandboxRequest),
            },
        )


def encode(record: Record) -> wire.DriverSandbox:
    stamp = Timestamp()
    stamp.FromDatetime(record.since)
    condition = wire.DriverCondition(
        type="Ready",
        status="True",
        reason="Running",
        message=record.message,
        last_transition_time=stamp.ToJsonString(),
        transition_time=stamp,
    )
    status = wire.DriverSandboxStatus(
        name=record.name, instance_id=record.instance_id, conditions=[condition]
    )
    status.fence_evidence.generation = record.generation
    status.fence_evidence.evidence_digest = record.digest
    return wire.DriverSandbox(
        id=record.id, name=record.name, workspace=record.workspace, status=status
    )


def _unary(answer: Any, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


async def main(socket: str, width: str, *flags: str) -> None:
    fleet = Fleet(int(width), "ready" in flags)
    observing = asyncio.ensure_future(fleet.observe())
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([fleet.handlers()])
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    observing.cancel()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
