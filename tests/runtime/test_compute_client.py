"""The compute client against a server on bare grpcio that knows nothing of the SDK's server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from openshell_drivers import Internal, NotFound, Secret, Unimplemented
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.client import Connection, connect
from openshell_drivers.compute import (
    ComputeResources,
    Condition,
    CreateScope,
    GpuRequest,
    ListenerRequirement,
    PlatformEvent,
    ResolvedIdentity,
    ResourceCapabilities,
    Sandbox,
    SandboxDeleted,
    SandboxHappening,
    SandboxRef,
    SandboxSeen,
    SandboxSpec,
    SandboxStatus,
    SandboxTemplate,
    WorkloadIdentity,
)
from openshell_drivers.reference.memory import Memory, MemoryConfig
from openshell_drivers.server import running

SERVICE = "openshell.compute.v1.ComputeDriver"
NOON = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)
REF = SandboxRef(id="id-1", name="box")

pytestmark = pytest.mark.anyio


class Server:
    """Answers each method from a table and keeps the requests."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.requests: list[Any] = []
        self.answers: dict[str, Any] = {}

    def unary(self, method: str, response: Any) -> None:
        self.answers[method] = response

    def _request_type(self, method: str) -> Any:
        name = {"WatchSandboxes": "WatchSandboxesRequest"}.get(method, f"{method}Request")
        return getattr(wire, name)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Connection]:
        def handler(method: str, response: Any) -> Any:
            async def answer(raw: bytes, context: Any) -> bytes:
                self.requests.append(self._request_type(method).FromString(raw))
                encoded: bytes = response.SerializeToString()
                return encoded

            async def answers(raw: bytes, context: Any) -> AsyncIterator[bytes]:
                for each in response:
                    yield each.SerializeToString()

            if isinstance(response, list):
                return grpc.unary_stream_rpc_method_handler(answers)
            return grpc.unary_unary_rpc_method_handler(answer)

        server = aio.server()
        table = {name: handler(name, response) for name, response in self.answers.items()}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, table)])
        server.add_insecure_port(f"unix:{self.socket}")
        await server.start()
        try:
            async with connect(self.socket) as connection:
                yield connection
        finally:
            await server.stop(0)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "driver.sock")


def full_spec() -> SandboxSpec:
    return SandboxSpec(
        id="id-1",
        name="box",
        workspace="team",
        template=SandboxTemplate(
            image="image:1",
            agent_socket_path="/run/agent.sock",
            labels={"a": "b"},
            environment={"LOW": "1"},
            resources=ComputeResources(cpu_request="500m", memory_limit="4Gi"),
            platform_config={"annotations": {"x": "y"}, "list": (1.0, True, None)},
            driver_config={"mount": "/data"},
            user_namespaces=False,
        ),
        environment={"HIGH": "2"},
        gpu=GpuRequest(count=2, device="nvidia0"),
        command=("/bin/bash", "-l"),
        tty=True,
        await_main_process_attachment=True,
        workload_identity=WorkloadIdentity(user="app"),
        policy=b"\x08\x01",
        sandbox_token=Secret("canary-token"),
        launch_authentication=Secret('{"gateway_id":"g"}'),
        log_level="debug",
    )


async def test_create_sends_every_field_of_a_spec(server: Server) -> None:
    server.unary("CreateSandbox", wire.CreateSandboxResponse(runtime_identity="uid:1"))

    async with server.serving() as connection:
        identity = await connection.compute.create_sandbox(full_spec())

    sent = server.requests[0].sandbox
    spec, template = sent.spec, sent.spec.template
    assert identity == "uid:1"
    assert (sent.id, sent.name, sent.workspace, sent.namespace) == ("id-1", "box", "team", "")
    assert not sent.HasField("status")
    assert (template.image, template.agent_socket_path) == ("image:1", "/run/agent.sock")
    assert (dict(template.labels), dict(template.environment)) == ({"a": "b"}, {"LOW": "1"})
    assert (template.resources.cpu_request, template.resources.memory_limit) == ("500m", "4Gi")
    assert template.platform_config["annotations"]["x"] == "y"
    assert list(template.platform_config["list"]) == [1.0, True, None]
    assert template.driver_config["mount"] == "/data"
    assert template.HasField("user_namespaces")
    assert not template.user_namespaces
    assert dict(spec.environment) == {"HIGH": "2"}
    assert (spec.resource_requirements.gpu.count, spec.gpu_device) == (2, "nvidia0")
    assert (list(spec.command), spec.tty) == (["/bin/bash", "-l"], True)
    assert spec.await_main_process_attachment
    assert spec.workload_identity.user == "app"
    assert (spec.policy, spec.log_level) == (b"\x08\x01", "debug")
    assert (spec.sandbox_token, spec.launch_authentication) == (
        "canary-token",
        b'{"gateway_id":"g"}',
    )


async def test_a_bare_spec_sends_no_message_that_means_a_request(server: Server) -> None:
    server.unary("ValidateSandboxCreate", wire.ValidateSandboxCreateResponse())

    async with server.serving() as connection:
        await connection.compute.validate_sandbox_create(SandboxSpec(id="i", name="n"))

    spec = server.requests[0].sandbox.spec
    absent = ("resource_requirements", "workload_identity")
    assert [name for name in absent if spec.HasField(name)] == []
    in_template = ("resources", "platform_config", "driver_config", "user_namespaces")
    assert [name for name in in_template if spec.template.HasField(name)] == []


async def test_a_gpu_without_a_count_is_present_without_a_count(server: Server) -> None:
    server.unary("CreateSandbox", wire.CreateSandboxResponse())

    async with server.serving() as connection:
        await connection.compute.create_sandbox(SandboxSpec(id="i", name="n", gpu=GpuRequest()))

    requirements = server.requests[0].sandbox.spec.resource_requirements
    assert requirements.HasField("gpu")
    assert not requirements.gpu.HasField("count")


def observed() -> tuple[wire.DriverSandbox, Sandbox]:
    stamp = Timestamp()
    stamp.FromDatetime(NOON)
    message = wire.DriverSandbox(id="id-1", name="box", workspace="team", namespace="ns")
    status = message.status
    status.name, status.instance_id = "box", "pod-1"
    status.agent_fd, status.sandbox_fd, status.deleting = "a", "s", True
    status.conditions.add(
        type="Ready", status="False", reason="Starting", message="m", transition_time=stamp
    )
    status.conditions.add(type="Old", status="True", last_transition_time="2026-11-21T12:00:00Z")
    status.conditions.add(type="Bad", status="True", last_transition_time="yesterday")
    status.resolved_identity.uid, status.resolved_identity.gid = 1000, 1001
    status.resolved_identity.supplementary_gids.append(7)
    status.fence_evidence.generation = "3"
    status.fence_evidence.resource_claims["c"] = "d"
    expected = Sandbox(
        id="id-1",
        name="box",
        workspace="team",
        namespace="ns",
        status=SandboxStatus(
            name="box",
            instance_id="pod-1",
            agent_fd="a",
            sandbox_fd="s",
            deleting=True,
            conditions=(
                Condition(
                    type="Ready",
                    status="False",
                    reason="Starting",
                    message="m",
                    transition_time=NOON,
                ),
                Condition(
                    type="Old",
                    status="True",
                    transition_time=datetime(2026, 11, 21, 12, tzinfo=UTC),
                ),
                Condition(type="Bad", status="True"),
            ),
            resolved_identity=ResolvedIdentity(uid=1000, gid=1001, supplementary_gids=(7,)),
            fence_generation="3",
            fence_claims={"c": "d"},
        ),
    )
    return message, expected


async def test_observations_arrive_whole(server: Server) -> None:
    message, expected = observed()
    server.unary("GetSandbox", wire.GetSandboxResponse(sandbox=message))
    bare = wire.DriverSandbox(id="id-2", name="other")
    server.unary("ListSandboxes", wire.ListSandboxesResponse(sandboxes=[message, bare]))

    async with server.serving() as connection:
        one = await connection.compute.get_sandbox(REF)
        everything = await connection.compute.list_sandboxes()

    assert one == expected
    assert everything == (expected, Sandbox(id="id-2", name="other"))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (wire.GetSandboxResponse(), NotFound),
        (wire.GetSandboxResponse(sandbox=wire.DriverSandbox(id="id-2")), Internal),
    ],
)
async def test_get_reads_an_odd_answer_as_gateways_do(
    server: Server, answer: wire.GetSandboxResponse, error: type[Exception]
) -> None:
    server.unary("GetSandbox", answer)

    async with server.serving() as connection:
        with pytest.raises(error):
            await connection.compute.get_sandbox(REF)


async def test_a_watch_gives_events_in_order_and_skips_empty_ones(server: Server) -> None:
    message, expected = observed()
    events = [wire.WatchSandboxesEvent() for _ in range(4)]
    events[0].sandbox.sandbox.CopyFrom(message)
    events[2].platform_event.sandbox_id = "id-1"
    events[2].platform_event.event.reason = "Pulled"
    events[2].platform_event.event.timestamp_ms = 1_000
    events[3].deleted.sandbox_id = "id-1"
    server.answers["WatchSandboxes"] = events

    async with (
        server.serving() as connection,
        aclosing(connection.compute.watch_sandboxes()) as watch,
    ):
        seen = [event async for event in watch]

    happening = PlatformEvent(
        reason="Pulled", type="", time=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    )
    assert seen == [
        SandboxSeen(sandbox=expected),
        SandboxHappening(sandbox_id="id-1", event=happening),
        SandboxDeleted(sandbox_id="id-1"),
    ]


async def test_a_watch_that_fails_raises_the_status(server: Server) -> None:
    async with server.serving() as connection:
        with pytest.raises(Unimplemented):
            async for _ in connection.compute.watch_sandboxes():
                pass


Call = Callable[[Connection], Any]


@pytest.mark.parametrize(
    ("method", "answer", "call", "request_", "result"),
    [
        (
            "StopSandbox",
            wire.StopSandboxResponse(),
            lambda c: c.compute.stop_sandbox(REF),
            wire.StopSandboxRequest(sandbox_id="id-1", name="box"),
            None,
        ),
        (
            "StartSandbox",
            wire.StartSandboxResponse(runtime_identity="u"),
            lambda c: c.compute.start_sandbox(
                REF,
                launch_authentication=Secret("{}"),
                generation_id="g",
                expected_runtime_identity="e",
            ),
            wire.StartSandboxRequest(
                sandbox_id="id-1",
                name="box",
                launch_authentication=b"{}",
                generation_id="g",
                expected_runtime_identity="e",
            ),
            "u",
        ),
        (
            "DeleteSandbox",
            wire.DeleteSandboxResponse(deleted=True),
            lambda c: c.compute.delete_sandbox(REF),
            wire.DeleteSandboxRequest(sandbox_id="id-1", name="box"),
            True,
        ),
        (
            "EnsureWorkspace",
            wire.EnsureWorkspaceResponse(),
            lambda c: c.compute.ensure_workspace("team"),
            wire.EnsureWorkspaceRequest(workspace="team"),
            None,
        ),
        (
            "DeleteWorkspace",
            wire.DeleteWorkspaceResponse(),
            lambda c: c.compute.delete_workspace("team"),
            wire.DeleteWorkspaceRequest(workspace="team"),
            None,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_small_calls_carry_their_fields(
    server: Server, method: str, answer: Any, call: Call, request_: Any, result: object
) -> None:
    server.unary(method, answer)

    async with server.serving() as connection:
        returned = await call(connection)

    assert server.requests == [request_]
    assert returned == result


async def test_capabilities_and_requirements_are_read_whole(server: Server) -> None:
    answer = wire.GetCapabilitiesResponse(
        driver_name="d",
        driver_version="1",
        default_image="i",
        gateway_manages_lifecycle=True,
        supports_sandbox_authentication=True,
        driver_reports_runtime_readiness=True,
        rootfs_tar_staging_dir="/stage",
        rootfs_tar_max_bytes=5,
        resource_admission_policy="v1:{}",
    )
    answer.resource_capabilities.gpu.count_selection_supported = True
    server.unary("GetCapabilities", answer)
    needed = wire.GetGatewayListenerRequirementsResponse()
    needed.requirements.add(reason="r", exact_bind_address="10.0.0.1:80")
    needed.requirements.add(reason="l").loopback_interface.SetInParent()
    server.unary("GetGatewayListenerRequirements", needed)
    server.unary(
        "AuthenticateSandbox",
        wire.AuthenticateSandboxResponse(sandbox_id="id-1", runtime_identity="u"),
    )

    async with server.serving() as connection:
        capabilities = await connection.compute.get_capabilities()
        requirements = await connection.compute.get_gateway_listener_requirements()
        authenticated = await connection.compute.authenticate_sandbox(Secret("credential"))

    assert capabilities.resources == ResourceCapabilities(gpu_default=False, gpu_count=True)
    assert capabilities.rootfs_tar_max_bytes == 5
    assert capabilities.resource_admission_policy == "v1:{}"
    assert server.requests[0].gateway.protocol_version.major == 1
    assert requirements == (
        ListenerRequirement(reason="r", exact_bind_address="10.0.0.1:80"),
        ListenerRequirement(reason="l", loopback_interface=True),
    )
    assert (authenticated.sandbox_id, authenticated.runtime_identity) == ("id-1", "u")


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 13, 40])
async def test_a_scope_that_ends_a_call_ends_nothing_else(socket_path: Path, steps: int) -> None:
    """Wherever grpcio is: its own CancelledError is none that a scope knows."""

    class Stuck(Memory):
        async def create_sandbox(self, spec: SandboxSpec, scope: CreateScope) -> str:
            await anyio.sleep_forever()
            raise AssertionError

    async def step(scope: anyio.CancelScope) -> None:
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    driver = Stuck(MemoryConfig())
    async with (
        running(driver, socket=socket_path),
        connect(socket_path) as connection,
        anyio.create_task_group() as tasks,
    ):
        with anyio.CancelScope() as scope:
            tasks.start_soon(step, scope)
            await connection.compute.create_sandbox(SandboxSpec(id="a", name="a"))
        with anyio.CancelScope() as watch:
            tasks.start_soon(step, watch)
            async for _ in connection.compute.watch_sandboxes():
                pass

    assert (scope.cancelled_caught, watch.cancelled_caught) == (True, True)


def test_a_spec_shows_no_secret() -> None:
    assert "canary" not in repr(full_spec())
