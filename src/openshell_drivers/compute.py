"""Sandboxes in domain types: what a gateway asks for and what a driver observes.

The vocabulary of the compute contract, for those who call a compute driver. Knows nothing of the
wire. The class that drivers subclass is not here yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from openshell_drivers._checks import require_aware, require_secret
from openshell_drivers.secrets import Secret

Json: TypeAlias = "bool | float | str | tuple[Json, ...] | Mapping[str, Json] | None"
"""A JSON value that cannot be changed. Numbers are floats, as in protobuf's Struct."""


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRef:
    """Which sandbox is meant. The id decides; the name is advisory (COMP-GET-02)."""

    id: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeResources:
    """Kubernetes quantities; an empty one is not set (COMP-IN-04)."""

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
    """A sandbox as a driver observes it."""

    id: str
    name: str
    workspace: str = ""
    namespace: str = ""
    status: SandboxStatus | None = None
    """None says that there is no news, not that the state is unknown (COMP-GET-04)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformEvent:
    """Something that happened to a sandbox, for its user to read."""

    reason: str
    message: str = ""
    type: Literal["Normal", "Warning"] | str = "Normal"
    source: str = ""
    time: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=_nothing)
    """``openshell.progress.*`` tells how far a start has come."""

    def __post_init__(self) -> None:
        require_aware("time", self.time)


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
class ResourceCapabilities:
    """What a driver can limit and select; None where it does not say."""

    cpu_limit: bool | None = None
    memory_limit: bool | None = None
    gpu_default: bool | None = None
    gpu_count: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeCapabilities:
    """What a compute driver says of itself."""

    driver_name: str
    driver_version: str
    default_image: str = ""
    gateway_manages_lifecycle: bool = False
    supports_sandbox_authentication: bool = False
    driver_reports_runtime_readiness: bool = False
    resources: ResourceCapabilities = field(default_factory=ResourceCapabilities)
    rootfs_tar_staging_dir: str = ""
    rootfs_tar_max_bytes: int = 0
    resource_admission_policy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerRequirement:
    """Where a gateway of the 0.0.x line has to listen for its sandboxes."""

    reason: str
    exact_bind_address: str = ""
    default_route_interface: bool = False
    loopback_interface: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedSandbox:
    """The sandbox that a platform credential belongs to."""

    sandbox_id: str
    runtime_identity: str
