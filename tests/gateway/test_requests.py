"""What goes over the wire: only what the line's revision has, and all that it has to say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from openshell_drivers import Secret
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.compute import (
    ComputeResources,
    GpuRequest,
    SandboxSpec,
    SandboxTemplate,
    WorkloadIdentity,
)
from openshell_drivers.testing.gateway import (
    PRESETS,
    Gateway,
    GatewayAdmission,
    GatewayOptions,
    UserError,
)
from tests.fakes.scripted_compute import ScriptedCompute, ready
from tests.wire import schemas

pytestmark = pytest.mark.anyio
PACKAGE = "openshell.compute.v1"
Schema = Callable[[str, str, bytes], Any]


@pytest.fixture(scope="module")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """Read bytes with the revision's own schema, in a pool of its own."""

    @cache
    def pool(revision: str) -> descriptor_pool.DescriptorPool:
        folder = tmp_path_factory.mktemp("schema")
        schemas.write(revision, folder)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", "--include_imports"),
                *(f"--descriptor_set_out={folder / 'set'}", "compute_driver.proto"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = descriptor_pool.DescriptorPool()
        for file in FileDescriptorSet.FromString((folder / "set").read_bytes()).file:
            found.Add(file)
        return found

    def read(revision: str, name: str, data: bytes) -> Any:
        kind = pool(revision).FindMessageTypeByName(f"{PACKAGE}.{name}")
        return message_factory.GetMessageClass(kind).FromString(data)

    return read


def unknown(message: Message) -> list[str]:
    """The fields that a message's own schema does not have, with their places."""
    name = message.DESCRIPTOR.name
    if name == "SandboxPolicy":  # an empty stand-in in the schemas
        return []
    fields = UnknownFieldSet(message)
    found = [f"{name}.{fields[at].field_number}" for at in range(len(fields))]
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inner in [value] if isinstance(value, Message) else value:
            found += unknown(inner)
    return found


def full_spec() -> SandboxSpec:
    return SandboxSpec(
        id="",
        name="box",
        template=SandboxTemplate(
            image="image:1",
            agent_socket_path="/run/agent.sock",
            labels={"a": "b"},
            environment={"LOW": "1"},
            resources=ComputeResources(cpu_request="500m"),
            platform_config={"annotations": {"x": "y"}},
            driver_config={"mount": "/data"},
            user_namespaces=True,
        ),
        environment={"HIGH": "2"},
        gpu=GpuRequest(count=2, device="nvidia0"),
        command=("/bin/true",),
        await_main_process_attachment=True,
        workload_identity=WorkloadIdentity(user="app"),
        policy=b"\x08\x01",
        sandbox_token=Secret("not the gateway's"),
        log_level="debug",
    )


async def live(driver: ScriptedCompute, path: Path, preset: str) -> None:
    """Use every call that the gateway has."""
    driver.capabilities.resource_admission_policy = 'v1:{"allow_driver_config":true}'
    options = GatewayOptions(admission=GatewayAdmission(allow_driver_config=True), trace=True)
    async with Gateway(path, preset=preset, speed=60, options=options) as gateway:
        await gateway.wait_watching()
        record = await gateway.create("box", spec=full_spec())
        driver.show(record.id, "box", ready())
        await gateway.wait_for("box", "Ready")
        if gateway.preset.stops:
            await gateway.stop("box")
            await gateway.start("box")
            await gateway.ensure_workspace("team")
            await gateway.delete_workspace("team")
        await gateway.sweep()
        await gateway.delete("box")
        await gateway.wait_gone("box")


async def test_every_request_is_known_whole_to_the_line_s_own_schema(
    driver: ScriptedCompute, socket_path: Path, preset: str, parse: Schema
) -> None:
    await live(driver, socket_path, preset)

    surplus = {
        (call.method, field)
        for call in driver.calls
        for field in unknown(parse(preset, f"{call.method}Request", call.raw))
    }
    assert surplus == set()
    rpcs = set(PRESETS[preset].revision.contracts["compute_driver"].rpcs)
    never = {"AuthenticateSandbox"} | ({"StopSandbox"} if preset == "fork-mvp" else set())
    assert {call.method for call in driver.calls} == rpcs - never


async def test_the_user_s_wishes_arrive_as_far_as_the_line_has_words_for_them(
    driver: ScriptedCompute, socket_path: Path, preset: str, parse: Schema
) -> None:
    await live(driver, socket_path, preset)

    call = next(each for each in driver.calls if each.method == "CreateSandbox")
    sandbox = parse(preset, "CreateSandboxRequest", call.raw).sandbox
    spec, template = sandbox.spec, sandbox.spec.template
    assert (sandbox.name, sandbox.namespace) == ("box", "")
    assert dict(spec.environment) == {"HIGH": "2"}
    assert (template.image, spec.log_level) == ("image:1", "debug")
    assert template.resources.cpu_request == "500m"
    if preset == "fork-mvp":
        assert (spec.gpu, spec.gpu_device) == (True, "nvidia0")
        assert not sandbox.HasField("status")
        return
    assert spec.resource_requirements.gpu.count == 2
    assert (sandbox.workspace, list(spec.command)) == ("default", ["/bin/true"])
    assert template.driver_config["mount"] == "/data"
    assert sandbox.HasField("status")  # which drivers ignore, COMP-IN-01
    if preset != "0.0.111":
        assert spec.await_main_process_attachment
        assert spec.workload_identity.user == "app"
        assert template.user_namespaces


async def test_what_a_user_leaves_open_is_filled_in(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        await gateway.create("box")

    spec = driver.asked("CreateSandbox")[0].sandbox.spec
    assert spec.template.image == "image:default"
    assert not spec.HasField("resource_requirements")
    upstream = preset != "fork-mvp"
    assert (list(spec.command), spec.tty) == (
        (["/bin/bash", "-l"], True) if upstream else ([], False)
    )
    assert spec.HasField("workload_identity") is (PRESETS[preset].line == "N")
    assert bool(spec.policy) is (PRESETS[preset].line == "N")


async def test_tokens_are_minted_for_create_and_never_for_validate(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        await gateway.create("box")
        tokens = [each.reveal() for each in gateway.tokens]

    asked = driver.asked("ValidateSandboxCreate")[0].sandbox.spec
    spec = driver.asked("CreateSandbox")[0].sandbox.spec
    line = PRESETS[preset].line
    assert (asked.sandbox_token, asked.launch_authentication) == ("", b"")
    assert spec.sandbox_token == ("" if line == "F" else tokens[0])
    if line != "N":
        assert spec.launch_authentication == b""
        return
    document = json.loads(spec.launch_authentication)
    supervisor = document["supervisor"]
    assert set(document) == {"supervisor", "gateway_id", "verification_keys"}
    assert supervisor["gateway_token"] == spec.sandbox_token
    assert [supervisor["gateway_token"], supervisor["sandbox_token"]] == tokens
    assert set(supervisor) == {
        *("session_id", "runtime_generation", "session_rotation", "auth_epoch"),
        *("gateway_token", "gateway_expires_at", "sandbox_token", "sandbox_expires_at"),
    }
    assert b"BEGIN PUBLIC KEY" in bytes(document["verification_keys"][0]["public_key_pem"])


async def test_without_a_signer_there_are_no_tokens(
    driver: ScriptedCompute, socket_path: Path
) -> None:
    async with Gateway(socket_path, options=GatewayOptions(signs=False)) as gateway:
        await gateway.create("box")

    spec = driver.asked("CreateSandbox")[0].sandbox.spec
    assert (spec.sandbox_token, spec.launch_authentication) == ("", b"")


async def test_tokens_show_in_no_record_journal_or_repr(
    driver: ScriptedCompute, socket_path: Path
) -> None:
    async with Gateway(socket_path) as gateway:
        await gateway.create("box")
        shown = f"{gateway.records!r} {gateway.journal!r} {gateway.tokens!r} {vars(gateway)!r}"
        tokens = [each.reveal() for each in gateway.tokens]

    assert tokens
    assert not any(token in shown for token in tokens)


async def test_only_upstream_calls_may_carry_a_trace_and_none_a_deadline(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    await live(driver, socket_path, preset)

    traced = {"traceparent" in call.metadata for call in driver.calls}
    assert traced == {preset != "fork-mvp"}
    assert {call.deadline for call in driver.calls} == {None}


@pytest.mark.parametrize(
    ("preset", "wish"),
    [
        *((p, SandboxSpec(id="", name="a" * 20)) for p in ("0.0.111", "0.1.2")),
        *((p, SandboxSpec(id="", name=n)) for p in PRESETS for n in ("", "A", "-a", "a_b", "a\n")),
        ("0.0.111", SandboxSpec(id="", name="a--b")),
        ("fork-mvp", SandboxSpec(id="", name="a" * 254)),
        ("0.0.111", SandboxSpec(id="", name="a", gpu=GpuRequest(count=0))),
        ("0.0.111", SandboxSpec(id="", name="a", environment={"k": "v" * 8193})),
        ("0.0.111", SandboxSpec(id="", name="a", environment={"k" * 257: "v"})),
        ("0.0.111", SandboxSpec(id="", name="a", environment={str(n): "" for n in range(129)})),
        ("0.1.2", SandboxSpec(id="", name="a", template=SandboxTemplate(image="i" * 1025))),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name[:5],
)
async def test_what_the_gateway_refuses_itself_no_driver_sees(
    driver: ScriptedCompute, socket_path: Path, preset: str, wish: SandboxSpec
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        with pytest.raises(UserError) as refused:
            await gateway.create(wish.name, spec=wish)

    assert refused.value.code == "INVALID_ARGUMENT"
    assert driver.methods in ([], ["GetGatewayListenerRequirements"])


async def test_the_fork_takes_long_names_with_two_dashes(
    driver: ScriptedCompute, socket_path: Path
) -> None:
    async with Gateway(socket_path, preset="fork-mvp") as gateway:
        assert (await gateway.create("a--" + "b" * 250)).workspace == ""


async def test_a_spec_with_the_other_side_s_field_9_cannot_be_read(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    spec = wire.DriverSandboxSpec()
    if preset == "fork-mvp":
        spec.resource_requirements.gpu.SetInParent()
    else:
        spec.MergeFromString(b"\x48\x01")

    async with Gateway(socket_path, preset=preset) as gateway:
        await gateway.wait_watching()
        driver.show("id-1", "box", ready())
        driver.sandboxes["id-1"].spec.CopyFrom(spec)
        driver.end_watches()
        while not any("cannot be read" in each.why for each in gateway.journal):
            await gateway._table.journal.changed()
