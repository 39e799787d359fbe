"""Be the compute gateway of one line, with that line's own schema, in a process of its own.

Run as ``python compute_plain_client.py FOLDER REVISION SOCKET`` with the modules that protoc made
of the revision's schema in FOLDER, against `openshell_drivers.reference.memory.Memory`. It uses
protobuf's default pool and must never import openshell_drivers.
"""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

SECONDS = 30.0
CONTRACT = "openshell.compute.contract"
LAUNCH = "openshell.compute.launch-authentication"
CODE = grpc.StatusCode
CANARY = "canary-2b7e15"
PASSING = {
    *("Starting", "DependenciesNotReady", "ContainerStarting", "HealthCheckStarting"),
    *("ReconcilerError", "InspectFailed"),
}


def unknown(message: Any) -> dict[int, Any]:
    """What came that the schema does not have, by number."""
    fields: Any = UnknownFieldSet(message)
    return {field.field_number: field.data for field in fields}


def refused(call: Any, *arguments: Any) -> Any:
    try:
        call(*arguments, timeout=SECONDS)
    except grpc.RpcError as error:
        failed: Any = error
        assert CANARY not in failed.details()
        return failed.code()
    return None


def instant(text: str) -> datetime:
    """Read RFC 3339 as chrono does."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text), text
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def of_stamp(stamp: Any) -> datetime:
    assert 0 <= stamp.nanos < 1_000_000_000
    assert -62_135_596_800 <= stamp.seconds <= 253_402_300_799
    return datetime.fromtimestamp(stamp.seconds, UTC).replace(microsecond=stamp.nanos // 1000)


def is_recent(moment: datetime) -> bool:
    return abs((datetime.now(UTC) - moment).total_seconds()) < 60


class Line:
    """What all lines do."""

    second = "sandbox_name"
    has_start = True
    has_workspaces = True

    def __init__(self, channel: grpc.Channel, revision: str) -> None:
        self.wire: Any = importlib.import_module("compute_driver_pb2")
        self.channel = channel
        self.revision = revision
        self.stub = importlib.import_module("compute_driver_pb2_grpc").ComputeDriverStub(channel)
        self.events = 0

    def check(self) -> None:
        self.capabilities(self.stub.GetCapabilities(self.hello(), timeout=SECONDS))
        self.listener_requirements()
        watching = self.stub.WatchSandboxes(self.wire.WatchSandboxesRequest())
        began = time.monotonic()
        watching.initial_metadata()
        assert time.monotonic() - began < 1, "headers are late"

        sandbox = self.sandbox("id-1", "bøx")
        assert refused(self.stub.ValidateSandboxCreate, self.validate(sandbox)) is None
        assert not self.listed()
        self.refusals()
        self.created(self.stub.CreateSandbox(self.create(sandbox), timeout=SECONDS))
        assert set(self.listed()) == {"id-1"}
        assert refused(self.stub.CreateSandbox, self.create(sandbox)) is CODE.ALREADY_EXISTS
        self.until(watching, self.is_ready)
        self.until_get(self.is_ready)
        assert set(self.listed()) == {"id-1"}

        if self.has_workspaces:
            self.workspaces()
        self.stop_and_start(watching)
        self.failing(watching)
        assert self.delete("id-1").deleted is True
        self.until_deleted(watching, "id-1")
        assert self.delete("id-1").deleted is False
        assert refused(self.stub.GetSandbox, self.ref("GetSandbox", "id-1")) is CODE.NOT_FOUND
        assert not self.listed()
        watching.cancel()

    # Requests

    def hello(self) -> Any:
        request = self.wire.GetCapabilitiesRequest()
        assert request.SerializeToString() == b""
        return request

    def sandbox(self, sandbox_id: str, name: str, **spec: Any) -> Any:
        template = {
            "image": "image",
            "labels": {"team": "a"},
            "environment": {"A": CANARY},
            "resources": {"cpu_request": "500m", "memory_limit": "2Gi"},
            **spec.pop("template", {}),
        }
        return self.wire.DriverSandbox(
            id=sandbox_id,
            name=name,
            spec={"log_level": "info", "environment": {"B": CANARY}, "template": template, **spec},
        )

    def validate(self, sandbox: Any) -> Any:
        return self.wire.ValidateSandboxCreateRequest(sandbox=sandbox)

    def create(self, sandbox: Any) -> Any:
        return self.wire.CreateSandboxRequest(sandbox=sandbox)

    def ref(self, method: str, sandbox_id: str, **more: Any) -> Any:
        kind = getattr(self.wire, f"{method}Request")
        return kind(sandbox_id=sandbox_id, **{self.second: "a name that decides nothing"}, **more)

    def delete(self, sandbox_id: str) -> Any:
        return self.stub.DeleteSandbox(self.ref("DeleteSandbox", sandbox_id), timeout=SECONDS)

    # Answers

    def capabilities(self, answer: Any) -> None:
        assert answer.driver_name == "memory"
        assert answer.driver_version.strip()
        assert answer.default_image == "memory/default"

    def listener_requirements(self) -> None:
        """Only one line asks."""

    def created(self, answer: Any) -> None:
        """Older lines take nothing from it."""

    def listed(self) -> dict[str, Any]:
        answer = self.stub.ListSandboxes(self.wire.ListSandboxesRequest(), timeout=SECONDS)
        for each in answer.sandboxes:
            self.observation(each)
        assert [each.id for each in answer.sandboxes] == sorted({s.id for s in answer.sandboxes})
        return {each.id: each for each in answer.sandboxes}

    def get(self, sandbox_id: str) -> Any:
        answer = self.stub.GetSandbox(self.ref("GetSandbox", sandbox_id), timeout=SECONDS)
        assert answer.HasField("sandbox")
        self.observation(answer.sandbox)
        assert answer.sandbox.id == sandbox_id
        return answer.sandbox

    def observation(self, sandbox: Any) -> None:
        """Refuse what some gateway misreads."""
        assert not sandbox.HasField("spec")
        assert sandbox.HasField("status")
        assert not sandbox.namespace
        assert CANARY not in str(sandbox)
        assert getattr(sandbox.status, self.second) == sandbox.name
        conditions = sandbox.status.conditions
        types = [each.type for each in conditions]
        assert len(set(map(str.lower, types))) == len(types)
        assert "Ready" in types
        assert set(types) <= {"Ready", "Suspended"}
        for each in conditions:
            assert each.status in {"True", "False", "Unknown"}
            assert re.fullmatch("[A-Za-z][A-Za-z0-9]*", each.reason)
            assert each.message.isprintable()
            self.condition_time(each)

    def condition_time(self, condition: Any) -> None:
        raise NotImplementedError

    def event_time(self, event: Any) -> None:
        raise NotImplementedError

    def conditions(self, sandbox: Any) -> dict[str, tuple[str, str]]:
        return {each.type: (each.status, each.reason) for each in sandbox.status.conditions}

    def is_ready(self, sandbox: Any) -> bool:
        found = self.conditions(sandbox)
        if found["Ready"] == ("True", "Running"):
            assert "Suspended" not in found
            return True
        assert found["Ready"][0] == "False"
        assert found["Ready"][1] in PASSING, found
        return False

    def is_stopped(self, sandbox: Any) -> bool:
        found = self.conditions(sandbox)
        assert found["Ready"][0] != "True"
        return found.get("Suspended", ("",))[0] == "True"

    def is_failed(self, sandbox: Any) -> bool:
        found = self.conditions(sandbox)
        return found["Ready"] == ("False", "ImagePullFailed")

    def until(self, watching: Any, done: Callable[[Any], bool], of: str = "id-1") -> None:
        for event in watching:
            kind = event.WhichOneof("payload")
            if kind == "platform_event":
                self.events += 1
                assert event.platform_event.event.type in {"Normal", "Warning"}
                assert event.platform_event.event.source == "memory"
                self.event_time(event.platform_event.event)
                continue
            assert kind == "sandbox", event
            self.observation(event.sandbox.sandbox)
            if event.sandbox.sandbox.id == of and done(event.sandbox.sandbox):
                return
        raise AssertionError("the watch has ended")

    def until_get(self, done: Callable[[Any], bool], of: str = "id-1") -> None:
        assert done(self.get(of))  # the watch has said so

    def until_deleted(self, watching: Any, sandbox_id: str) -> None:
        for event in watching:
            if event.WhichOneof("payload") == "deleted":
                assert event.deleted.sandbox_id == sandbox_id
                return
            if event.WhichOneof("payload") == "sandbox":
                assert event.sandbox.sandbox.status.deleting

    def refusals(self) -> None:
        for method, request in (
            ("ValidateSandboxCreate", self.validate),
            ("CreateSandbox", self.create),
        ):
            call = getattr(self.stub, method)
            assert refused(call, type(request(None))()) is CODE.INVALID_ARGUMENT
            for sandbox_id, name in (("", "box"), ("id", ""), ("../id", "box")):
                code = refused(call, request(self.sandbox(sandbox_id, name)))
                assert code is CODE.INVALID_ARGUMENT
            bad = {"resources": {"cpu_limit": "0"}}
            code = refused(call, request(self.sandbox("id", "box", template=bad)))
            assert code is CODE.INVALID_ARGUMENT
            image = {"image": "memory/refused"}
            code = refused(call, request(self.sandbox("id", "box", template=image)))
            assert code is CODE.FAILED_PRECONDITION
            for spec, code in self.gpus():
                found = refused(self.stub.ValidateSandboxCreate, self.validate(spec))
                assert found is code, spec
        assert not self.listed()
        for method in ("GetSandbox", "StopSandbox", "DeleteSandbox"):
            call = getattr(self.stub, method)
            assert refused(call, self.ref(method, "")) is CODE.INVALID_ARGUMENT
        assert refused(self.stub.GetSandbox, self.ref("GetSandbox", "no")) is CODE.NOT_FOUND
        assert refused(self.stub.StopSandbox, self.ref("StopSandbox", "no")) is CODE.NOT_FOUND
        assert self.delete("no").deleted is False

    def gpus(self) -> list[tuple[Any, Any]]:
        raise NotImplementedError

    def workspaces(self) -> None:
        for method in ("EnsureWorkspace", "DeleteWorkspace"):
            kind = getattr(self.wire, f"{method}Request")
            for _ in range(2):
                assert refused(getattr(self.stub, method), kind(workspace="team")) is None
            assert refused(getattr(self.stub, method), kind()) is CODE.INVALID_ARGUMENT

    def stop_and_start(self, watching: Any) -> None:
        before = self.get("id-1").status.instance_id
        for _ in range(2):
            self.stub.StopSandbox(self.ref("StopSandbox", "id-1"), timeout=SECONDS)
            assert self.is_stopped(self.get("id-1"))
        self.until(watching, self.is_stopped)
        if self.has_start:
            self.start()
            self.until(watching, self.is_ready)
            assert self.get("id-1").status.instance_id != before

    def start(self) -> None:
        for _ in range(2):
            self.stub.StartSandbox(self.ref("StartSandbox", "id-1"), timeout=SECONDS)

    def failing(self, watching: Any) -> None:
        """A sandbox that cannot be provisioned stays, with its reason, until it is deleted."""
        sandbox = self.sandbox("id-2", "bad", template={"image": "memory/unpullable"})
        self.stub.CreateSandbox(self.create(sandbox), timeout=SECONDS)
        self.until(watching, self.is_failed, of="id-2")
        assert self.is_failed(self.get("id-2"))
        assert self.delete("id-2").deleted is True
        self.until_deleted(watching, "id-2")


class Old(Line):
    """Times in text and milliseconds; the newer form is there, and skipped."""

    def condition_time(self, condition: Any) -> None:
        found = instant(condition.last_transition_time)
        assert is_recent(found)
        assert set(unknown(condition)) == {105}
        assert of_stamp(Timestamp.FromString(unknown(condition)[105])) == found

    def event_time(self, event: Any) -> None:
        found = datetime.fromtimestamp(event.timestamp_ms / 1000, UTC)
        assert is_recent(found)
        assert set(unknown(event)) == {101}
        stamp = Timestamp.FromString(unknown(event)[101])
        assert stamp.seconds * 1000 + stamp.nanos // 1_000_000 == event.timestamp_ms


class Fork(Old):
    has_start = False
    has_workspaces = False

    def capabilities(self, answer: Any) -> None:
        super().capabilities(answer)
        assert (answer.supports_gpu, answer.gpu_count) == (False, 0)
        assert set(unknown(answer)) == {6, 7, 9, 12, 13}

    def gpus(self) -> list[tuple[Any, Any]]:
        return [
            (self.sandbox("id", "box", gpu=True), None),
            (self.sandbox("id", "box", gpu=True, gpu_device="0000:01"), None),
            (self.sandbox("id", "box", gpu=True, gpu_device=f"{CANARY}\n"), CODE.INVALID_ARGUMENT),
            (self.sandbox("id", "box", gpu_device="0000:01"), None),
        ]


class Upstream(Old):
    def capabilities(self, answer: Any) -> None:
        super().capabilities(answer)
        assert answer.gateway_manages_lifecycle is True
        assert set(unknown(answer)) == {7, 9, 12, 13}

    def listener_requirements(self) -> None:
        request = self.wire.GetGatewayListenerRequirementsRequest()
        answer = self.stub.GetGatewayListenerRequirements(request, timeout=SECONDS)
        assert not answer.requirements

    def gpus(self) -> list[tuple[Any, Any]]:
        def asking(**gpu: int) -> Any:
            return self.sandbox("id", "box", resource_requirements={"gpu": gpu})

        none = self.sandbox("id", "box", resource_requirements={})
        return [
            (none, None),
            (asking(), None),
            (asking(count=1), None),
            (asking(count=3), None),
            (asking(count=0), CODE.INVALID_ARGUMENT),
        ]


class New(Upstream):
    """Metadata both ways, Timestamps, identities."""

    second = "name"

    def hello(self) -> Any:
        extension: Any = importlib.import_module("extension_pb2")
        self.offered = [CONTRACT, *([LAUNCH] if self.revision == "0.1-latest" else [])]
        gateway = extension.PeerMetadata(
            protocol_version=extension.ProtocolVersion(major=1, minor=0),
            implementation_name="openshell/gateway",
            implementation_version="0.1.2",
            supported_capabilities=self.offered,
            required_capabilities=[CONTRACT],
        )
        return self.wire.GetCapabilitiesRequest(gateway=gateway)

    def capabilities(self, answer: Any) -> None:
        Line.capabilities(self, answer)
        assert unknown(answer) == {}
        assert answer.gateway_manages_lifecycle is True
        assert answer.supports_sandbox_authentication is True
        assert answer.driver_reports_runtime_readiness is False
        assert (answer.rootfs_tar_staging_dir, answer.rootfs_tar_max_bytes) == ("", 0)
        assert answer.resource_admission_policy == "v1:{}"
        assert answer.HasField("resource_capabilities")
        can = answer.resource_capabilities
        assert can.cpu.limit_supported
        assert can.memory.limit_supported
        assert can.gpu.default_selection_supported
        assert can.gpu.count_selection_supported
        self.negotiate(answer.extension)
        assert answer.extension.implementation_version == answer.driver_version

    def negotiate(self, driver: Any) -> None:
        """Refuse what a gateway refuses."""
        assert driver.HasField("protocol_version")
        assert driver.protocol_version.major == 1
        for text in (driver.implementation_name, driver.implementation_version):
            assert text.strip()
            assert len(text.encode()) <= 128
            assert text.isprintable()
        for names in (driver.supported_capabilities, driver.required_capabilities):
            assert len(set(names)) == len(names) <= 128
            for name in names:
                assert len(name.encode()) <= 128
                assert re.fullmatch(r"openshell(\.[a-z0-9-]+){2,}", name)
        assert CONTRACT in driver.supported_capabilities
        assert set(self.offered) >= set(driver.required_capabilities)

    def listener_requirements(self) -> None:
        """This line has no such call."""

    def created(self, answer: Any) -> None:
        assert answer.runtime_identity == "memory://id-1"

    def start(self) -> None:
        launch = b'{"supervisor": {"session_id": "s"}}'
        for generation in ("g1", "g1", ""):
            answer = self.stub.StartSandbox(
                self.ref(
                    "StartSandbox",
                    "id-1",
                    launch_authentication=launch,
                    generation_id=generation,
                    expected_runtime_identity="memory://id-1",
                ),
                timeout=SECONDS,
            )
            assert answer.runtime_identity == "memory://id-1"
        other = self.ref("StartSandbox", "id-1", expected_runtime_identity=CANARY)
        assert refused(self.stub.StartSandbox, other) is CODE.FAILED_PRECONDITION
        broken = self.ref("StartSandbox", "id-1", launch_authentication=CANARY.encode())
        assert refused(self.stub.StartSandbox, broken) is CODE.INVALID_ARGUMENT
        gone = self.ref("StartSandbox", "gone")
        assert refused(self.stub.StartSandbox, gone) is CODE.NOT_FOUND
        for credential in ("", CANARY):
            request = self.wire.AuthenticateSandboxRequest(credential=credential)
            assert refused(self.stub.AuthenticateSandbox, request) is CODE.UNAUTHENTICATED

    def condition_time(self, condition: Any) -> None:
        assert condition.HasField("transition_time")
        found = of_stamp(condition.transition_time)
        assert is_recent(found)
        assert set(unknown(condition)) == {5}
        assert instant(unknown(condition)[5].decode()) == found

    def event_time(self, event: Any) -> None:
        assert event.HasField("event_time")
        assert is_recent(of_stamp(event.event_time))
        milliseconds = event.event_time.seconds * 1000 + event.event_time.nanos // 1_000_000
        assert unknown(event) == {1: milliseconds}


LINES = {"fork-mvp": Fork, "0.0.111": Upstream, "0.1.2": New, "0.1-latest": New}


def main(folder: str, revision: str, socket: str) -> None:
    sys.path.insert(0, folder)
    options = [("grpc.default_authority", "[::]:50051")]
    with grpc.insecure_channel(f"unix:{socket}", options=options) as channel:
        line = LINES[revision](channel, revision)
        line.check()
        assert line.events, "no platform event was seen"
    assert not [name for name in sys.modules if name.partition(".")[0] == "openshell_drivers"]
    print("served")


if __name__ == "__main__":
    main(*sys.argv[1:])
