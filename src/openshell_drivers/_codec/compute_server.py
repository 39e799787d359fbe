"""Domain <-> wire for `ComputeDriver`, as a server needs it: requests in, observations out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from google.protobuf.unknown_fields import UnknownFieldSet

from openshell_drivers._abilities import ComputeCapabilities, ListenerRequirement
from openshell_drivers._codec import extension
from openshell_drivers._codec.compute import FAMILY, decode_json
from openshell_drivers._codec.times import to_milliseconds, to_timestamp
from openshell_drivers._faults import WrongValue
from openshell_drivers._guards import require_id
from openshell_drivers._sandboxes import (
    ComputeResources,
    Condition,
    GpuRequest,
    PlatformEvent,
    ResolvedIdentity,
    Sandbox,
    SandboxRef,
    SandboxSpec,
    SandboxStatus,
    SandboxTemplate,
    StartRequest,
    WorkloadIdentity,
)
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.errors import InvalidArgument
from openshell_drivers.secrets import Secret

_GPU_FIELD: Final = 9
_VARINT: Final = 0
#: field 1, length-delimited: a sandbox in a list, the same in a watch's sandbox event, and that
#: event in a watch's message
_FIRST: Final = b"\x0a"


def decode_ref(
    request: wire.GetSandboxRequest
    | wire.StopSandboxRequest
    | wire.StartSandboxRequest
    | wire.DeleteSandboxRequest,
) -> SandboxRef:
    """Read which sandbox is meant. Its id decides, and without one none is (COMP-GET-06)."""
    return SandboxRef(id=require_id(request.sandbox_id), name=request.name)


def decode_start(request: wire.StartSandboxRequest) -> StartRequest:
    return StartRequest(
        launch_authentication=_secret_bytes(request.launch_authentication),
        generation_id=request.generation_id,
        expected_runtime_identity=request.expected_runtime_identity,
    )


def decode_spec(
    request: wire.ValidateSandboxCreateRequest | wire.CreateSandboxRequest,
) -> SandboxSpec:
    """Read what is to be created; namespace and status say nothing (COMP-IN-01)."""
    if not request.HasField("sandbox"):
        raise InvalidArgument("the request has no sandbox")
    sandbox, spec = request.sandbox, request.sandbox.spec
    identity = spec.workload_identity if spec.HasField("workload_identity") else None
    return SandboxSpec(
        id=sandbox.id,
        name=sandbox.name,
        workspace=sandbox.workspace,
        template=_decode_template(spec.template),
        environment=MappingProxyType(dict(spec.environment)),
        gpu=_decode_gpu(spec),
        command=tuple(spec.command),
        tty=spec.tty,
        await_main_process_attachment=spec.await_main_process_attachment,
        workload_identity=None
        if identity is None
        else WorkloadIdentity(user=identity.user, group=identity.group),
        policy=spec.policy,
        sandbox_token=Secret(spec.sandbox_token) if spec.sandbox_token else None,
        launch_authentication=_secret_bytes(spec.launch_authentication),
        log_level=spec.log_level,
    )


def _secret_bytes(raw: bytes) -> Secret | None:
    try:
        return Secret(raw.decode()) if raw else None
    except UnicodeDecodeError:
        raise InvalidArgument("launch_authentication is not UTF-8") from None


def _decode_gpu(spec: wire.DriverSandboxSpec) -> GpuRequest | None:
    """Read either line's wish for a GPU: a message since 0.0.69, before that a bool under the same
    number, which is an unknown field here (COMP-IN-07)."""
    if spec.resource_requirements.HasField("gpu"):
        gpu = spec.resource_requirements.gpu
        return GpuRequest(
            count=gpu.count if gpu.HasField("count") else None, device=spec.gpu_device
        )
    wanted = False
    for field in UnknownFieldSet(spec):  # type: ignore[attr-defined]  # it is a sequence
        if field.field_number == _GPU_FIELD and field.wire_type == _VARINT:
            wanted = bool(field.data)  # the last one counts
    return GpuRequest(device=spec.gpu_device) if wanted else None


def _decode_template(template: wire.DriverSandboxTemplate) -> SandboxTemplate:
    namespaces = template.user_namespaces if template.HasField("user_namespaces") else None
    return SandboxTemplate(
        image=template.image,
        agent_socket_path=template.agent_socket_path,
        labels=MappingProxyType(dict(template.labels)),
        environment=MappingProxyType(dict(template.environment)),
        resources=_decode_resources(template.resources) if template.HasField("resources") else None,
        platform_config=decode_json(template.platform_config),
        driver_config=decode_json(template.driver_config),
        user_namespaces=namespaces,
    )


def _decode_resources(message: wire.DriverResourceRequirements) -> ComputeResources:
    return ComputeResources(
        cpu_request=message.cpu_request,
        cpu_limit=message.cpu_limit,
        memory_request=message.memory_request,
        memory_limit=message.memory_limit,
    )


def encode_sandbox_item(sandbox: Sandbox, *, brief: bool = False) -> bytes:
    """Write an observation as it stands in a list and in a watch; never a spec (COMP-SEC-02).
    `brief` leaves out the messages for people."""
    message = wire.DriverSandbox(id=sandbox.id, name=sandbox.name, workspace=sandbox.workspace)
    if sandbox.status is not None:
        _write_status(sandbox.status, message.status)
        if brief:
            for condition in message.status.conditions:
                condition.ClearField("message")
    return _framed(message.SerializeToString())


def get_response(item: bytes) -> bytes:
    """Write a get's answer."""
    return item


def list_response(items: Iterable[bytes]) -> bytes:
    """Write a list's answer."""
    return b"".join(items)


def seen_event(item: bytes) -> bytes:
    """Write a watch's message for a sandbox."""
    return _framed(item)


def _framed(raw: bytes) -> bytes:
    length, size = len(raw), bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return _FIRST + bytes(size) + raw


def _write_status(status: SandboxStatus, message: wire.DriverSandboxStatus) -> None:
    """Write in place: a message given to another one is copied."""
    message.SetInParent()
    message.name = status.name
    message.instance_id = status.instance_id
    message.agent_fd = status.agent_fd
    message.sandbox_fd = status.sandbox_fd
    message.deleting = status.deleting
    for condition in status.conditions:
        _write_condition(condition, message.conditions.add())
    if status.resolved_identity is not None:
        message.resolved_identity.CopyFrom(_encode_identity(status.resolved_identity))
    if status.fence_generation or status.fence_digest or status.fence_claims:
        evidence = message.fence_evidence
        evidence.generation = status.fence_generation
        evidence.evidence_digest = status.fence_digest
        evidence.resource_claims.update(status.fence_claims)


def _encode_identity(identity: ResolvedIdentity) -> wire.ResolvedWorkloadIdentity:
    return wire.ResolvedWorkloadIdentity(
        uid=identity.uid,
        gid=identity.gid,
        supplementary_gids=identity.supplementary_gids,
        source=identity.source,
        resource_digest=identity.resource_digest,
    )


def _write_condition(condition: Condition, message: wire.DriverCondition) -> None:
    """Write a condition with its time in both forms, the same instant (COMPAT01-04)."""
    message.type = condition.type
    message.status = condition.status
    message.reason = condition.reason
    message.message = condition.message
    if condition.transition_time is not None:
        stamp = to_timestamp(condition.transition_time)
        message.transition_time.CopyFrom(stamp)
        message.last_transition_time = stamp.ToJsonString()


def encode_deleted(sandbox_id: str) -> wire.WatchSandboxesEvent:
    return wire.WatchSandboxesEvent(deleted=wire.WatchSandboxesDeletedEvent(sandbox_id=sandbox_id))


def encode_happening(
    sandbox_id: str, event: PlatformEvent, source: str
) -> wire.WatchSandboxesEvent:
    """Write a platform event, with its time in both forms."""
    time = event.time or datetime.now(UTC)
    return wire.WatchSandboxesEvent(
        platform_event=wire.WatchSandboxesPlatformEvent(
            sandbox_id=sandbox_id,
            event=wire.DriverPlatformEvent(
                timestamp_ms=to_milliseconds(time),
                event_time=to_timestamp(time),
                source=event.source or source,
                type=event.type,
                reason=event.reason,
                message=event.message,
                metadata=event.metadata,
            ),
        )
    )


def encode_capabilities(capabilities: ComputeCapabilities) -> wire.GetCapabilitiesResponse:
    """Write what every line reads, in one answer (COMPAT01-01)."""
    resources = capabilities.resources
    return wire.GetCapabilitiesResponse(
        driver_name=capabilities.driver_name,
        driver_version=capabilities.driver_version,
        default_image=capabilities.default_image,
        gateway_manages_lifecycle=capabilities.gateway_manages_lifecycle,
        supports_sandbox_authentication=capabilities.supports_sandbox_authentication,
        driver_reports_runtime_readiness=capabilities.driver_reports_runtime_readiness,
        resource_capabilities=wire.ResourceCapabilities(
            cpu=wire.CpuResourceCapabilities(limit_supported=bool(resources.cpu_limit)),
            memory=wire.MemoryResourceCapabilities(limit_supported=bool(resources.memory_limit)),
            gpu=wire.GpuResourceCapabilities(
                default_selection_supported=bool(resources.gpu_default),
                count_selection_supported=bool(resources.gpu_count),
            ),
        ),
        rootfs_tar_staging_dir=capabilities.rootfs_tar_staging_dir,
        rootfs_tar_max_bytes=capabilities.rootfs_tar_max_bytes,
        extension=extension.metadata(FAMILY, capabilities.driver_name, capabilities.driver_version),
        resource_admission_policy=capabilities.resource_admission_policy,
    )


def encode_requirement(requirement: ListenerRequirement) -> wire.GatewayListenerRequirement:
    message = wire.GatewayListenerRequirement(reason=requirement.reason)
    if requirement.exact_bind_address:
        message.exact_bind_address = requirement.exact_bind_address
    elif requirement.default_route_interface:
        message.default_route_interface.SetInParent()
    elif requirement.loopback_interface:
        message.loopback_interface.SetInParent()
    else:  # a gateway does not start with one that says nowhere (COMP-LSN-02)
        raise WrongValue("a listener requirement says where to listen")
    return message
