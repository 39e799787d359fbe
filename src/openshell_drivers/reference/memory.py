"""`Memory`: a platform that is only pretended, with all three services.

A sandbox is a record that becomes ready after a moment. With a state file, records and stored
credentials survive the process. Two images fail on purpose: ``memory/unpullable`` after the create,
``memory/refused`` in it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import anyio.abc
from pydantic import Field, field_validator

from openshell_drivers import (
    AdmissionPolicy,
    AuthenticatedSandbox,
    ComputeDriver,
    CreateScope,
    Credential,
    CredentialInfo,
    CredentialRef,
    CredentialsDriver,
    CredentialSlot,
    CredentialStore,
    DriverConfig,
    FailedPrecondition,
    ListedCredential,
    NotFound,
    ObservedSandbox,
    PlatformEvent,
    ProvisioningFailed,
    SandboxFeed,
    SandboxRef,
    SandboxSpec,
    SandboxState,
    Secret,
    StartRequest,
    StoredCredential,
    Support,
    Unauthenticated,
    parse_config,
)
from openshell_drivers.reference._state import State, open_state

_PREFIX = "memory://"
_KEY = "key"


class MemoryConfig(DriverConfig):
    """What an operator may set."""

    state: Path | None = None
    """A file that keeps records and stored credentials over a restart; made with mode 0600."""
    ready_seconds: float = Field(default=0.1, ge=0, le=86_400)
    """How long a sandbox takes to become ready."""
    credentials: dict[str, Secret] = Field(default_factory=dict)
    """Names that can be resolved, and their tokens."""
    allow_driver_config: bool = False
    """Accept a request's ``driver_config``: ``ready_seconds`` and ``fail``."""


class MemoryOptions(DriverConfig):
    """A request's ``driver_config``."""

    ready_seconds: float | None = Field(default=None, ge=0, le=86_400)
    fail: str = ""
    """The reason to fail with instead of becoming ready."""

    @field_validator("fail")
    @classmethod
    def _is_a_reason(cls, reason: str) -> str:
        return SandboxState.failed(reason).reason if reason else ""


@dataclass(slots=True)
class Record:
    """One sandbox."""

    id: str
    name: str
    workspace: str
    phase: Literal["starting", "ready", "stopped", "failed"]
    instance: int = 1
    reason: str = ""

    def observed(self) -> ObservedSandbox:
        """Say it as a driver does."""
        match self.phase:
            case "starting":
                state = SandboxState.starting()
            case "ready":
                state = SandboxState.ready()
            case "stopped":
                state = SandboxState.stopped()
            case "failed":
                state = SandboxState.failed(self.reason)
        return ObservedSandbox(
            id=self.id,
            name=self.name,
            workspace=self.workspace,
            state=state,
            instance_id=f"{self.id}.{self.instance}",
        )


class Memory(
    ComputeDriver[MemoryConfig], CredentialStore[MemoryConfig], CredentialsDriver[MemoryConfig]
):
    """Pretend to run sandboxes, and keep credentials. For development and tests."""

    name = "memory"
    default_image = "memory/default"
    gateway_manages_lifecycle = True
    driver_config_model = MemoryOptions
    support = Support(
        cpu_request=True,
        cpu_limit=True,
        memory_request=True,
        memory_limit=True,
        gpu=True,
        gpu_count=True,
        gpu_device=True,
        user_namespaces=True,
        agent_socket_path=True,
        platform_config=frozenset({"annotations", "runtime_class_name", "resources_raw"}),
    )
    _feed: SandboxFeed
    _state: State
    _tasks: anyio.abc.TaskGroup

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self._workspaces: set[str] = set()
        async with open_state(self.config.state) as self._state:
            self._records = {
                key: Record(**json.loads(text)) for key, text in self._state.all("sandbox").items()
            }
            self._key = await self._own_key()
            self._feed = SandboxFeed()
            async with anyio.create_task_group() as self._tasks:
                for record in self._records.values():
                    if record.phase == "starting":
                        self._tasks.start_soon(self._become_ready, record, record.instance)
                yield
                self._tasks.cancel_scope.cancel()

    async def _own_key(self) -> bytes:
        kept = self._state.all("own").get(_KEY) or secrets.token_hex(32)
        await self._state.put("own", _KEY, kept)
        return bytes.fromhex(kept)

    def admission_policy(self) -> AdmissionPolicy:
        return AdmissionPolicy(allow_driver_config=self.config.allow_driver_config)

    async def observe(self, feed: SandboxFeed) -> None:
        self._feed = feed
        feed.replace(await self.list_sandboxes())
        await anyio.sleep_forever()

    async def list_sandboxes(self) -> Sequence[ObservedSandbox]:
        return [record.observed() for record in self._records.values()]

    async def validate_sandbox_create(self, spec: SandboxSpec) -> None:
        if spec.template.image == "memory/refused":
            raise FailedPrecondition("this image is refused on purpose")

    async def create_sandbox(self, spec: SandboxSpec, scope: CreateScope) -> str:
        options: MemoryOptions = parse_config(MemoryOptions, spec.template.driver_config)
        record = Record(spec.id, spec.name, spec.workspace, "starting")
        await self._keep(record)
        scope.in_background(partial(self._provision, record, spec.template.image, options))
        return f"{_PREFIX}{spec.id}"

    async def _provision(self, record: Record, image: str, options: MemoryOptions) -> None:
        if image == "memory/unpullable" or options.fail:
            record.phase, record.reason = "failed", options.fail or "ImagePullFailed"
            await self._keep(record)
            raise ProvisioningFailed(record.reason, "this sandbox fails on purpose")
        self._feed.event(record.id, PlatformEvent.progress("starting_sandbox"))
        await self._become_ready(record, record.instance, options.ready_seconds)

    async def _become_ready(
        self, record: Record, instance: int, seconds: float | None = None
    ) -> None:
        await anyio.sleep(self.config.ready_seconds if seconds is None else seconds)
        here = self._records.get(record.id) is record  # it may have been deleted meanwhile
        if here and record.instance == instance and record.phase == "starting":
            record.phase = "ready"
            await self._keep(record)

    async def _keep(self, record: Record) -> None:
        """Write a record down, then tell of it."""
        await self._state.put("sandbox", record.id, json.dumps(asdict(record)))
        self._records[record.id] = record
        self._feed.update(record.observed())

    def _record(self, ref: SandboxRef) -> Record:
        if ref.id not in self._records:
            raise NotFound("there is no sandbox with this id")
        return self._records[ref.id]

    async def stop_sandbox(self, ref: SandboxRef) -> None:
        record = self._record(ref)
        record.phase = "stopped"
        await self._keep(record)

    async def start_sandbox(self, ref: SandboxRef, request: StartRequest) -> str:
        record = self._record(ref)
        if request.expected_runtime_identity not in {"", f"{_PREFIX}{ref.id}"}:
            raise FailedPrecondition("the sandbox is not the one that the gateway knows")
        if record.phase not in {"starting", "ready"}:
            record.phase, record.instance = "starting", record.instance + 1
            await self._keep(record)
            self._tasks.start_soon(self._become_ready, record, record.instance)
        return f"{_PREFIX}{ref.id}"

    async def delete_sandbox(self, ref: SandboxRef) -> bool:
        await self._state.drop("sandbox", ref.id)
        existed = self._records.pop(ref.id, None) is not None
        self._feed.delete(ref.id)
        return existed

    def lose(self, sandbox_id: str) -> None:
        """Let a sandbox vanish, as somebody else's delete would. For tests."""
        self._records.pop(sandbox_id, None)
        self._feed.delete(sandbox_id)

    def credential_of(self, sandbox_id: str) -> Secret:
        """Make what a sandbox proves itself with. For tests."""
        proof = hmac.new(self._key, sandbox_id.encode(), hashlib.sha256).hexdigest()
        return Secret(f"{sandbox_id}:{proof}")

    async def authenticate_sandbox(self, credential: Secret) -> AuthenticatedSandbox:
        sandbox_id = credential.reveal().rpartition(":")[0]
        good = self.credential_of(sandbox_id).reveal().encode()
        if not hmac.compare_digest(credential.reveal().encode(), good):
            raise Unauthenticated("the credential is not one of this platform")
        record = self._record(SandboxRef(id=sandbox_id))
        return AuthenticatedSandbox(sandbox_id=record.id, runtime_identity=f"{_PREFIX}{record.id}")

    async def ensure_workspace(self, workspace: str) -> None:
        self._workspaces.add(workspace)

    async def delete_workspace(self, workspace: str) -> None:
        self._workspaces.discard(workspace)

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        if ref.name not in self.config.credentials:
            raise NotFound(f"there is no credential {ref.name!r}")
        end = datetime.now(UTC) + timedelta(minutes=5)
        return Credential(token=self.config.credentials[ref.name], expires_at=end)

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        return [CredentialInfo(name=name) for name in self.config.credentials]

    async def store_credential(self, slot: CredentialSlot, value: Secret) -> None:
        row = {"value": value.reveal(), "handle": slot.handle, "key": slot.key}
        await self._state.put("credential", slot.id, json.dumps(row))

    async def resolve_stored_credential(self, slot: CredentialSlot) -> StoredCredential:
        rows = self._state.all("credential")
        if slot.id not in rows:
            raise NotFound("the value is not there")
        return StoredCredential(value=Secret(json.loads(rows[slot.id])["value"]))

    async def delete_credential(self, slot: CredentialSlot) -> None:
        await self._state.drop("credential", slot.id)

    async def list_stored_credentials(self) -> Sequence[ListedCredential]:
        rows = [json.loads(text) for text in self._state.all("credential").values()]
        return [ListedCredential(handle=row["handle"], keys=(row["key"],)) for row in rows]
