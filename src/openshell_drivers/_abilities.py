"""What a compute driver says of itself, and what it honours of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
class Support:
    """What a driver honours of a request. The SDK refuses the rest with `FAILED_PRECONDITION`
    before the driver sees it: what is silently ignored is a promise broken (COMP-IN-04,
    COMP-IN-05). Resource capabilities follow from it (COMP01-RES-01)."""

    cpu_request: bool = False
    cpu_limit: bool = False
    memory_request: bool = False
    memory_limit: bool = False
    gpu: bool = False
    """One GPU, whichever."""
    gpu_count: bool = False
    """As many as asked for; implies `gpu`."""
    gpu_device: bool = False
    """A device by name; implies `gpu`."""
    user_namespaces: bool = False
    workload_identity: bool = False
    """The user and group asked for are applied. Root is refused then (COMP01-IN-02); without it
    they are left to what runs inside the sandbox."""
    agent_socket_path: bool = False
    platform_config: frozenset[str] = frozenset()
    """The keys honoured: ``runtime_class_name``, ``annotations``, ``resources_raw``,
    ``volume_claim_templates``. ``host_users`` arrives as `SandboxTemplate.user_namespaces`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionPolicy:
    """What an operator lets sandboxes attach; it must be the one that the gateway is configured
    with, and stays the same while the process lives (COMP01-ADM-02, COMP01-ADM-03).

    The default is every 0.1.x gateway's default, whatever its labels are in that release, and
    right for a driver that attaches nothing from outside.
    """

    allow_driver_config: bool = False
    """Accept ``driver_config``; for a driver that declares `ComputeDriver.driver_config_model`."""
    enabled: bool | None = None
    """Whether external objects need the required labels; None for the gateway's default."""
    required_labels: Mapping[str, str] | None = None
    """Replace the gateway's default labels as a whole; None for those."""

    def acknowledgement(self) -> str:
        """Write it as capabilities carry it: ``v1:`` and JSON, without what is default."""
        import json

        admission: dict[str, Any] = {}
        if self.enabled is not None:
            admission["enabled"] = self.enabled
        if self.required_labels is not None:
            admission["required_labels"] = dict(sorted(self.required_labels.items()))
        policy: dict[str, Any] = {}
        if self.allow_driver_config:
            policy["allow_driver_config"] = True
        if admission:
            policy["resource_admission"] = admission
        return "v1:" + json.dumps(policy, separators=(",", ":"), ensure_ascii=False)
