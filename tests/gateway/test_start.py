"""Dialling, the handshake at a real socket, and the end of a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.abc
import pytest
from anyio.abc import ByteStream

from openshell_drivers import Backoff
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.testing.gateway import (
    PRESETS,
    Gateway,
    GatewayAdmission,
    GatewayOptions,
    GatewayRefused,
    NotReached,
)
from tests.fakes.polling import until
from tests.fakes.scripted_compute import ScriptedCompute, Stall, Status, ready
from tests.gateway.conftest import NEWEST, UPSTREAM
from tests.gateway.journal import told

pytestmark = pytest.mark.anyio


def test_the_dial_schedules_are_the_gateways_own() -> None:
    waits = {name: sum(preset.dial) for name, preset in PRESETS.items()}
    tries = {name: preset.credentials_dial.attempts for name, preset in PRESETS.items()}

    assert waits == pytest.approx(
        {"fork-mvp": 9.9, "0.0.111": 30.0, "0.1.2": 30.0, "0.1-latest": 30.0}
    )
    assert next(iter(PRESETS["0.0.111"].dial)) == 0.25
    assert tries == {"fork-mvp": 100, "0.0.111": 1, "0.1.2": 1, "0.1-latest": 1}


async def test_a_socket_that_never_comes_is_dialled_to_the_end(socket_path: Path) -> None:
    preset = replace(PRESETS["fork-mvp"], dial=Backoff(attempts=3, delay=0.01))

    with pytest.raises(GatewayRefused, match=r"cannot be dialled.*after 3 attempts"):
        async with Gateway(socket_path, preset=preset):
            pass


async def test_a_socket_that_comes_late_is_found(socket_path: Path, preset: str) -> None:
    driver = ScriptedCompute()

    async def late(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with driver.serving(socket_path):
            task_status.started()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        gateway = Gateway(socket_path, preset=preset)
        async with anyio.create_task_group() as dialling:
            dialling.start_soon(_enter, gateway)
            await tasks.start(late)
        tasks.cancel_scope.cancel()


async def _enter(gateway: Gateway) -> None:
    async with gateway:
        assert gateway.capabilities.driver_name == "scripted"


@pytest.mark.parametrize("authority", ["[::]:50051"])
async def test_the_authority_is_the_gateway_s(
    driver: ScriptedCompute, socket_path: Path, short_dir: Path, preset: str, authority: str
) -> None:
    seen = bytearray()
    relayed = short_dir / "relay"
    async with _relay(socket_path, relayed, seen), Gateway(relayed, preset=preset):
        pass

    assert authority.encode() in seen


@asynccontextmanager
async def _relay(target: Path, path: Path, seen: bytearray) -> AsyncIterator[None]:
    """Pass bytes on to the target and keep what the client sent."""

    async def pump(source: ByteStream, sink: ByteStream, kept: bytearray) -> None:
        with suppress(anyio.BrokenResourceError):
            async for data in source:
                kept.extend(data)
                await sink.send(data)

    async def serve(near: ByteStream) -> None:
        far = await anyio.connect_unix(target)
        async with near, far, anyio.create_task_group() as tasks:
            tasks.start_soon(pump, near, far, seen)
            tasks.start_soon(pump, far, near, bytearray())

    listener = await anyio.create_unix_listener(path)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield
        tasks.cancel_scope.cancel()


async def test_an_error_of_get_capabilities_ends_the_start(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.script["GetCapabilities"] = [Status("INTERNAL", "no backend")]

    with pytest.raises(GatewayRefused, match="GetCapabilities failed: INTERNAL no backend"):
        async with Gateway(socket_path, preset=preset):
            pass

    assert len(driver.asked("GetCapabilities")) == 1  # never tried again


async def test_a_silent_driver_blocks_the_start_without_limit(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    stall = Stall()
    driver.script["GetCapabilities"] = [stall]
    began = asyncio.Event()

    async def start() -> None:
        async with Gateway(socket_path, preset=preset, speed=1e6):
            began.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)
        await until(lambda: driver.asked("GetCapabilities"))
        assert driver.calls[0].deadline is None
        assert not began.is_set()
        stall.until.set()
        await began.wait()


async def test_only_the_0_1_line_sends_metadata_and_wants_some(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.capabilities.ClearField("extension")

    if PRESETS[preset].line == "N":
        with pytest.raises(GatewayRefused, match="extension is missing"):
            async with Gateway(socket_path, preset=preset):
                pass
    else:
        async with Gateway(socket_path, preset=preset):
            pass

    sent = driver.asked("GetCapabilities")[0]
    assert sent.HasField("gateway") is (PRESETS[preset].line == "N")


@pytest.mark.parametrize("preset", NEWEST)
async def test_a_driver_with_another_policy_is_refused(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    options = GatewayOptions(admission=GatewayAdmission(allow_driver_config=True))

    with pytest.raises(GatewayRefused, match="policy differs"):
        async with Gateway(socket_path, preset=preset, options=options):
            pass


async def test_a_bad_policy_of_its_own_ends_the_start(
    driver: ScriptedCompute, socket_path: Path
) -> None:
    options = GatewayOptions(admission=GatewayAdmission(required_labels={}))

    with pytest.raises(GatewayRefused, match="own policy"):
        async with Gateway(socket_path, options=options):
            pass


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (Status("UNIMPLEMENTED"), None),
        (Status("INTERNAL"), "GetGatewayListenerRequirements failed"),
        (
            wire.GetGatewayListenerRequirementsResponse(
                requirements=[wire.GatewayListenerRequirement(reason="r")]
            ),
            "no selector",
        ),
    ],
)
async def test_listener_requirements_are_asked_for_by_0_0_x_only(
    driver: ScriptedCompute, socket_path: Path, preset: str, answer: Status, rule: str | None
) -> None:
    driver.always["GetGatewayListenerRequirements"] = answer

    if preset == "0.0.111" and rule is not None:
        with pytest.raises(GatewayRefused, match=rule):
            async with Gateway(socket_path, preset=preset):
                pass
    else:
        async with Gateway(socket_path, preset=preset):
            pass

    asked = len(driver.asked("GetGatewayListenerRequirements"))
    assert asked == (1 if preset == "0.0.111" else 0)


async def test_a_line_reads_only_the_capabilities_it_knows(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.capabilities.gateway_manages_lifecycle = True
    driver.capabilities.driver_reports_runtime_readiness = True

    async with Gateway(socket_path, preset=preset) as gateway:
        known = gateway.capabilities

    assert known.gateway_manages_lifecycle is (preset in UPSTREAM)
    assert known.driver_reports_runtime_readiness is (preset in NEWEST)


async def test_an_answer_beyond_4_mib_is_an_error(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.capabilities.default_image = "x" * (4 * 1024 * 1024)

    with pytest.raises(GatewayRefused, match="RESOURCE_EXHAUSTED"):
        async with Gateway(socket_path, preset=preset):
            pass


async def test_leaving_closes_the_watch_at_once(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        await gateway.wait_watching()
        assert driver.watchers == 1

    await until(lambda: driver.closed_watches == 1)


async def test_leaving_does_not_wait_for_calls_that_hang(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.always["ListSandboxes"] = driver.always["DeleteSandbox"] = Stall()
    driver.headers.clear()

    async with Gateway(socket_path, preset=preset) as gateway:
        record = await gateway.create("box")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.delete, "box")
            await until(lambda: driver.asked("DeleteSandbox"))
            tasks.cancel_scope.cancel()
        assert gateway.record("box") != record

    driver.headers.set()


async def test_an_error_of_the_body_comes_out_as_it_is(
    driver: ScriptedCompute, socket_path: Path
) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with Gateway(socket_path):
            raise KeyError("mine")


async def test_a_cancelled_gateway_ends(driver: ScriptedCompute, socket_path: Path) -> None:
    with anyio.move_on_after(0.2) as scope:
        async with Gateway(socket_path):
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    await until(lambda: driver.closed_watches == 1)


async def test_what_is_not_reached_in_time_tells_the_history(
    driver: ScriptedCompute, socket_path: Path
) -> None:
    async with Gateway(socket_path) as gateway:
        await gateway.wait_watching()
        await gateway.create("box")
        await told(gateway, "Starting")
        expected = r"(?s)box Ready not within 0.05 s.*Provisioning Starting"
        with pytest.raises(NotReached, match=expected) as out:
            await gateway.wait_for("box", "Ready", within=0.05)

    assert [entry.kind for entry in out.value.history][-1] == "phase"


async def test_names_are_unique_per_workspace_or_in_all_of_the_fork(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset, workspace="a") as gateway:
        await gateway.create("box")
        if preset == "fork-mvp":
            with pytest.raises(Exception, match="already exists"):
                await gateway.create("box", workspace="b")
            return
        other = await gateway.create("box", workspace="b")
        assert [each.workspace for each in gateway.records] == ["a", "b"]
        driver.show(other.id, "box", ready())
        await gateway.wait_for("box", "Ready", workspace="b")
        assert gateway.record("box") != gateway.record("box", workspace="b")
