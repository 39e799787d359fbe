"""`ComputeCalls`: the unary RPCs of a compute driver, asked as a gateway of the line asks them."""

from __future__ import annotations

import time
from typing import Any, Final

import anyio

from openshell_drivers._services.names import COMPUTE
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import PATIENCE, Caller, Reply
from openshell_drivers.conformance._outcomes import Blocked
from openshell_drivers.conformance.benches._compute_requests import ComputeRequests
from openshell_drivers.testing.gateway._handshake import metadata

Created = Reply[wire.CreateSandboxResponse]
Observed = Reply[wire.GetSandboxResponse]
#: What is told where a driver stops sandboxes and does not start them: once is enough.
_JUDGES_START: Final = ("COMP-START-03", "COMP-CAP-04")
#: How long it is waited for room on a platform that others fill.
_ROOM: Final = 15.0
_SMALL: Final = 32


class ComputeCalls(ComputeRequests):
    """The RPCs, as they come out. What may exist after one is remembered, and in the ledger."""

    service = COMPUTE

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._made: dict[str, wire.DriverSandbox] = {}

    async def ping(self, caller: Caller | None = None, *, patience: float = PATIENCE) -> Reply[Any]:
        """GetCapabilities."""
        request = wire.GetCapabilitiesRequest(gateway=metadata(self.preset, "compute"))
        answer = wire.GetCapabilitiesResponse
        return await (caller or self.caller).ask(
            "GetCapabilities", request, answer, patience=patience
        )

    async def capabilities(self) -> wire.GetCapabilitiesResponse:
        """What the driver says of itself, asked once. `Blocked` if it does not answer."""
        reply = await self.known("capabilities", self.get_capabilities)
        self.need(reply.ok, str(reply), "COMP-CAP-01")
        return reply.answer

    async def get_capabilities(self) -> Reply[wire.GetCapabilitiesResponse]:
        """Ask as the line does."""
        request = wire.GetCapabilitiesRequest(gateway=metadata(self.preset, "compute"))
        return await self.caller.ask("GetCapabilities", request, wire.GetCapabilitiesResponse)

    async def validate(
        self, sandbox: wire.DriverSandbox | None
    ) -> Reply[wire.ValidateSandboxCreateResponse]:
        """Ask whether a create would be refused; None sends no sandbox at all."""
        if sandbox is not None:
            await self.complete(sandbox)
        request = wire.ValidateSandboxCreateRequest(sandbox=sandbox)
        answer = wire.ValidateSandboxCreateResponse
        return await self.caller.ask("ValidateSandboxCreate", request, answer)

    async def create(
        self,
        sandbox: wire.DriverSandbox | None,
        *,
        deadline: float | None = None,
        caller: Caller | None = None,
        bare: bool = False,
    ) -> Created:
        """Create, as it comes out. What may exist afterwards is cleaned away after the check.

        `bare` leaves out the token and the launch document that the line's gateway mints.
        """
        if sandbox is not None:
            await self.complete(sandbox)
            if not bare:
                await self.mint(sandbox.spec)
            self.remember(sandbox)
        asked = wire.CreateSandboxRequest(sandbox=sandbox), wire.CreateSandboxResponse
        patience = time.monotonic() + _ROOM
        while True:
            reply = await (caller or self.caller).ask("CreateSandbox", *asked, deadline=deadline)
            # Where there is little room, other checks may have it just now.
            small = self.profile.compute.max_sandboxes <= _SMALL
            if reply.code != "RESOURCE_EXHAUSTED" or not small or time.monotonic() > patience:
                return reply
            await anyio.sleep(0.5)

    async def complete(self, sandbox: wire.DriverSandbox) -> wire.DriverSandbox:
        """Fill in the driver's default image where there is none, as gateways do."""
        if not sandbox.spec.template.image:
            sandbox.spec.template.image = (await self.capabilities()).default_image
        return sandbox

    def remember(self, sandbox: wire.DriverSandbox) -> None:
        """Put a sandbox into the ledger before it can exist."""
        key = sandbox.id or f"the name {sandbox.name}"  # what has no id must go too
        if key not in self._made:
            self.world.ledger.write(
                "create",
                id=sandbox.id,
                name=sandbox.name,
                workspace=sandbox.workspace,
                socket=str(self.instance.socket),
            )
            self._made[key] = sandbox

    async def get(self, sandbox_id: str, name: str | None = None) -> Observed:
        """Observe one; gateways always send the name too, and so does this."""
        request = wire.GetSandboxRequest(sandbox_id=sandbox_id, name=self._name(sandbox_id, name))
        return await self.caller.ask("GetSandbox", request, wire.GetSandboxResponse)

    async def list_all(self) -> Reply[wire.ListSandboxesResponse]:
        """Observe all."""
        request = wire.ListSandboxesRequest()
        return await self.caller.ask("ListSandboxes", request, wire.ListSandboxesResponse)

    async def stop(
        self, sandbox_id: str, name: str | None = None, *, patience: float | None = None
    ) -> Reply[wire.StopSandboxResponse]:
        """Stop compute."""
        request = wire.StopSandboxRequest(sandbox_id=sandbox_id, name=self._name(sandbox_id, name))
        limit = patience or self.profile.compute.timeouts.stopped + PATIENCE
        answer = wire.StopSandboxResponse
        return await self.caller.ask("StopSandbox", request, answer, patience=limit)

    async def start(
        self,
        sandbox_id: str,
        name: str | None = None,
        *,
        generation: str | None = None,
        identity: str = "",
        launch: bytes | None = None,
    ) -> Reply[wire.StartSandboxResponse]:
        """Start compute again, with a generation and a launch document of its own by default."""
        if launch is None:
            launch = await self.launch_document() if self.preset.sends_launch else b""
        request = wire.StartSandboxRequest(
            sandbox_id=sandbox_id,
            name=self._name(sandbox_id, name),
            generation_id=self.fresh_id() if generation is None else generation,
            expected_runtime_identity=identity,
            launch_authentication=launch,
        )
        answer = wire.StartSandboxResponse
        limit = self.profile.compute.timeouts.ready + PATIENCE
        reply = await self.caller.ask("StartSandbox", request, answer, patience=limit)
        if reply.code == "UNIMPLEMENTED" and self.check.clause not in _JUDGES_START:
            raise Blocked(str(reply), "COMP-START-03")
        return reply

    async def delete(
        self, sandbox_id: str, name: str | None = None, *, caller: Caller | None = None
    ) -> Reply[wire.DeleteSandboxResponse]:
        """Delete."""
        request = wire.DeleteSandboxRequest(
            sandbox_id=sandbox_id, name=self._name(sandbox_id, name)
        )
        answer = wire.DeleteSandboxResponse
        return await (caller or self.caller).ask("DeleteSandbox", request, answer)

    def _name(self, sandbox_id: str, name: str | None) -> str:
        if name is not None:
            return name
        made = self._made.get(sandbox_id)
        return made.name if made is not None else self.fresh_name()

    async def implements(self, rpc: str) -> bool:
        """Whether an RPC answers anything but UNIMPLEMENTED to a request about nothing."""
        requests: dict[str, tuple[Any, Any]] = {
            "StopSandbox": (wire.StopSandboxRequest, wire.StopSandboxResponse),
            "StartSandbox": (wire.StartSandboxRequest, wire.StartSandboxResponse),
            "EnsureWorkspace": (wire.EnsureWorkspaceRequest, wire.EnsureWorkspaceResponse),
            "DeleteWorkspace": (wire.DeleteWorkspaceRequest, wire.DeleteWorkspaceResponse),
            "AuthenticateSandbox": (
                wire.AuthenticateSandboxRequest,
                wire.AuthenticateSandboxResponse,
            ),
        }

        async def ask() -> bool:
            request, answer = requests[rpc]
            message = request()
            if hasattr(message, "sandbox_id"):
                message.sandbox_id, message.name = self.fresh_id(), self.fresh_name()
            if hasattr(message, "workspace"):
                message.workspace = self.fresh_name()
            reply = await self.caller.ask(rpc, message, answer, whole=True)
            return reply.code != "UNIMPLEMENTED"

        return await self.known(f"implements {rpc}", ask)
