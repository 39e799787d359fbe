"""`ScriptedCompute`: a compute driver on bare grpcio, good by itself and bad on demand.

Knows nothing of the SDK but the generated messages, so that it can judge the SDK's own client.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc import aio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers._wire.extension_pb2 import PeerMetadata, ProtocolVersion

SERVICE: Final = "openshell.compute.v1.ComputeDriver"
CONTRACT: Final = "openshell.compute.contract"
UNARY: Final = (
    *("GetCapabilities", "GetGatewayListenerRequirements", "AuthenticateSandbox"),
    *("ValidateSandboxCreate", "CreateSandbox", "GetSandbox", "ListSandboxes"),
    *("StopSandbox", "StartSandbox", "DeleteSandbox", "EnsureWorkspace", "DeleteWorkspace"),
)


@dataclass(frozen=True)
class Status:
    """An answer that is an error."""

    code: str
    message: str = "scripted"


@dataclass
class Stall:
    """An answer that comes when the event is set: `then`, or what a good driver says."""

    until: asyncio.Event = field(default_factory=asyncio.Event)
    then: Status | Message | None = None


Answer = Status | Stall | Message | bytes | Callable[[Any], Message]


@dataclass(frozen=True)
class Call:
    """One call as it came."""

    method: str
    request: Any
    raw: bytes
    metadata: dict[str, str]
    deadline: float | None


def condition(kind: str, status: str, reason: str = "", message: str = "") -> wire.DriverCondition:
    return wire.DriverCondition(type=kind, status=status, reason=reason, message=message)


def ready(status: str = "True", reason: str = "Running") -> wire.DriverCondition:
    return condition("Ready", status, reason)


STARTING: Final = ready("False", "Starting")
SUSPENDED: Final = condition("Suspended", "True", "Stopped")


def snapshot(
    sandbox_id: str, name: str, *conditions: wire.DriverCondition, deleting: bool = False
) -> wire.DriverSandbox:
    status = wire.DriverSandboxStatus(name=name, conditions=conditions, deleting=deleting)
    return wire.DriverSandbox(id=sandbox_id, name=name, status=status)


class ScriptedCompute:
    """Answers each call with the next line of its script, or else as a good driver does."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.sandboxes: dict[str, wire.DriverSandbox] = {}
        self.script: defaultdict[str, list[Answer]] = defaultdict(list)
        """Taken from the front, one a call."""
        self.always: dict[str, Answer] = {}
        """Where the script is at its end."""
        self.capabilities = wire.GetCapabilitiesResponse(
            driver_name="scripted",
            driver_version="1",
            default_image="image:default",
            extension=PeerMetadata(
                protocol_version=ProtocolVersion(major=1),
                implementation_name="tests/scripted",
                implementation_version="1",
                supported_capabilities=[CONTRACT],
                required_capabilities=[CONTRACT],
            ),
            resource_admission_policy="v1:{}",
        )
        self.snapshots_on_open = True
        self.headers = asyncio.Event()
        self.headers.set()
        self.identity = ""
        self.emits = True
        """Whether changes of its sandboxes come as events."""
        self._watches: list[asyncio.Queue[wire.WatchSandboxesEvent | Status | None]] = []
        self.watch_answers: list[Status] = []
        """For the next opens of the watch: refused at once."""
        self.closed_watches = 0

    @asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        """Serve at the path; what still hangs is cut off at the end."""
        path.parent.mkdir(exist_ok=True, parents=True)
        server = aio.server()
        table: dict[str, Any] = {name: self._handler(name) for name in UNARY}
        table["WatchSandboxes"] = grpc.unary_stream_rpc_method_handler(self._watch)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, table)])
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)

    def asked(self, method: str) -> list[Any]:
        """The requests of a method so far."""
        return [call.request for call in self.calls if call.method == method]

    @property
    def methods(self) -> list[str]:
        """What was called, in order, but for capabilities, lists and watches."""
        dull = {"GetCapabilities", "ListSandboxes", "WatchSandboxes"}
        return [call.method for call in self.calls if call.method not in dull]

    # The script

    def _handler(self, method: str) -> Any:
        kind = getattr(wire, f"{method}Request")

        async def answer(raw: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
            request = kind.FromString(raw)
            self._note(method, request, raw, context)
            lines = self.script[method]
            line = lines.pop(0) if lines else self.always.get(method)
            if isinstance(line, Stall):
                await line.until.wait()
                line = line.then
            if isinstance(line, Status):
                await context.abort(grpc.StatusCode[line.code], line.message)
            if isinstance(line, bytes):
                return line
            if line is None or callable(line):
                act: Callable[[Any], Any] = line or getattr(self, f"_{method}")
                line = act(request)
                if isinstance(line, Awaitable):
                    line = await line
                if isinstance(line, Status):
                    await context.abort(grpc.StatusCode[line.code], line.message)
            assert isinstance(line, Message)
            return line.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)

    def _note(
        self, method: str, request: Message, raw: bytes, context: aio.ServicerContext[Any, Any]
    ) -> None:
        metadata = {str(k): str(v) for k, v in context.invocation_metadata() or ()}
        self.calls.append(Call(method, request, raw, metadata, context.time_remaining()))

    # A good driver

    def _GetCapabilities(self, request: Message) -> Message:  # noqa: N802
        return self.capabilities

    def _GetGatewayListenerRequirements(self, request: Message) -> Message:  # noqa: N802
        return wire.GetGatewayListenerRequirementsResponse()

    def _AuthenticateSandbox(self, request: Message) -> Answer:  # noqa: N802
        return Status("UNIMPLEMENTED")

    def _ValidateSandboxCreate(self, request: Message) -> Message:  # noqa: N802
        return wire.ValidateSandboxCreateResponse()

    def _CreateSandbox(self, request: wire.CreateSandboxRequest) -> Message:  # noqa: N802
        self.show(request.sandbox.id, request.sandbox.name, STARTING)
        return wire.CreateSandboxResponse(runtime_identity=self.identity)

    def _GetSandbox(self, request: wire.GetSandboxRequest) -> Answer:  # noqa: N802
        found = self.sandboxes.get(request.sandbox_id)
        return Status("NOT_FOUND") if found is None else wire.GetSandboxResponse(sandbox=found)

    def _ListSandboxes(self, request: Message) -> Message:  # noqa: N802
        return wire.ListSandboxesResponse(sandboxes=self.sandboxes.values())

    def _StopSandbox(self, request: wire.StopSandboxRequest) -> Answer:  # noqa: N802
        if request.sandbox_id not in self.sandboxes:
            return Status("NOT_FOUND")
        self.show(request.sandbox_id, request.name, SUSPENDED)
        return wire.StopSandboxResponse()

    def _StartSandbox(self, request: wire.StartSandboxRequest) -> Answer:  # noqa: N802
        if request.sandbox_id not in self.sandboxes:
            return Status("NOT_FOUND")
        self.show(request.sandbox_id, request.name, STARTING)
        return wire.StartSandboxResponse(runtime_identity=self.identity)

    def _DeleteSandbox(self, request: wire.DeleteSandboxRequest) -> Message:  # noqa: N802
        there = self.sandboxes.pop(request.sandbox_id, None) is not None
        if there and self.emits:
            self.emit_deleted(request.sandbox_id)
        return wire.DeleteSandboxResponse(deleted=there)

    def _EnsureWorkspace(self, request: Message) -> Message:  # noqa: N802
        return wire.EnsureWorkspaceResponse()

    def _DeleteWorkspace(self, request: Message) -> Message:  # noqa: N802
        return wire.DeleteWorkspaceResponse()

    # The watch

    async def _watch(self, raw: bytes, context: aio.ServicerContext[bytes, bytes]) -> None:
        self._note("WatchSandboxes", wire.WatchSandboxesRequest.FromString(raw), raw, context)
        if self.watch_answers:
            status = self.watch_answers.pop(0)
            await context.abort(grpc.StatusCode[status.code], status.message)
        queue: asyncio.Queue[wire.WatchSandboxesEvent | Status | None] = asyncio.Queue()
        try:
            await self.headers.wait()
            await context.send_initial_metadata(())
            for sandbox in self.sandboxes.values() if self.snapshots_on_open else ():
                queue.put_nowait(_seen(sandbox))
            self._watches.append(queue)
            while isinstance(item := await queue.get(), wire.WatchSandboxesEvent):
                await context.write(item.SerializeToString())
            if isinstance(item, Status):
                await context.abort(grpc.StatusCode[item.code], item.message)
        finally:
            self.closed_watches += 1
            if queue in self._watches:
                self._watches.remove(queue)

    @property
    def watchers(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    def emit(self, event: wire.WatchSandboxesEvent) -> None:
        """Send an event to all watchers."""
        for queue in self._watches:
            queue.put_nowait(event)

    def end_watches(self, status: Status | None = None) -> None:
        """End all watches, with OK or with a status."""
        for queue in self._watches:
            queue.put_nowait(status)

    def show(
        self,
        sandbox_id: str,
        name: str,
        *conditions: wire.DriverCondition,
        deleting: bool = False,
    ) -> None:
        """Be in a state, and say so."""
        self.sandboxes[sandbox_id] = snapshot(sandbox_id, name, *conditions, deleting=deleting)
        if self.emits:
            self.emit(_seen(self.sandboxes[sandbox_id]))

    def emit_snapshot(self, sandbox: wire.DriverSandbox) -> None:
        """Send a snapshot that is not what it keeps."""
        self.emit(_seen(sandbox))

    def emit_deleted(self, sandbox_id: str) -> None:
        self.emit(
            wire.WatchSandboxesEvent(deleted=wire.WatchSandboxesDeletedEvent(sandbox_id=sandbox_id))
        )

    def emit_happening(self, sandbox_id: str, reason: str, **metadata: str) -> None:
        event = wire.DriverPlatformEvent(
            reason=reason, type="Normal", message="m", timestamp_ms=1000, metadata=metadata
        )
        event.event_time.FromMilliseconds(1000)
        self.emit(
            wire.WatchSandboxesEvent(
                platform_event=wire.WatchSandboxesPlatformEvent(sandbox_id=sandbox_id, event=event)
            )
        )


def _seen(sandbox: wire.DriverSandbox) -> wire.WatchSandboxesEvent:
    return wire.WatchSandboxesEvent(sandbox=wire.WatchSandboxesSandboxEvent(sandbox=sandbox))
