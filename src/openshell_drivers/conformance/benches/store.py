"""`StoreBench`: the upstream credential store under test, with everything stored removed again."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio

from openshell_drivers._services.names import CREDENTIAL_STORE
from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers._wire import datamodel_pb2 as datamodel
from openshell_drivers.conformance._caller import PATIENCE, Caller, Reply
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.report.model import Leak
from openshell_drivers.testing.gateway._handshake import metadata

#: What the gateway calls the driver: its configured name, whatever the driver calls itself.
CONFIGURED: Final = "conformance-configured"
Handle = datamodel.CredentialHandle
Stored = Reply[wire.StoreCredentialResponse]
Resolved = Reply[wire.ResolveCredentialsResponse]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where a value belongs."""

    provider: str
    key: str
    workspace: str
    provider_id: str
    object_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A value that the driver keeps, with the handle as a gateway keeps it."""

    slot: Slot
    value: str
    handle: Handle


class StoreBench(Bench):
    """Store, resolve, delete and list, as a gateway configured with some name does."""

    service = CREDENTIAL_STORE

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._kept: list[tuple[Slot, Handle]] = []

    @property
    def authority(self) -> str:
        """What the line's client calls the driver."""
        return self.preset.credentials_authority

    async def ping(self, caller: Caller | None = None, *, patience: float = PATIENCE) -> Reply[Any]:
        """GetCapabilities."""
        request = wire.GetCredentialDriverCapabilitiesRequest(
            gateway=metadata(self.preset, "credentials")
        )
        answer = wire.GetCredentialDriverCapabilitiesResponse
        return await (caller or self.caller).ask(
            "GetCapabilities", request, answer, patience=patience
        )

    def slot(self, **changes: str) -> Slot:
        """A place that nothing is stored at: a provider, a key and a workspace of its own."""
        number = self.world.number()
        slot = Slot(
            provider=f"{self.world.run}-{number}",
            key=f"CONFORMANCE_{number.upper()}",
            workspace=self.profile.store.workspaces[0],
            provider_id=str(uuid.uuid4()),
        )
        return replace(slot, **changes)

    def value(self, label: str = "stored value") -> str:
        """A value to store: a secret of the run."""
        return self.secret(label)

    async def get_capabilities(self) -> Reply[wire.GetCredentialDriverCapabilitiesResponse]:
        """Ask as the line does."""
        request = wire.GetCredentialDriverCapabilitiesRequest(
            gateway=metadata(self.preset, "credentials")
        )
        answer = wire.GetCredentialDriverCapabilitiesResponse
        return await self.caller.ask("GetCapabilities", request, answer, deadline=30)

    async def capabilities(self) -> wire.GetCredentialDriverCapabilitiesResponse:
        """What the driver says of itself, asked once."""
        reply = await self.known("store capabilities", self.get_capabilities)
        self.need(reply.ok, str(reply), "CREDU-CAP-01")
        return reply.answer

    async def store(
        self,
        slot: Slot,
        value: str,
        *,
        existing: Handle | None = None,
        caller: Caller | None = None,
        deadline: float = 30,
    ) -> Stored:
        """Store a value, as it comes out; a handle that comes back is removed after the check."""
        request = wire.StoreCredentialRequest(
            provider=slot.provider,
            credential_key=slot.key,
            value=value,
            existing_handle=existing,
            workspace=slot.workspace,
            provider_id=slot.provider_id,
            object_id=slot.object_id,
        )
        reply = await (caller or self.caller).ask(
            "StoreCredential", request, wire.StoreCredentialResponse, deadline=deadline
        )
        if reply.ok and reply.answer.HasField("handle"):
            self._remember(slot, self.configured(reply.answer.handle))
        return reply

    def _remember(self, slot: Slot, handle: Handle) -> None:
        self._kept.append((slot, handle))
        self.world.ledger.write(
            "store",
            handle=handle.handle,
            metadata=dict(handle.metadata),
            provider=slot.provider,
            key=slot.key,
            workspace=slot.workspace,
            provider_id=slot.provider_id,
            socket=str(self.instance.socket),
        )

    def configured(self, handle: Handle) -> Handle:
        """A handle as the gateway gives it back: under the name it has configured."""
        kept = Handle()
        kept.CopyFrom(handle)
        kept.driver = CONFIGURED
        return kept

    async def proven(self) -> None:
        """`Blocked` if what is stored cannot be resolved at all, found out once."""

        async def try_it() -> Resolved:
            kept = await self.kept(proven=False)
            return await self.resolve(self.item(kept))

        reply = await self.known("what is stored can be resolved", try_it)
        self.need(reply.ok and reply.answer.credentials, str(reply), "CREDU-RES-01")

    async def overwriting(self) -> None:
        """`Blocked` if an overwrite breaks a handle at all, found out once.

        With the handle as the driver gave it, its own name in it.
        """

        async def try_it() -> Resolved:
            slot = self.slot()
            first = await self.store(slot, self.value())
            self.need(first.ok, str(first), "CREDU-STORE-01")
            kept = Kept(slot=slot, value="", handle=first.answer.handle)
            await self.store(slot, self.value(), existing=kept.handle)
            return await self.resolve(self.item(kept))

        reply = await self.known("what is overwritten can be resolved", try_it)
        self.need(
            reply.ok, f"after an overwrite that nothing collides with: {reply}", "CREDU-STORE-02"
        )

    async def kept(
        self, slot: Slot | None = None, value: str | None = None, *, proven: bool = True
    ) -> Kept:
        """Store a value that the driver accepts. `Blocked` if it does not.

        `proven`: or if nothing that is stored can be resolved.
        """
        if proven:
            await self.proven()
        slot = slot or self.slot()
        value = self.value() if value is None else value
        reply = await self.store(slot, value)
        self.need(reply.ok, str(reply), "CREDU-STORE-01")
        self.need(reply.answer.handle.handle.strip(), "the handle is blank", "CREDU-STORE-01")
        return Kept(slot=slot, value=value, handle=self.configured(reply.answer.handle))

    def item(
        self, kept: Kept, request_id: str = "credential-0", **changes: Any
    ) -> wire.ResolveCredentialRequest:
        """One item of a batch; `changes` are of the slot, or ``handle``."""
        handle = changes.pop("handle", kept.handle)
        slot = replace(kept.slot, **changes)
        return wire.ResolveCredentialRequest(
            request_id=request_id,
            provider=slot.provider,
            credential_key=slot.key,
            handle=handle,
            workspace=slot.workspace,
            provider_id=slot.provider_id,
        )

    async def resolve(
        self, *items: wire.ResolveCredentialRequest, caller: Caller | None = None
    ) -> Resolved:
        """Resolve a batch with the gateway's 30 s."""
        request = wire.ResolveCredentialsRequest(credentials=items)
        answer = wire.ResolveCredentialsResponse
        reply = await (caller or self.caller).ask(
            "ResolveCredentials", request, answer, deadline=30, patience=32
        )
        for each in reply.answer.credentials:
            self.world.canaries.add("resolved value", each.value if len(each.value) > 7 else "")
        return reply

    async def value_of(self, kept: Kept) -> str:
        """The value behind a handle. `Blocked` if it cannot be resolved."""
        reply = await self.resolve(self.item(kept))
        found = list(reply.answer.credentials)
        self.need(reply.ok and len(found) == 1, str(reply), "CREDU-RES-01")
        return found[0].value

    async def delete(
        self, kept: Kept, *, handle: Handle | None = None, **changes: Any
    ) -> Reply[wire.DeleteCredentialResponse]:
        """Delete what a handle stands for; `changes` are of the slot."""
        slot = replace(kept.slot, **changes)
        return await self._delete(slot, kept.handle if handle is None else handle)

    async def _delete(
        self, slot: Slot, handle: Handle | None
    ) -> Reply[wire.DeleteCredentialResponse]:
        request = wire.DeleteCredentialRequest(
            provider=slot.provider,
            credential_key=slot.key,
            handle=handle,
            workspace=slot.workspace,
            provider_id=slot.provider_id,
        )
        answer = wire.DeleteCredentialResponse
        return await self.caller.ask("DeleteCredential", request, answer, deadline=30)

    async def list_all(self) -> Reply[wire.ListCredentialsResponse]:
        """List, which no gateway does."""
        request = wire.ListCredentialsRequest()
        answer = wire.ListCredentialsResponse
        return await self.caller.ask("ListCredentials", request, answer, deadline=30)

    async def clean(self) -> list[Leak]:
        """Delete everything that was stored."""
        if not self._kept:
            return []
        await self.reconnect()
        leaks: list[Leak] = []
        limiter = anyio.CapacityLimiter(16)

        async def remove(slot: Slot, handle: Handle) -> None:
            async with limiter:
                reply = await self._delete(slot, handle)
            if reply.ok:
                self.world.ledger.write("removed", handle=handle.handle)
            else:
                name = f"{slot.provider}/{slot.key}"
                leaks.append(Leak(kind="credential", name=name, attributed=self.check.id))

        async with anyio.create_task_group() as tasks:
            for slot, handle in self._kept:
                tasks.start_soon(remove, slot, handle)
        return leaks
