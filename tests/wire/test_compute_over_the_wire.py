"""What gateways do to a compute driver's socket besides the plain calls."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import grpc
import pytest
from grpc import aio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.compute import ListenerRequirement, ObservedSandbox, SandboxState
from openshell_drivers.reference.memory import Memory
from openshell_drivers.server import ServerOptions, running
from tests.fakes.compute import Platform, Polled, Pushed, seen
from tests.fakes.polling import held, until
from tests.wire.compute_gateway import COMPUTE, call, create, memory, watch
from tests.wire.gateway import Gateway, dial, refusal

MIB = 1024 * 1024
#: fields 1000 to 1004, of each wire type
FUTURE = b"\xc0\x3e\x01" + b"\xca\x3e\x03new" + b"\xd1\x3e" + bytes(8) + b"\xdd\x3e" + bytes(4)


@pytest.fixture
def driver() -> Memory:
    return memory()


@pytest.fixture
async def gateway(driver: Memory, socket_path: Path) -> AsyncIterator[Gateway]:
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        yield to


@pytest.mark.parametrize(
    "method", ["SuspendSandbox", "ResumeSandbox", "Suspend", "Resume", "ForkSandbox", ""]
)
async def test_a_method_of_the_future_is_unimplemented(gateway: Gateway, method: str) -> None:
    code, _ = await refusal(gateway.raw(COMPUTE + method)(b"\x0a\x04id-1", timeout=30))

    assert code == "UNIMPLEMENTED"


async def test_fields_of_the_future_are_ignored(gateway: Gateway) -> None:
    sandbox = wire.DriverSandbox(id="id-1", name="box").SerializeToString() + FUTURE
    raw = bytes([0x0A, len(sandbox)]) + sandbox + FUTURE
    for method in ("ValidateSandboxCreate", "CreateSandbox"):
        await gateway.raw(COMPUTE + method)(raw, timeout=30)
    ref = wire.GetSandboxRequest(sandbox_id="id-1").SerializeToString() + FUTURE
    for method in ("GetSandbox", "StopSandbox", "StartSandbox", "DeleteSandbox"):
        await gateway.raw(COMPUTE + method)(ref, timeout=30)
    for method in ("ListSandboxes", "GetCapabilities", "GetGatewayListenerRequirements"):
        await gateway.raw(COMPUTE + method)(FUTURE, timeout=30)


@pytest.mark.parametrize("method", ["CreateSandbox", "GetSandbox", "DeleteSandbox"])
async def test_what_is_no_message_is_an_invalid_argument(gateway: Gateway, method: str) -> None:
    code, _ = await refusal(gateway.raw(COMPUTE + method)(b"\x0a\xff", timeout=30))

    assert code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("authority", ["[::]:50051", "[::]:50052", "localhost"])
async def test_any_authority_and_unknown_metadata_are_served(
    gateway: Gateway, authority: str
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with dial(gateway.target, authority) as to:
        method = to.raw(COMPUTE + "ListSandboxes")
        await method(b"", timeout=30, metadata=(("traceparent", trace), ("x-bin", b"\xff")))


async def test_headers_of_a_watch_come_with_nothing_to_report(socket_path: Path) -> None:
    driver = Pushed()
    driver.platform.gate("observe")  # not even the backend has been seen
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        began = time.monotonic()
        call_ = watch(to)
        await call_.initial_metadata()
        assert time.monotonic() - began < 1
        call_.cancel()


async def test_authentication_gives_the_sandbox_and_its_identity(
    gateway: Gateway, driver: Memory
) -> None:
    await create(gateway)
    good = wire.AuthenticateSandboxRequest(credential=driver.credential_of("id-1").reveal())
    answer = await call(gateway, "AuthenticateSandbox", good)
    assert (answer.sandbox_id, answer.runtime_identity) == ("id-1", "memory://id-1")

    gone = wire.AuthenticateSandboxRequest(credential=driver.credential_of("id-2").reveal())
    code, message = await refusal(call(gateway, "AuthenticateSandbox", gone))
    assert code == "PERMISSION_DENIED"
    assert "id-2" not in message


async def test_a_driver_without_authentication_says_so(socket_path: Path) -> None:
    async with running(Polled(), socket=socket_path), dial(socket_path) as to:
        request = wire.AuthenticateSandboxRequest(credential="x")
        code, _ = await refusal(call(to, "AuthenticateSandbox", request))
        workspace = await refusal(
            call(to, "EnsureWorkspace", wire.EnsureWorkspaceRequest(workspace="team"))
        )

    assert code == "UNIMPLEMENTED"
    assert workspace[0] == "UNIMPLEMENTED"


class Listening(Polled):
    """Says where a gateway has to listen, if anywhere."""

    name = "listening"
    where = ListenerRequirement(reason="nowhere")

    async def get_gateway_listener_requirements(self) -> Sequence[ListenerRequirement]:
        return [self.where]


async def test_a_listener_requirement_says_where(socket_path: Path) -> None:
    """COMP-LSN-02: a gateway does not start with one that says nothing."""
    driver = Listening()
    request = wire.GetGatewayListenerRequirementsRequest()
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        nowhere = await refusal(call(to, "GetGatewayListenerRequirements", request))
        driver.where = ListenerRequirement(reason="bridge", exact_bind_address="172.17.0.1:8080")
        answer = await call(to, "GetGatewayListenerRequirements", request)

    assert nowhere[0] == "INTERNAL"
    assert [each.exact_bind_address for each in answer.requirements] == ["172.17.0.1:8080"]


def many(count: int, message: str = "") -> list[ObservedSandbox]:
    return [
        seen(
            f"0b5e6f2a-7c1d-4e8a-9f3b-{number:012d}",
            SandboxState.failed("ImagePullFailed", message),
            instance_id=f"9d4c1e7b-2f5a-4b6c-8d0e-{number:012d}",
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("message", ["", "m" * 256], ids=["plain", "with long messages"])
async def test_ten_thousand_sandboxes_are_listed_below_the_limit(
    socket_path: Path, message: str
) -> None:
    driver = Pushed()
    driver.platform.present = {each.id: each for each in many(10_000, message)}
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        raw = await to.raw(COMPUTE + "ListSandboxes")(b"", timeout=30)

    answer = wire.ListSandboxesResponse.FromString(raw)
    assert len(raw) < 4 * MIB
    assert len({each.id for each in answer.sandboxes}) == 10_000
    for each in answer.sandboxes:
        assert each.status.conditions[0].reason == "ImagePullFailed"
        assert each.status.name == each.name


async def test_a_list_that_no_gateway_can_receive_is_an_error(socket_path: Path) -> None:
    driver = Pushed()
    driver.platform.present = {each.id: each for each in many(25_000)}
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        code, _ = await refusal(to.raw(COMPUTE + "ListSandboxes")(b"", timeout=30))

    assert code == "RESOURCE_EXHAUSTED"


async def test_a_watch_that_stalls_holds_up_nobody_and_ends_up_right(socket_path: Path) -> None:
    """It gets the newest state of each when it reads again, not every state in between."""
    driver = Pushed()
    driver.platform.present = {each.id: each for each in many(2000)}
    async with (
        running(driver, socket=socket_path),
        dial(socket_path) as to,
        dial(socket_path) as other,
    ):
        stalled = watch(to)
        await stalled.read()
        await until(lambda: driver.feed is not None)
        assert driver.feed is not None
        for number in range(20):
            state = SandboxState.transient("ReconcilerError", f"try {number}")
            driver.feed.replace([seen(each.id, state) for each in many(2000)])
            await to.raw(COMPUTE + "ListSandboxes")(b"", timeout=30)
        brisk = watch(other)
        first = await brisk.read()
        assert isinstance(first, wire.WatchSandboxesEvent)

        newest: dict[str, str] = {}
        count = 0
        with anyio.fail_after(30):
            while len(newest) < 2000 or set(newest.values()) != {"try 19"}:
                event = await stalled.read()
                assert isinstance(event, wire.WatchSandboxesEvent)
                sandbox = event.sandbox.sandbox
                newest[sandbox.id] = sandbox.status.conditions[0].message
                count += 1
        assert count < 20_000  # of 40,000 changes
        stalled.cancel()
        brisk.cancel()


async def test_a_watch_tells_of_all_that_happens_in_order(gateway: Gateway, driver: Memory) -> None:
    events = watch(gateway)
    await events.initial_metadata()
    await create(gateway)
    ref: dict[str, Any] = {"sandbox_id": "id-1"}

    async def until_is(kind: str, status: str) -> None:
        with anyio.fail_after(10):
            while True:
                event = await events.read()
                assert isinstance(event, wire.WatchSandboxesEvent), event
                found = {c.type: c.status for c in event.sandbox.sandbox.status.conditions}
                if found.get(kind) == status:
                    return

    await until_is("Ready", "True")
    await call(gateway, "StopSandbox", wire.StopSandboxRequest(**ref))
    await until_is("Suspended", "True")
    await call(gateway, "StartSandbox", wire.StartSandboxRequest(**ref))
    await until_is("Ready", "True")
    driver.lose("id-1")
    event = await events.read()
    assert isinstance(event, wire.WatchSandboxesEvent)
    assert event.deleted.sandbox_id == "id-1"
    events.cancel()


async def test_a_create_that_its_gateway_cancels_leaves_nothing(socket_path: Path) -> None:
    driver = Pushed()
    gate = driver.platform.gate("created")
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        raw = wire.CreateSandboxRequest(sandbox=wire.DriverSandbox(id="id-1", name="box"))
        call_ = to.raw(COMPUTE + "CreateSandbox")(raw.SerializeToString())
        await gate.reached.wait()
        call_.cancel()
        await until(lambda: not driver.platform.present)
        del driver.platform.gates["created"]
        await create(to)  # the id is free


@pytest.mark.parametrize("method", ["StopSandbox", "DeleteSandbox"])
async def test_what_its_gateway_cancels_goes_on(socket_path: Path, method: str) -> None:
    driver = Pushed()
    driver.platform.put("id-1", SandboxState.ready())
    gate = driver.platform.gate("stop" if method == "StopSandbox" else "delete")
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        raw = wire.StopSandboxRequest(sandbox_id="id-1").SerializeToString()
        call_ = to.raw(COMPUTE + method)(raw)
        await gate.reached.wait()
        call_.cancel()
        await until(call_.done)
        gate.opened.set()
        await until(lambda: "stopped" in driver.platform.steps or not driver.platform.present)


async def test_a_create_that_outlives_its_deadline_leaves_nothing(socket_path: Path) -> None:
    driver = Pushed()
    driver.platform.gate("created")
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        raw = wire.CreateSandboxRequest(sandbox=wire.DriverSandbox(id="id-1", name="box"))
        code, _ = await refusal(
            to.raw(COMPUTE + "CreateSandbox")(raw.SerializeToString(), timeout=0.2)
        )
        assert code == "DEADLINE_EXCEEDED"
        await until(lambda: not driver.platform.present)


async def test_a_driver_s_own_fault_tells_nothing(socket_path: Path) -> None:
    driver = Polled()
    driver.platform.fail("create", lambda: RuntimeError("canary-5d5d"))
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        code, message = await refusal(create(to))

    assert code == "INTERNAL"
    assert "canary" not in message


async def test_secrets_are_in_no_answer_and_no_log(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    driver = Pushed()
    driver.platform.fail("create", lambda: RuntimeError("at canary-9a"))
    sandbox = wire.DriverSandbox(id="id-1", name="box")
    sandbox.spec.sandbox_token = "canary-token"
    sandbox.spec.environment["A"] = "canary-environment"
    sandbox.spec.launch_authentication = b'{"supervisor": "canary-launch"}'
    request = wire.CreateSandboxRequest(sandbox=sandbox)
    async with running(driver, socket=socket_path), dial(socket_path) as to:
        said = str(await refusal(call(to, "CreateSandbox", request)))
        await call(to, "CreateSandbox", request)
        said += str(await call(to, "ListSandboxes", wire.ListSandboxesRequest()))
        sandbox.spec.launch_authentication = b"canary-launch"
        said += str(await refusal(call(to, "CreateSandbox", request)))

    assert "canary" not in said
    assert "canary" not in caplog.text


async def test_a_thousand_compute_watches_leave_nothing(socket_path: Path) -> None:
    driver = Pushed(Platform())
    driver.platform.put("id-1", SandboxState.ready())
    options = ServerOptions(max_streams=1000)
    async with (
        running(driver, socket=socket_path, options=options) as server,
        dial(socket_path) as to,
    ):
        await to.raw(COMPUTE + "ListSandboxes")(b"", timeout=30)
        before = await held()
        for _ in range(20):
            watching = [watch(to) for _ in range(50)]
            for each in watching:
                assert await each.read() is not aio.EOF
            for each in watching:
                each.cancel()
        await until(lambda: not server._traffic.streams)
        after = await held()

    assert after["descriptors"] <= before["descriptors"] + 2
    assert after["tasks"] <= before["tasks"] + 1
    assert after["threads"] <= before["threads"] + 1


async def test_watches_end_with_unavailable_when_the_driver_does(socket_path: Path) -> None:
    async with dial(socket_path) as to:
        async with running(memory(), socket=socket_path):
            watching = watch(to)
            await watching.initial_metadata()
        with pytest.raises(aio.AioRpcError) as ended:
            await watching.read()

    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
