"""`Memory`: a platform that is only pretended, with all three services.

A sandbox is a record that becomes ready after a moment. With a state file, records and stored
credentials survive the process, and drivers on one file have the same ones. Three images do
something on purpose: ``memory/unpullable`` fails after the create, ``memory/refused`` in it,
``memory/lengthy`` takes some seconds to become ready.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.abc
import anyio.to_thread
from pydantic import Field, field_validator

from openshell_drivers import (
    AdmissionPolicy,
    AlreadyExists,
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
from openshell_drivers.reference._platform import (
    CREDENTIAL,
    WORKSPACE,
    Platform,
    Record,
    Workload,
)
from openshell_drivers.reference._state import open_state
from openshell_drivers.tokens import FetchedToken, TokenCache

_PREFIX: Final = "memory://"
_LENGTHY_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.1
_GPUS: Final = 8
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class MemoryConfig(DriverConfig):
    """What an operator may set."""

    state: Path | None = None
    """A file that keeps records and stored credentials over a restart, for any number of drivers;
    made with mode 0600."""
    ready_seconds: float = Field(default=0.1, ge=0, le=86_400)
    """How long a sandbox takes to become ready."""
    credentials: dict[str, Secret] = Field(default_factory=dict)
    """Names that can be resolved, and their tokens."""
    issued: dict[str, Annotated[float, Field(gt=0, le=86_400)]] = Field(default_factory=dict)
    """Names whose tokens are made up, and how many seconds each token lives."""
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
    _platform: Platform
    _tasks: anyio.abc.TaskGroup
    _tokens: TokenCache

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self._feed = SandboxFeed()
        self._told: dict[str, Record] = {}
        self._turn = anyio.Lock()  # what is told of a record comes in the order of its changes
        with open_state(self.config.state) as state:
            self._platform = await anyio.to_thread.run_sync(Platform, state)
            async with (
                TokenCache(self._issue) as self._tokens,
                anyio.create_task_group() as self._tasks,
            ):
                yield
                self._tasks.cancel_scope.cancel()

    async def _do(self, work: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Do what blocks, in a thread if it does so for long."""
        if not self._platform.state.shared:
            return work(*args)
        return await anyio.to_thread.run_sync(work, *args)

    def admission_policy(self) -> AdmissionPolicy:
        return AdmissionPolicy(allow_driver_config=self.config.allow_driver_config)

    # What there is.

    async def observe(self, feed: SandboxFeed) -> None:
        self._feed = feed
        state = self._platform.state
        async with self._turn:
            await self._do(state.changed)
            self._tell_all(await self._do(self._platform.sandboxes))
            feed.replace([record.observed() for record in self._told.values()])
        while state.shared:
            await anyio.sleep(_LOOK_SECONDS)  # what this driver does is told at once
            async with self._turn:
                if await self._do(state.changed):
                    self._tell_all(await self._do(self._platform.sandboxes))
        await anyio.sleep_forever()

    def _tell_all(self, records: Mapping[str, Record]) -> None:
        for sandbox_id in self._told.keys() - records.keys():
            self._tell_gone(sandbox_id)
        for record in records.values():
            self._tell(record)

    def _tell(self, record: Record) -> None:
        if self._told.get(record.id) != record:
            self._told[record.id] = record
            self._feed.update(record.observed())
            if record.wait:
                self._tasks.start_soon(self._tell_when_due, record)

    async def _tell_when_due(self, record: Record) -> None:
        await _until_due(record)
        if self._told.get(record.id) is record:
            self._feed.update(record.observed())

    def _tell_gone(self, sandbox_id: str) -> None:
        self._told.pop(sandbox_id, None)
        self._feed.delete(sandbox_id)

    async def list_sandboxes(self) -> Sequence[ObservedSandbox]:
        records = await self._do(self._platform.sandboxes)
        return [record.observed() for record in records.values()]

    # Sandboxes.

    async def validate_sandbox_create(self, spec: SandboxSpec) -> None:
        if spec.template.image == "memory/refused":
            raise FailedPrecondition("this image is refused on purpose")
        if spec.gpu is not None and (spec.gpu.count or 1) > _GPUS:
            raise FailedPrecondition(f"there are {_GPUS} GPUs here")
        Workload.of(spec)

    async def create_sandbox(self, spec: SandboxSpec, scope: CreateScope) -> str:
        options: MemoryOptions = parse_config(MemoryOptions, spec.template.driver_config)
        failure = options.fail
        if spec.template.image == "memory/unpullable":
            failure = failure or "ImagePullFailed"
        record = Record(
            id=spec.id,
            name=spec.name,
            workspace=spec.workspace,
            workload=Workload.of(spec),
            due=time.time() + (0 if failure else self._seconds(spec, options)),
            failure=failure,
        )
        async with self._turn:
            if not await self._do(self._platform.add, record):
                raise AlreadyExists("a sandbox with this id exists")
            self._tell(record)
        scope.in_background(partial(self._provision, record))
        return f"{_PREFIX}{spec.id}"

    def _seconds(self, spec: SandboxSpec, options: MemoryOptions) -> float:
        if options.ready_seconds is not None:
            return options.ready_seconds
        lengthy = spec.template.image == "memory/lengthy"
        return max(self.config.ready_seconds, _LENGTHY_SECONDS if lengthy else 0)

    async def _provision(self, record: Record) -> None:
        self._feed.event(record.id, PlatformEvent.progress("starting_sandbox"))
        await _until_due(record)
        if record.failure:
            raise ProvisioningFailed(record.failure, "this sandbox fails on purpose")

    async def _change(self, ref: SandboxRef, step: Callable[[Record], Record]) -> None:
        async with self._turn:
            record = await self._do(self._platform.change, ref.id, step)
            if record is None:
                raise NotFound("there is no sandbox with this id")
            self._tell(record)

    async def stop_sandbox(self, ref: SandboxRef) -> None:
        await self._change(ref, lambda record: replace(record, phase="stopped"))

    async def start_sandbox(self, ref: SandboxRef, request: StartRequest) -> str:
        if request.expected_runtime_identity not in {"", f"{_PREFIX}{ref.id}"}:
            raise FailedPrecondition("the sandbox is not the one that the gateway knows")
        await self._change(ref, lambda record: record.again(self.config.ready_seconds))
        return f"{_PREFIX}{ref.id}"

    async def delete_sandbox(self, ref: SandboxRef) -> bool:
        async with self._turn:
            existed = await self._do(self._platform.remove, ref.id)
            self._tell_gone(ref.id)
        return existed

    def lose(self, sandbox_id: str) -> None:
        """Let a sandbox vanish, as somebody else's delete would. For tests."""
        self._platform.remove(sandbox_id)
        self._tell_gone(sandbox_id)

    def credential_of(self, sandbox_id: str) -> Secret:
        """Make what a sandbox proves itself with. For tests."""
        return self._platform.credential_of(sandbox_id)

    async def authenticate_sandbox(self, credential: Secret) -> AuthenticatedSandbox:
        sandbox_id = credential.reveal().rpartition(":")[0]
        good = self._platform.credential_of(sandbox_id).reveal().encode()
        if not hmac.compare_digest(credential.reveal().encode(), good):
            raise Unauthenticated("the credential is not one of this platform")
        if await self._do(self._platform.find, sandbox_id) is None:
            raise NotFound("there is no sandbox with this id")
        return AuthenticatedSandbox(
            sandbox_id=sandbox_id, runtime_identity=f"{_PREFIX}{sandbox_id}"
        )

    async def ensure_workspace(self, workspace: str) -> None:
        await self._do(self._platform.state.put, WORKSPACE, workspace, "")

    async def delete_workspace(self, workspace: str) -> None:
        await self._do(self._platform.state.drop, WORKSPACE, workspace)

    # The credentials of the kagenti line.

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        if ref.name in self.config.issued:
            return await self._tokens.get(ref.name)
        if ref.name not in self.config.credentials:
            raise NotFound(f"there is no credential {ref.name!r}")
        end = datetime.now(UTC) + timedelta(minutes=5)
        return Credential(token=self.config.credentials[ref.name], expires_at=end)

    async def _issue(self, name: str) -> FetchedToken:
        token = Secret(f"memory-{secrets.token_urlsafe(24)}")
        return FetchedToken(token=token, expires_in=self.config.issued[name])

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        names = {**self.config.credentials, **self.config.issued}
        return [CredentialInfo(name=name) for name in names]

    # The credential store.

    async def store_credential(self, slot: CredentialSlot, value: Secret) -> None:
        row = {"value": value.reveal(), "handle": slot.handle, "key": slot.key}
        await self._do(self._platform.state.put, CREDENTIAL, slot.id, json.dumps(row))

    async def resolve_stored_credential(self, slot: CredentialSlot) -> StoredCredential:
        text = await self._do(self._platform.state.get, CREDENTIAL, slot.id)
        if text is None:
            raise NotFound("the value is not there")
        return StoredCredential(value=Secret(json.loads(text)["value"]))

    async def delete_credential(self, slot: CredentialSlot) -> None:
        await self._do(self._platform.state.drop, CREDENTIAL, slot.id)

    async def list_stored_credentials(self) -> Sequence[ListedCredential]:
        texts = await self._do(self._platform.state.all, CREDENTIAL)
        rows = [json.loads(text) for text in texts.values()]
        return [ListedCredential(handle=row["handle"], keys=(row["key"],)) for row in rows]


async def _until_due(record: Record) -> None:
    while wait := record.wait:  # noqa: ASYNC110  # a clock may be set
        await anyio.sleep(wait)
