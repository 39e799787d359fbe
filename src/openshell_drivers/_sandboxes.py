"""Sandboxes in domain types: what a gateway asks for and what is observed of them.

Knows nothing of the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from openshell_drivers._checks import require_aware, require_secret
from openshell_drivers._faults import WrongType, WrongValue
from openshell_drivers._states import SandboxState
from openshell_drivers.secrets import Secret

Json: TypeAlias = "bool | float | str | tuple[Json, ...] | Mapping[str, Json] | None"
"""A JSON value that cannot be changed. Numbers are floats, as in protobuf's Struct."""


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


def _require_utf8(**texts: str) -> None:
    """Refuse what cannot be sent: it would fail the whole list, and every watch."""
    for field_, text in texts.items():
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise WrongValue(f"{field_} holds what UTF-8 cannot carry") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRef:
    """Which sandbox is meant. The id alone decides: two references with one id are equal, and
    there is none without an id (COMP-GET-02)."""

    id: str
    name: str = field(default="", compare=False)
    """What the gateway believes it is called. For messages; never to look it up by."""

    def __post_init__(self) -> None:
        if not self.id:
            raise WrongValue("a sandbox is found by its id, and this one is empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeResources:
    """Kubernetes quantities; an empty one is not set (COMP-IN-04).

    Those in a `SandboxSpec` that a driver gets are valid; `openshell_drivers.quantities` reads
    them.
    """

    cpu_request: str = ""
    cpu_limit: str = ""
    memory_request: str = ""
    memory_limit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRequest:
    """A wish for GPUs. Its presence is the request."""

    count: int | None = None
    """How many; None means one (COMP-IN-07)."""
    device: str = ""
    """A device by name; only the kagenti line sends one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIdentity:
    """Who the main process is to be; empty means what the image says."""

    user: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxTemplate:
    """What kind of sandbox."""

    image: str = ""
    agent_socket_path: str = ""
    labels: Mapping[str, str] = field(default_factory=_nothing)
    environment: Mapping[str, str] = field(default_factory=_nothing)
    """Below the spec's own environment (COMP-IN-03)."""
    resources: ComputeResources | None = None
    platform_config: Mapping[str, Json] = field(default_factory=_nothing)
    driver_config: Mapping[str, Json] = field(default_factory=_nothing)
    user_namespaces: bool | None = None
    """None leaves it to the driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """A sandbox as a gateway asks for it."""

    id: str
    name: str
    """Unique in its workspace only."""
    workspace: str = ""
    """Empty from the kagenti line."""
    template: SandboxTemplate = field(default_factory=SandboxTemplate)
    environment: Mapping[str, str] = field(default_factory=_nothing)
    gpu: GpuRequest | None = None
    command: tuple[str, ...] = ()
    tty: bool = False
    await_main_process_attachment: bool = False
    workload_identity: WorkloadIdentity | None = None
    policy: bytes = b""
    """A serialized ``openshell.sandbox.v1.SandboxPolicy``; passed on, not read."""
    sandbox_token: Secret | None = None
    """None on a validate, and from gateways that give none."""
    launch_authentication: Secret | None = None
    """UTF-8 JSON."""
    log_level: str = ""

    def __post_init__(self) -> None:
        for name in ("sandbox_token", "launch_authentication"):
            if getattr(self, name) is not None:
                require_secret(name, getattr(self, name))

    @property
    def ref(self) -> SandboxRef:
        """The reference that later calls will come with."""
        return SandboxRef(id=self.id, name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """What comes with a start, beside the sandbox. All of it may be missing (COMP01-LAUNCH-01)."""

    launch_authentication: Secret | None = None
    """UTF-8 JSON."""
    generation_id: str = ""
    """The same for every try of one start, another for the next (COMP01-START-01)."""
    expected_runtime_identity: str = ""
    """What the gateway was last told; a driver refuses another one with `FailedPrecondition`
    (COMP01-ID-02)."""

    def __post_init__(self) -> None:
        if self.launch_authentication is not None:
            require_secret("launch_authentication", self.launch_authentication)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One fact about a sandbox, as a driver reported it."""

    type: str
    status: Literal["True", "False", "Unknown"] | str
    reason: str = ""
    message: str = ""
    transition_time: datetime | None = None

    def __post_init__(self) -> None:
        require_aware("transition_time", self.transition_time)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedIdentity:
    """Who the main process really is."""

    uid: int
    gid: int
    supplementary_gids: tuple[int, ...] = ()
    source: str = ""
    resource_digest: str = ""

    def __post_init__(self) -> None:
        if not all(0 <= each < 2**32 for each in (self.uid, self.gid, *self.supplementary_gids)):
            raise WrongValue("a user or group number is from 0 to 4294967295")
        _require_utf8(source=self.source, resource_digest=self.resource_digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxStatus:
    """The state of a sandbox."""

    name: str = ""
    """The platform's name for it, or the sandbox's own (COMP01-STAT-01)."""
    instance_id: str = ""
    agent_fd: str = ""
    sandbox_fd: str = ""
    conditions: tuple[Condition, ...] = ()
    deleting: bool = False
    resolved_identity: ResolvedIdentity | None = None
    fence_generation: str = ""
    fence_digest: str = ""
    fence_claims: Mapping[str, str] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A sandbox as a caller of a driver reads it."""

    id: str
    name: str
    workspace: str = ""
    namespace: str = ""
    status: SandboxStatus | None = None
    """None says that there is no news, not that the state is unknown (COMP-GET-04)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedSandbox:
    """A sandbox as a driver observes it on its backend.

    `id`, `name` and `workspace` are the gateway's, as they came with the create: a driver keeps
    them with what it creates, as labels or in a record (COMP-GET-03, COMP-SOCK-11).
    """

    id: str
    name: str
    workspace: str = ""
    state: SandboxState
    instance_id: str = ""
    """The backend's object; another one after a restart (COMP-STAT-08)."""
    agent_fd: str = ""
    sandbox_fd: str = ""
    resolved_identity: ResolvedIdentity | None = None
    fence_generation: str = ""
    fence_digest: str = ""
    fence_claims: Mapping[str, str] = field(default_factory=_nothing)

    def __post_init__(self) -> None:
        if not isinstance(self.state, SandboxState):
            raise WrongType(f"state must be a SandboxState, not {type(self.state).__name__}")
        if not self.id or not self.name:
            raise WrongValue("an observed sandbox has the id and the name of its create")
        texts = self.id, self.name, self.workspace, self.instance_id, self.agent_fd, self.sandbox_fd
        if not "".join(texts).isascii():  # in one go: this is made for every observation
            _require_utf8(
                id=self.id,
                name=self.name,
                workspace=self.workspace,
                instance_id=self.instance_id,
                agent_fd=self.agent_fd,
                sandbox_fd=self.sandbox_fd,
            )


ProgressStep: TypeAlias = Literal["requesting_sandbox", "pulling_image", "starting_sandbox"]
_PROGRESS = "openshell.progress."


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformEvent:
    """Something that happened to a sandbox, for its user to read. No secrets (COMP-WATCH-12)."""

    reason: str
    message: str = ""
    type: Literal["Normal", "Warning"] | str = "Normal"
    source: str = ""
    """Who says so; the driver's name if empty."""
    time: datetime | None = None
    """With a time zone; None for now."""
    metadata: Mapping[str, str] = field(default_factory=_nothing)
    """``openshell.progress.*`` tells how far a start has come."""

    def __post_init__(self) -> None:
        require_aware("time", self.time)
        _require_utf8(
            reason=self.reason,
            message=self.message,
            type=self.type,
            source=self.source,
            metadata="".join([*self.metadata, *self.metadata.values()]),
        )

    @classmethod
    def progress(
        cls,
        active: ProgressStep | None = None,
        detail: str = "",
        *,
        done: ProgressStep | None = None,
        label: str = "",
    ) -> PlatformEvent:
        """Say which step of a start is under way, and which one is done, with a word on each."""
        told = {
            "active_step": active or "",
            "active_detail": detail,
            "complete_step": done or "",
            "complete_label": label,
        }
        keys = {f"{_PROGRESS}{key}": value for key, value in told.items() if value}
        return cls(reason="Progress", message=detail or label, metadata=MappingProxyType(keys))


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSeen:
    """A sandbox exists and is in this state."""

    sandbox: Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxDeleted:
    """A sandbox is gone."""

    sandbox_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxHappening:
    """A platform event of a sandbox."""

    sandbox_id: str
    event: PlatformEvent


WatchEvent: TypeAlias = SandboxSeen | SandboxDeleted | SandboxHappening


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedSandbox:
    """The sandbox that a platform credential belongs to."""

    sandbox_id: str
    runtime_identity: str
