"""Every field of compute is read, written, or left alone for a stated reason: the server's side.

As in test_codecs.py, by execution. That the superset has all fields of all revisions is held by
test_drift.py; here, that every RPC of theirs is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from openshell_drivers._codec import compute_server as codec
from openshell_drivers._codec import extension
from openshell_drivers._codec.compute import FAMILY
from openshell_drivers._revisions import revisions
from openshell_drivers._services.compute import service
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.compute import (
    ComputeCapabilities,
    Condition,
    ListenerRequirement,
    PlatformEvent,
    ResolvedIdentity,
    ResourceCapabilities,
    Sandbox,
    SandboxStatus,
)
from tests.wire.compute_gateway import memory, peer
from tests.wire.test_codecs import covered, is_map, is_repeated, outcome, parents, spelled

NOON: Final = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)
SANDBOX: Final = wire.DriverSandbox(
    id="id-1",
    name="box",
    workspace="team",
    spec=wire.DriverSandboxSpec(
        environment={"A": "a"},
        template=wire.DriverSandboxTemplate(
            image="i",
            labels={"a": "b"},
            environment={"B": "b"},
            resources=wire.DriverResourceRequirements(cpu_limit="1"),
            user_namespaces=True,
        ),
        resource_requirements=wire.ResourceRequirements(gpu=wire.GpuResourceRequirements(count=2)),
        command=["a"],
        workload_identity=wire.WorkloadIdentityRequest(user="u"),
    ),
)
SANDBOX.spec.template.platform_config["a"] = "b"
SANDBOX.spec.template.driver_config["a"] = "b"
_MIRROR = "it mirrors what the gateway knows already (COMP-IN-01)"
_OURS = {"sandbox.namespace": _MIRROR, "sandbox.status": _MIRROR}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A request, the server's decoder, and what that leaves alone."""

    example: Message
    decode: Callable[[Any], object]
    ignored: dict[str, str]


def _ref(message: Any) -> object:
    ref = codec.decode_ref(message)
    return ref.id, ref.name


READ: Final = [
    Reading(
        example=wire.GetCapabilitiesRequest(gateway=peer()),
        decode=lambda message: extension.judge(message.gateway, FAMILY),
        ignored={"gateway.protocol_version.minor": "minor versions may differ either way"},
    ),
    Reading(
        example=wire.ValidateSandboxCreateRequest(sandbox=SANDBOX),
        decode=codec.decode_spec,
        ignored=_OURS,
    ),
    Reading(
        example=wire.CreateSandboxRequest(sandbox=SANDBOX),
        decode=codec.decode_spec,
        ignored=_OURS,
    ),
    *(
        Reading(example=kind(sandbox_id="id-1", name="box"), decode=_ref, ignored={})
        for kind in (wire.GetSandboxRequest, wire.StopSandboxRequest, wire.DeleteSandboxRequest)
    ),
    Reading(
        example=wire.StartSandboxRequest(sandbox_id="id-1", name="box"),
        decode=lambda message: (_ref(message), codec.decode_start(message)),
        ignored={},
    ),
]
#: read and written in one line of the service; tests over the wire hold them
PLAIN: Final = {
    "AuthenticateSandboxRequest",
    "AuthenticateSandboxResponse",
    "CreateSandboxResponse",
    "StartSandboxResponse",
    "DeleteSandboxResponse",
    "EnsureWorkspaceRequest",
    "DeleteWorkspaceRequest",
}
OBSERVED: Final = codec.encode_sandbox_item(
    Sandbox(
        id="id-1",
        name="box",
        workspace="team",
        status=SandboxStatus(
            name="box",
            instance_id="i",
            agent_fd="a",
            sandbox_fd="s",
            conditions=(
                Condition(type="T", status="S", reason="R", message="M", transition_time=NOON),
            ),
            deleting=True,
            resolved_identity=ResolvedIdentity(
                uid=1, gid=2, supplementary_gids=(3,), source="s", resource_digest="d"
            ),
            fence_generation="g",
            fence_digest="d",
            fence_claims={"a": "b"},
        ),
    )
)
EVENT: Final = PlatformEvent(reason="R", message="M", time=NOON, metadata={"a": "b"})
_SECRET = "an observation repeats no request (COMP-SEC-02)"
_EMPTY = "gateways leave it empty"


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Answers of one type, which together have every field, but for those never written."""

    written: Sequence[Message]
    never: dict[str, str]


def _never(prefix: str) -> dict[str, str]:
    return {f"{prefix}spec": _SECRET, f"{prefix}namespace": _EMPTY}


WRITTEN: Final = [
    Writing(
        written=[
            codec.encode_capabilities(
                ComputeCapabilities(
                    driver_name="n",
                    driver_version="v",
                    default_image="i",
                    gateway_manages_lifecycle=True,
                    supports_sandbox_authentication=True,
                    driver_reports_runtime_readiness=True,
                    resources=ResourceCapabilities(
                        cpu_limit=True, memory_limit=True, gpu_default=True, gpu_count=True
                    ),
                    rootfs_tar_staging_dir="/d",
                    rootfs_tar_max_bytes=1,
                    resource_admission_policy="v1:{}",
                )
            )
        ],
        never={
            "extension.protocol_version.minor": "ours is 1.0",
            "supports_gpu": "the kagenti line has it, and no gateway reads it",
            "gpu_count": "as above",
        },
    ),
    Writing(
        written=[wire.GetSandboxResponse.FromString(codec.get_response(OBSERVED))],
        never=_never("sandbox."),
    ),
    Writing(
        written=[wire.ListSandboxesResponse.FromString(codec.list_response([OBSERVED]))],
        never=_never("sandboxes."),
    ),
    Writing(
        written=[
            wire.WatchSandboxesEvent.FromString(codec.seen_event(OBSERVED)),
            codec.encode_deleted("id-1"),
            codec.encode_happening("id-1", EVENT, "source"),
        ],
        never=_never("sandbox.sandbox."),
    ),
    Writing(
        written=[
            wire.GetGatewayListenerRequirementsResponse(
                requirements=[
                    codec.encode_requirement(each)
                    for each in (
                        ListenerRequirement(reason="r", exact_bind_address="10.0.0.1:1"),
                        ListenerRequirement(reason="r", default_route_interface=True),
                        ListenerRequirement(reason="r", loopback_interface=True),
                    )
                ]
            )
        ],
        never={},
    ),
]


def paths(descriptor: Any) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Give every field below a message; google's own messages are one value."""
    for field in descriptor.fields:
        yield (field,)
        kind = field.message_type
        if kind is not None and not is_map(field) and not kind.full_name.startswith("google."):
            for rest in paths(kind):
                yield (field, *rest)


def changes(example: Message, path: Sequence[FieldDescriptor]) -> Iterator[Message]:
    """Give copies of a message in which one field alone has another value."""
    field = path[-1]
    for value in _others(field):
        whole = type(example)()
        whole.CopyFrom(example)
        holder = next(parents(whole, path), None)
        if holder is None:
            return
        if is_map(field):
            getattr(holder, field.name)["more"] = "text"
        elif value is None:
            holder.ClearField(field.name)
        elif is_repeated(field):
            getattr(holder, field.name).append(value)
        else:
            setattr(holder, field.name, value)
        yield whole


def _others(field: FieldDescriptor) -> list[Any]:
    if field.message_type is not None:
        return [None]
    if field.type == FieldDescriptor.TYPE_BYTES:
        return [b"other"]
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return ["other", None]
    return [True, None] if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else [7, None]


def name_of(case: Reading | Writing) -> str:
    message = case.example if isinstance(case, Reading) else case.written[0]
    return message.DESCRIPTOR.name


@pytest.mark.parametrize("case", READ, ids=name_of)
def test_every_field_of_a_compute_request_is_read_or_left_alone_for_a_reason(
    case: Reading,
) -> None:
    for path in paths(case.example.DESCRIPTOR):
        is_read = any(
            outcome(case.decode, changed) != outcome(case.decode, case.example)
            for changed in changes(case.example, path)
        )
        assert is_read is not covered(path, case.ignored), spelled(path)


@pytest.mark.parametrize("case", WRITTEN, ids=name_of)
def test_every_field_of_a_compute_answer_is_written_or_never_for_a_reason(case: Writing) -> None:
    for path in paths(case.written[0].DESCRIPTOR):
        is_written = any(
            path[-1].name in {field.name for field, _ in holder.ListFields()}
            for message in case.written
            for holder in parents(message, path)
        )
        assert is_written is not covered(path, case.never), spelled(path)


@pytest.mark.parametrize("case", [*READ, *WRITTEN], ids=name_of)
def test_a_reason_names_a_field_that_there_is(case: Reading | Writing) -> None:
    reasons = case.ignored if isinstance(case, Reading) else case.never
    message = case.example if isinstance(case, Reading) else case.written[0]

    assert set(reasons) <= {spelled(path) for path in paths(message.DESCRIPTOR)}
    assert all(reasons.values())


def test_every_message_of_the_compute_service_is_under_test() -> None:
    tested = {*map(name_of, READ), *map(name_of, WRITTEN)} | PLAIN
    (described,) = wire.DESCRIPTOR.services_by_name.values()

    for method in described.methods:
        for message in (method.input_type, method.output_type):
            assert message.name in tested or not message.fields, message.name


@pytest.mark.parametrize("revision", list(revisions()))
def test_every_compute_rpc_of_a_revision_is_served(revision: str) -> None:
    served = {method.name: method for method in service(memory()).methods}

    for rpc in revisions()[revision].contracts["compute_driver"].rpcs.values():
        assert rpc.name in served
        assert served[rpc.name].request.DESCRIPTOR.name == rpc.request
