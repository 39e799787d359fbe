"""`Compute`: the RPCs of ComputeDriver, of all gateway lines."""

from __future__ import annotations

import hmac
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from tests.conformance.bare import protos
from tests.conformance.bare.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
)
from tests.conformance.bare.handshake import NAME, VERSION, Handshake
from tests.conformance.bare.hub import DELETED, EVENT, SANDBOX, Note, Watcher
from tests.conformance.bare.locks import Locks
from tests.conformance.bare.observer import Observer
from tests.conformance.bare.patience import Patience
from tests.conformance.bare.resources import DELETING, FAILED, Resource
from tests.conformance.bare.validation import Judge
from tests.conformance.bare.workload import Workloads

_DEFAULT_IMAGE: Final = "bare/default"


class Compute:
    """One method for each RPC, named after it. A method gives a message or raises `Refusal`."""

    admission_policy = "v1:{}"
    authenticates = True

    def __init__(self, observer: Observer) -> None:
        self.messages = protos.schema("compute")
        self.observer = observer
        self.platform = observer.platform
        self.snapshots = observer.snapshots
        self.hub = observer.hub
        self.handshake = Handshake("compute")
        self.judge = Judge()
        self.workloads = Workloads()
        self.locks = Locks()
        self.patience = Patience()

    async def get_capabilities(self, request: Any) -> Any:
        self.handshake.judge(request)
        return self.messages.GetCapabilitiesResponse(**self.capabilities())

    def capabilities(self) -> Mapping[str, Any]:
        """The same for the life of the process, and without a look at the platform."""
        peer = self.messages.named("openshell.extension.v1.PeerMetadata")
        return {
            "driver_name": NAME,
            "driver_version": VERSION,
            "default_image": _DEFAULT_IMAGE,
            "gateway_manages_lifecycle": True,
            "supports_sandbox_authentication": self.authenticates,
            "resource_capabilities": {
                "cpu": {"limit_supported": True},
                "memory": {"limit_supported": True},
                "gpu": {},  # said to be there, with neither way to select one
            },
            "extension": self.handshake.metadata(peer),
            "resource_admission_policy": self.admission_policy,
        }

    async def get_gateway_listener_requirements(self, _request: Any) -> Any:
        return self.messages.GetGatewayListenerRequirementsResponse()

    async def authenticate_sandbox(self, request: Any) -> Any:
        await self.platform.reach()
        found = self.owner_of(request.credential)
        if found is None:
            raise Unauthenticated("the credential is not of a sandbox here")
        identity = self.snapshots.runtime_identity(found)
        return self.messages.AuthenticateSandboxResponse(
            sandbox_id=found.id, runtime_identity=identity
        )

    def owner_of(self, credential: str) -> Resource | None:
        """Find the sandbox that a credential belongs to."""
        found = self.find(credential.partition(":")[0])
        if found is None:
            return None
        expected = self.platform.resources.credential(found)
        return found if hmac.compare_digest(expected.encode(), credential.encode()) else None

    async def validate_sandbox_create(self, request: Any) -> Any:
        self.judge.judge(request)
        return self.messages.ValidateSandboxCreateResponse()

    async def create_sandbox(self, request: Any) -> Any:
        sandbox = self.judge.judge(request)
        async with self.locks.hold(sandbox.id):
            made = await self.make(sandbox)
        return self.messages.CreateSandboxResponse(
            runtime_identity=self.snapshots.runtime_identity(made)
        )

    async def make(self, sandbox: Any) -> Resource:
        """Accept it; the rest is told by conditions (COMP-CREATE-07)."""
        await self.platform.reach()
        image = sandbox.spec.template.image or _DEFAULT_IMAGE
        made = self.platform.create(
            sandbox.id, sandbox.name, sandbox.workspace, image, self.workloads.of(sandbox)
        )
        if made is None:
            raise AlreadyExists("there is a sandbox with this id")
        self.platform.deliver(sandbox.id, sandbox.spec.sandbox_token)
        self.observer.apply()
        return made

    def find(self, sandbox_id: str) -> Resource | None:
        """Find a sandbox of ours by its id; its name is only for show (COMP01-IN-05)."""
        found = self.platform.resources.get(sandbox_id)
        return found if found is not None and self.observer.mine(found) else None

    def expect(self, sandbox_id: str) -> Resource:
        found = self.find(sandbox_id)
        if found is None:
            raise NotFound("there is no sandbox with this id")
        return found

    async def get_sandbox(self, request: Any) -> Any:
        self.judge.judge_id(request.sandbox_id)
        await self.platform.reach()
        found = self.expect(request.sandbox_id)
        return self.messages.GetSandboxResponse(sandbox=self.snapshots.of(found))

    async def list_sandboxes(self, _request: Any) -> Any:
        """All of ours in any state; an error if they cannot be seen (COMP-LIST-01, -02)."""
        await self.platform.reach()
        found = self.platform.resources.all()
        listed = [self.listed(each) for each in found if self.observer.mine(each)]
        return self.messages.ListSandboxesResponse(sandboxes=listed)

    def listed(self, resource: Resource) -> Any:
        return self.snapshots.of(resource)

    async def stop_sandbox(self, request: Any) -> Any:
        self.judge.judge_id(request.sandbox_id)
        async with self.locks.hold(request.sandbox_id):
            await self.platform.reach_patiently()
            found = self.expect(request.sandbox_id)
            self.refuse_deleting(found)
            await self.platform.stop(found.id)
            self.observer.apply()
        return self.messages.StopSandboxResponse()

    async def start_sandbox(self, request: Any) -> Any:
        self.judge.judge_id(request.sandbox_id)
        self.judge.judge_launch(request.launch_authentication)
        async with self.locks.hold(request.sandbox_id):
            # Any error at a gateway's start condemns the sandbox (COMP-START-02).
            await self.patience.outlast(self.platform.reach_patiently)
            found = self.expect(request.sandbox_id)
            self.refuse_deleting(found)
            self.refuse_failed(found)
            self.judge_expected(found, request.expected_runtime_identity)
            self.begin(found, request.generation_id)
            self.observer.apply()
        identity = self.snapshots.runtime_identity(found)
        return self.messages.StartSandboxResponse(runtime_identity=identity)

    def begin(self, found: Resource, generation: str) -> None:
        """Start it, once for each generation (COMP01-START-01)."""
        if not generation or found.generation != generation:
            self.platform.start(found.id, generation)

    def judge_expected(self, found: Resource, expected: str) -> None:
        """The object that the gateway knows must be the one that is there (COMP01-ID-02)."""
        if expected and expected != self.snapshots.runtime_identity(found):
            raise FailedPrecondition("expected_runtime_identity is of another object")

    def refuse_deleting(self, found: Resource) -> None:
        if found.state == DELETING:
            raise FailedPrecondition("the sandbox is being removed")

    def refuse_failed(self, found: Resource) -> None:
        if found.state == FAILED:
            raise FailedPrecondition("the sandbox could not be made; remove it")

    async def delete_sandbox(self, request: Any) -> Any:
        """False means that nothing is there, in any state (COMP-DEL-01..04, -08)."""
        self.judge.judge_id(request.sandbox_id)
        async with self.locks.hold(request.sandbox_id):
            await self.platform.reach()
            found = self.find(request.sandbox_id)
            if found is not None:
                self.platform.delete(found.id)
                self.observer.apply()
        return self.messages.DeleteSandboxResponse(deleted=found is not None)

    async def watch_sandboxes(self, _request: Any) -> AsyncGenerator[Any, None]:
        with self.hub.watch() as watcher:  # before the look, so that nothing falls in between
            await self.greet(watcher)
            while True:
                message = self.told(await watcher.take())
                if message is not None:
                    yield message

    async def greet(self, watcher: Watcher) -> None:
        """Tell a new watch of all that is there, and of what is there no more."""
        for sandbox_id in await self.observer.known():
            watcher.add(Note(SANDBOX, sandbox_id))
        for sandbox_id in self.observer.lately_gone():
            watcher.add(Note(DELETED, sandbox_id))

    def told(self, note: Note) -> Any:
        """Write what is to be told, as it is now; None if it is not true any more."""
        found = self.observer.view.get(note.id)
        event = self.messages.WatchSandboxesEvent()
        if note.kind == DELETED:
            event.deleted.sandbox_id = note.id
        elif found is None:
            return None
        elif note.kind == EVENT:
            event.platform_event.sandbox_id = note.id
            event.platform_event.event.CopyFrom(note.event)
        else:
            event.sandbox.sandbox.CopyFrom(self.snapshots.of(found))
        return event

    async def ensure_workspace(self, request: Any) -> Any:
        self.judge_workspace(request.workspace)
        return self.messages.EnsureWorkspaceResponse()

    async def delete_workspace(self, request: Any) -> Any:
        self.judge_workspace(request.workspace)
        return self.messages.DeleteWorkspaceResponse()

    def judge_workspace(self, workspace: str) -> None:
        if not workspace:
            raise InvalidArgument("workspace is empty")
