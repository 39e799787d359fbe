"""Domain <-> wire for `ComputeDriver`, as a caller needs it: requests out, observations in.

The server's half is `compute_server`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from google.protobuf import struct_pb2

from openshell_drivers._codec.times import from_milliseconds, from_timestamp
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.compute import (
    ComputeCapabilities,
    ComputeResources,
    Condition,
    GpuRequest,
    Json,
    ListenerRequirement,
    PlatformEvent,
    ResolvedIdentity,
    ResourceCapabilities,
    Sandbox,
    SandboxDeleted,
    SandboxHappening,
    SandboxSeen,
    SandboxSpec,
    SandboxStatus,
    SandboxTemplate,
    WatchEvent,
)
from openshell_drivers.secrets import Secret

FAMILY = "compute"


def encode_sandbox(spec: SandboxSpec) -> wire.DriverSandbox:
    """Write a sandbox that is to be; namespace and status stay empty (COMP-IN-01)."""
    return wire.DriverSandbox(
        id=spec.id, name=spec.name, workspace=spec.workspace, spec=_encode_spec(spec)
    )


def _encode_spec(spec: SandboxSpec) -> wire.DriverSandboxSpec:
    message = wire.DriverSandboxSpec(
        log_level=spec.log_level,
        environment=dict(spec.environment),
        template=_encode_template(spec.template),
        policy=spec.policy,
        sandbox_token=_reveal(spec.sandbox_token),
        command=spec.command,
        tty=spec.tty,
        await_main_process_attachment=spec.await_main_process_attachment,
        launch_authentication=encode_secret_bytes(spec.launch_authentication),
    )
    if spec.workload_identity is not None:
        message.workload_identity.user = spec.workload_identity.user
        message.workload_identity.group = spec.workload_identity.group
        message.workload_identity.SetInParent()
    if spec.gpu is not None:
        _encode_gpu(spec.gpu, message)
    return message


def _encode_gpu(gpu: GpuRequest, message: wire.DriverSandboxSpec) -> None:
    message.gpu_device = gpu.device
    message.resource_requirements.gpu.SetInParent()
    if gpu.count is not None:
        message.resource_requirements.gpu.count = gpu.count


def _reveal(secret: Secret | None) -> str:
    return "" if secret is None else secret.reveal()


def encode_secret_bytes(secret: Secret | None) -> bytes:
    """Write a secret that travels as bytes; empty for None."""
    return _reveal(secret).encode()


def _encode_template(template: SandboxTemplate) -> wire.DriverSandboxTemplate:
    message = wire.DriverSandboxTemplate(
        image=template.image,
        agent_socket_path=template.agent_socket_path,
        labels=dict(template.labels),
        environment=dict(template.environment),
        user_namespaces=template.user_namespaces,
    )
    if template.resources is not None:
        message.resources.CopyFrom(_encode_resources(template.resources))
    if template.platform_config:
        message.platform_config.update(_plain(template.platform_config))
    if template.driver_config:
        message.driver_config.update(_plain(template.driver_config))
    return message


def _encode_resources(resources: ComputeResources) -> wire.DriverResourceRequirements:
    return wire.DriverResourceRequirements(
        cpu_request=resources.cpu_request,
        cpu_limit=resources.cpu_limit,
        memory_request=resources.memory_request,
        memory_limit=resources.memory_limit,
    )


def _plain(value: Json) -> Any:
    """Give JSON in the mutable types that Struct takes."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def decode_json(message: struct_pb2.Struct) -> Mapping[str, Json]:
    """Read a Struct into JSON that cannot be changed."""
    return MappingProxyType({key: _frozen(value) for key, value in message.fields.items()})


def _frozen(value: struct_pb2.Value) -> Json:
    match value.WhichOneof("kind"):
        case "struct_value":
            return decode_json(value.struct_value)
        case "list_value":
            return tuple(_frozen(each) for each in value.list_value.values)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "number_value":
            return value.number_value
        case _:
            return None


def decode_sandbox(message: wire.DriverSandbox) -> Sandbox:
    """Read an observation; a spec in it is not looked at (COMP-SEC-02)."""
    return Sandbox(
        id=message.id,
        name=message.name,
        workspace=message.workspace,
        namespace=message.namespace,
        status=_decode_status(message.status) if message.HasField("status") else None,
    )


def _decode_status(message: wire.DriverSandboxStatus) -> SandboxStatus:
    identity = message.resolved_identity if message.HasField("resolved_identity") else None
    return SandboxStatus(
        name=message.name,
        instance_id=message.instance_id,
        agent_fd=message.agent_fd,
        sandbox_fd=message.sandbox_fd,
        conditions=tuple(_decode_condition(each) for each in message.conditions),
        deleting=message.deleting,
        resolved_identity=None if identity is None else _decode_identity(identity),
        fence_generation=message.fence_evidence.generation,
        fence_digest=message.fence_evidence.evidence_digest,
        fence_claims=MappingProxyType(dict(message.fence_evidence.resource_claims)),
    )


def _decode_identity(message: wire.ResolvedWorkloadIdentity) -> ResolvedIdentity:
    return ResolvedIdentity(
        uid=message.uid,
        gid=message.gid,
        supplementary_gids=tuple(message.supplementary_gids),
        source=message.source,
        resource_digest=message.resource_digest,
    )


def _decode_condition(message: wire.DriverCondition) -> Condition:
    if message.HasField("transition_time"):
        time = from_timestamp(message.transition_time)
    else:
        time = _from_text(message.last_transition_time)
    return Condition(
        type=message.type,
        status=message.status,
        reason=message.reason,
        message=message.message,
        transition_time=time,
    )


def _from_text(text: str) -> datetime | None:
    """Read RFC 3339; what names no instant gives None, as no gateway reads it either."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.utcoffset() is not None else None


def decode_event(message: wire.WatchSandboxesEvent) -> WatchEvent | None:
    """Read an event of a watch; an empty one gives None and is to be ignored."""
    match message.WhichOneof("payload"):
        case "sandbox":
            return SandboxSeen(sandbox=decode_sandbox(message.sandbox.sandbox))
        case "deleted":
            return SandboxDeleted(sandbox_id=message.deleted.sandbox_id)
        case "platform_event":
            happening = message.platform_event
            return SandboxHappening(
                sandbox_id=happening.sandbox_id, event=_decode_happening(happening.event)
            )
        case _:
            return None


def _decode_happening(message: wire.DriverPlatformEvent) -> PlatformEvent:
    if message.HasField("event_time"):
        time = from_timestamp(message.event_time)
    else:
        time = from_milliseconds(message.timestamp_ms)
    return PlatformEvent(
        reason=message.reason,
        message=message.message,
        type=message.type,
        source=message.source,
        time=time,
        metadata=MappingProxyType(dict(message.metadata)),
    )


def decode_capabilities(message: wire.GetCapabilitiesResponse) -> ComputeCapabilities:
    return ComputeCapabilities(
        driver_name=message.driver_name,
        driver_version=message.driver_version,
        default_image=message.default_image,
        gateway_manages_lifecycle=message.gateway_manages_lifecycle,
        supports_sandbox_authentication=message.supports_sandbox_authentication,
        driver_reports_runtime_readiness=message.driver_reports_runtime_readiness,
        resources=_decode_resource_capabilities(message.resource_capabilities),
        rootfs_tar_staging_dir=message.rootfs_tar_staging_dir,
        rootfs_tar_max_bytes=message.rootfs_tar_max_bytes,
        resource_admission_policy=message.resource_admission_policy,
    )


def _decode_resource_capabilities(message: wire.ResourceCapabilities) -> ResourceCapabilities:
    gpu = message.gpu if message.HasField("gpu") else None
    return ResourceCapabilities(
        cpu_limit=message.cpu.limit_supported if message.HasField("cpu") else None,
        memory_limit=message.memory.limit_supported if message.HasField("memory") else None,
        gpu_default=None if gpu is None else gpu.default_selection_supported,
        gpu_count=None if gpu is None else gpu.count_selection_supported,
    )


def decode_requirement(message: wire.GatewayListenerRequirement) -> ListenerRequirement:
    selector = message.WhichOneof("selector")
    return ListenerRequirement(
        reason=message.reason,
        exact_bind_address=message.exact_bind_address,
        default_route_interface=selector == "default_route_interface",
        loopback_interface=selector == "loopback_interface",
    )
