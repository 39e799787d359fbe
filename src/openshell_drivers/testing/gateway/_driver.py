"""`ComputeCalls`: the compute driver as the gateway sees it. No deadline on any call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from google.protobuf.message import DecodeError, Message

from openshell_drivers._codec import compute as codec
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.compute import ComputeCapabilities, Sandbox, SandboxRef, WatchEvent
from openshell_drivers.errors import DriverError, Internal, Unimplemented
from openshell_drivers.secrets import Secret
from openshell_drivers.testing.gateway._calls import Calls
from openshell_drivers.testing.gateway._handshake import metadata
from openshell_drivers.testing.gateway._preset import Preset
from openshell_drivers.testing.gateway._tongue import check_times


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a driver said of itself at the gateway's start."""

    capabilities: ComputeCapabilities
    message: wire.GetCapabilitiesResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Kick:
    """What a start carries beside the sandbox."""

    launch: Secret | None = None
    generation: str = ""
    identity: str = ""


class ComputeCalls:
    """Every method raises the `DriverError` of the answer's status."""

    def __init__(self, calls: Calls, preset: Preset) -> None:
        self._calls = calls
        self._preset = preset

    async def get_capabilities(self) -> Introduction:
        """Ask what the driver is, saying who asks where the line does."""
        request = wire.GetCapabilitiesRequest(gateway=metadata(self._preset, codec.FAMILY))
        message = await self._calls.ask("GetCapabilities", request, wire.GetCapabilitiesResponse)
        return Introduction(capabilities=codec.decode_capabilities(message), message=message)

    async def get_listener_requirements(self) -> list[wire.GatewayListenerRequirement]:
        """Ask where to listen; a driver that does not know the question needs nothing."""
        try:
            message = await self._calls.ask(
                "GetGatewayListenerRequirements",
                wire.GetGatewayListenerRequirementsRequest(),
                wire.GetGatewayListenerRequirementsResponse,
            )
        except Unimplemented:
            return []
        return list(message.requirements)

    async def validate(self, sandbox: wire.DriverSandbox) -> None:
        """Ask whether a create would be refused."""
        request = wire.ValidateSandboxCreateRequest(sandbox=sandbox)
        await self._calls.ask("ValidateSandboxCreate", request, wire.ValidateSandboxCreateResponse)

    async def create(self, sandbox: wire.DriverSandbox) -> str:
        """Create, and get the runtime identity."""
        request = wire.CreateSandboxRequest(sandbox=sandbox)
        answer = await self._calls.ask("CreateSandbox", request, wire.CreateSandboxResponse)
        return answer.runtime_identity

    async def get(self, ref: SandboxRef) -> Sandbox | None:
        """Observe one sandbox; None says that it is gone (contract 3.7)."""
        request = wire.GetSandboxRequest(sandbox_id=ref.id, name=ref.name)
        try:
            answer = await self._calls.ask("GetSandbox", request, wire.GetSandboxResponse)
        except DriverError as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        if not answer.HasField("sandbox"):
            return None
        if answer.sandbox.id != ref.id and self._preset.line != "F":
            raise Internal("the driver answered with another sandbox")
        self._check_times(answer)
        return codec.decode_sandbox(answer.sandbox)

    async def list_all(self) -> tuple[Sandbox, ...]:
        """Observe all sandboxes."""
        answer = await self._calls.ask(
            "ListSandboxes", wire.ListSandboxesRequest(), wire.ListSandboxesResponse
        )
        return tuple(codec.decode_sandbox(each) for each in answer.sandboxes)

    async def stop(self, ref: SandboxRef) -> None:
        """Stop compute."""
        request = wire.StopSandboxRequest(sandbox_id=ref.id, name=ref.name)
        await self._calls.ask("StopSandbox", request, wire.StopSandboxResponse)

    async def start(self, ref: SandboxRef, kick: Kick) -> str:
        """Start compute again, and get the runtime identity."""
        request = wire.StartSandboxRequest(
            sandbox_id=ref.id,
            name=ref.name,
            launch_authentication=codec.encode_secret_bytes(kick.launch),
            generation_id=kick.generation,
            expected_runtime_identity=kick.identity,
        )
        answer = await self._calls.ask("StartSandbox", request, wire.StartSandboxResponse)
        return answer.runtime_identity

    async def delete(self, ref: SandboxRef) -> bool:
        """Delete; True says that a deleted event will follow."""
        request = wire.DeleteSandboxRequest(sandbox_id=ref.id, name=ref.name)
        answer = await self._calls.ask("DeleteSandbox", request, wire.DeleteSandboxResponse)
        return answer.deleted

    async def authenticate(self, credential: Secret) -> tuple[str, str]:
        """Ask whose credential this is: sandbox id and runtime identity."""
        request = wire.AuthenticateSandboxRequest(credential=credential.reveal())
        answer = await self._calls.ask(
            "AuthenticateSandbox", request, wire.AuthenticateSandboxResponse
        )
        return answer.sandbox_id, answer.runtime_identity

    async def ensure_workspace(self, workspace: str) -> None:
        """Make room for a workspace; a driver that cannot need not (COMP-WS-01)."""
        request = wire.EnsureWorkspaceRequest(workspace=workspace)
        await self._optional("EnsureWorkspace", request, wire.EnsureWorkspaceResponse)

    async def delete_workspace(self, workspace: str) -> None:
        """Remove that room."""
        request = wire.DeleteWorkspaceRequest(workspace=workspace)
        await self._optional("DeleteWorkspace", request, wire.DeleteWorkspaceResponse)

    async def _optional(self, method: str, request: Message, answer: type[Message]) -> None:
        try:
            await self._calls.ask(method, request, answer)
        except Unimplemented:
            return

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Callable[[], Awaitable[list[WatchEvent] | None]]]:
        """Open the watch; reading gives the next event in a list, an empty one where the driver
        sent an empty payload, and None at the end."""
        async with self._calls.opened(
            "WatchSandboxes", wire.WatchSandboxesRequest(), wire.WatchSandboxesEvent
        ) as read:

            async def read_event() -> list[WatchEvent] | None:
                message = await read()
                if message is None:
                    return None
                self._check_times(message)
                event = codec.decode_event(message)
                return [] if event is None else [event]

            yield read_event

    def _check_times(self, message: Message) -> None:
        if not self._preset.checks_times:
            return
        try:
            check_times(message)
        except DecodeError:
            raise Internal("the driver's answer holds a time that is none") from None
