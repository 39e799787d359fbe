"""The typed client of `ComputeDriver`: domain types in, domain types out, errors by status."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from openshell_drivers._clients import Caller
from openshell_drivers._codec import compute as codec
from openshell_drivers._codec import extension
from openshell_drivers._services.names import COMPUTE
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.compute import (
    AuthenticatedSandbox,
    ComputeCapabilities,
    ListenerRequirement,
    Sandbox,
    SandboxRef,
    SandboxSpec,
    WatchEvent,
)
from openshell_drivers.errors import Internal, NotFound
from openshell_drivers.secrets import Secret


class ComputeClient:
    """Calls `ComputeDriver`. Every method raises the `DriverError` of the answer's status."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get_capabilities(self) -> ComputeCapabilities:
        """Shake hands as a 0.1.x gateway does, and get what the driver says of itself."""
        response = await self._caller.unary(
            COMPUTE,
            "GetCapabilities",
            wire.GetCapabilitiesRequest(gateway=extension.metadata(codec.FAMILY, "client", "1")),
            wire.GetCapabilitiesResponse,
        )
        return codec.decode_capabilities(response)

    async def get_gateway_listener_requirements(self) -> tuple[ListenerRequirement, ...]:
        """Ask where a gateway of the 0.0.x line has to listen."""
        response = await self._caller.unary(
            COMPUTE,
            "GetGatewayListenerRequirements",
            wire.GetGatewayListenerRequirementsRequest(),
            wire.GetGatewayListenerRequirementsResponse,
        )
        return tuple(codec.decode_requirement(each) for each in response.requirements)

    async def authenticate_sandbox(self, credential: Secret) -> AuthenticatedSandbox:
        """Find the sandbox that a platform credential belongs to."""
        response = await self._caller.unary(
            COMPUTE,
            "AuthenticateSandbox",
            wire.AuthenticateSandboxRequest(credential=credential.reveal()),
            wire.AuthenticateSandboxResponse,
        )
        return AuthenticatedSandbox(
            sandbox_id=response.sandbox_id, runtime_identity=response.runtime_identity
        )

    async def validate_sandbox_create(self, spec: SandboxSpec) -> None:
        """Ask whether a create would be refused, without any effect."""
        await self._caller.unary(
            COMPUTE,
            "ValidateSandboxCreate",
            wire.ValidateSandboxCreateRequest(sandbox=codec.encode_sandbox(spec)),
            wire.ValidateSandboxCreateResponse,
        )

    async def create_sandbox(self, spec: SandboxSpec) -> str:
        """Create, and get the runtime identity; empty if the driver gives none."""
        response = await self._caller.unary(
            COMPUTE,
            "CreateSandbox",
            wire.CreateSandboxRequest(sandbox=codec.encode_sandbox(spec)),
            wire.CreateSandboxResponse,
        )
        return response.runtime_identity

    async def get_sandbox(self, ref: SandboxRef) -> Sandbox:
        """Observe one sandbox. `NotFound` also for an answer without one, `Internal` for another
        sandbox than the one asked for: gateways read them so (COMP-GET-01, COMP01-STAT-05)."""
        response = await self._caller.unary(
            COMPUTE,
            "GetSandbox",
            wire.GetSandboxRequest(sandbox_id=ref.id, name=ref.name),
            wire.GetSandboxResponse,
        )
        if not response.HasField("sandbox"):
            raise NotFound("the driver answered without a sandbox")
        if response.sandbox.id != ref.id:
            raise Internal("the driver answered with another sandbox")
        return codec.decode_sandbox(response.sandbox)

    async def list_sandboxes(self) -> tuple[Sandbox, ...]:
        """Observe all sandboxes."""
        response = await self._caller.unary(
            COMPUTE, "ListSandboxes", wire.ListSandboxesRequest(), wire.ListSandboxesResponse
        )
        return tuple(codec.decode_sandbox(each) for each in response.sandboxes)

    async def stop_sandbox(self, ref: SandboxRef) -> None:
        """Stop compute and keep data."""
        await self._caller.unary(
            COMPUTE,
            "StopSandbox",
            wire.StopSandboxRequest(sandbox_id=ref.id, name=ref.name),
            wire.StopSandboxResponse,
        )

    async def start_sandbox(
        self,
        ref: SandboxRef,
        *,
        launch_authentication: Secret | None = None,
        generation_id: str = "",
        expected_runtime_identity: str = "",
    ) -> str:
        """Start again, and get the runtime identity; empty if the driver gives none."""
        response = await self._caller.unary(
            COMPUTE,
            "StartSandbox",
            wire.StartSandboxRequest(
                sandbox_id=ref.id,
                name=ref.name,
                launch_authentication=codec.encode_secret_bytes(launch_authentication),
                generation_id=generation_id,
                expected_runtime_identity=expected_runtime_identity,
            ),
            wire.StartSandboxResponse,
        )
        return response.runtime_identity

    async def delete_sandbox(self, ref: SandboxRef) -> bool:
        """Delete. False says that nothing was there, and that no deleted event will follow."""
        response = await self._caller.unary(
            COMPUTE,
            "DeleteSandbox",
            wire.DeleteSandboxRequest(sandbox_id=ref.id, name=ref.name),
            wire.DeleteSandboxResponse,
        )
        return response.deleted

    async def ensure_workspace(self, workspace: str) -> None:
        """Make room for a workspace."""
        await self._caller.unary(
            COMPUTE,
            "EnsureWorkspace",
            wire.EnsureWorkspaceRequest(workspace=workspace),
            wire.EnsureWorkspaceResponse,
        )

    async def delete_workspace(self, workspace: str) -> None:
        """Remove what `ensure_workspace` made."""
        await self._caller.unary(
            COMPUTE,
            "DeleteWorkspace",
            wire.DeleteWorkspaceRequest(workspace=workspace),
            wire.DeleteWorkspaceResponse,
        )

    async def watch_sandboxes(self) -> AsyncGenerator[WatchEvent, None]:
        """Get every sandbox, then every change, until the driver ends the stream.

        Without a limit in time. Close the iterator to end the call (`contextlib.aclosing`).
        """
        stream = self._caller.stream(
            COMPUTE, "WatchSandboxes", wire.WatchSandboxesRequest(), wire.WatchSandboxesEvent
        )
        async with aclosing(stream) as messages:
            async for message in messages:
                event = codec.decode_event(message)
                if event is not None:
                    yield event
