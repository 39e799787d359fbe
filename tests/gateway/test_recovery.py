"""What a gateway does at its start and its end, and when a main process ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from openshell_drivers.compute import Condition, SandboxSpec, SandboxStatus, SandboxTemplate
from openshell_drivers.testing.gateway import Gateway, GatewayOptions, Phase, Record, UserError
from tests.fakes.polling import until
from tests.fakes.scripted_compute import ScriptedCompute, Stall, Status, ready
from tests.gateway.conftest import NEWEST, UPSTREAM
from tests.gateway.journal import phases, told

pytestmark = pytest.mark.anyio


async def earlier(
    driver: ScriptedCompute, path: Path, preset: str, *phases_: Phase
) -> list[Record]:
    """Records of an earlier life of the gateway, in these phases."""
    records = []
    async with Gateway(path, preset=preset) as gateway:
        for number, phase in enumerate(phases_):
            record = await gateway.create(f"box-{number}")
            records.append(replace(record, phase=phase, generation="g1", runtime_identity="uid:1"))
    driver.calls.clear()
    return records


def started(driver: ScriptedCompute) -> list[str]:
    return [each.name for each in driver.asked("StartSandbox")]


async def test_stopping_and_starting_are_taken_up_for_every_driver(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    records = await earlier(driver, socket_path, preset, "Stopping", "Starting", "Ready", "Stopped")
    driver.emits = False

    async with Gateway(socket_path, preset=preset, records=records) as gateway:
        found = [each.phase for each in gateway.records]

    if preset == "fork-mvp":
        assert driver.methods == []
        return
    assert found == ["Stopped", "Starting", "Ready", "Stopped"]
    assert started(driver) == ["box-1"]
    request = driver.asked("StartSandbox")[0]
    new = preset in NEWEST
    assert request.launch_authentication == b""  # so in a recovery
    assert request.generation_id == ("g1" if new else "")
    assert request.expected_runtime_identity == ("uid:1" if new else "")


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_a_driver_that_wants_it_gets_all_that_should_run_started(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    records = await earlier(
        *(driver, socket_path, preset),
        *("Provisioning", "Ready", "Starting", "Unknown", "Stopped", "Error", "Deleting"),
    )
    driver.capabilities.gateway_manages_lifecycle = True

    async with Gateway(socket_path, preset=preset, records=records) as gateway:
        assert [each.phase for each in gateway.records][4:] == ["Stopped", "Error", "Deleting"]
        order = [call.method for call in driver.calls]
        last = len(order) - order[::-1].index("StartSandbox")
        await gateway.wait_watching()

    assert started(driver) == ["box-0", "box-1", "box-2", "box-3"]
    assert "WatchSandboxes" not in order[:last]  # watchers come after it


@pytest.mark.parametrize("preset", UPSTREAM)
@pytest.mark.parametrize(
    ("code", "reason"), [("NOT_FOUND", "BackendResourceMissing"), ("UNAVAILABLE", "StartFailed")]
)
async def test_any_error_of_the_start_up_sweep_condemns(
    driver: ScriptedCompute, socket_path: Path, preset: str, code: str, reason: str
) -> None:
    records = await earlier(driver, socket_path, preset, "Ready")
    driver.capabilities.gateway_manages_lifecycle = True
    driver.script["StartSandbox"] = [Status(code)]

    async with Gateway(socket_path, preset=preset, records=records) as gateway:
        await gateway.wait_watching()
        driver.show(records[0].id, "box-0", ready())
        driver.emit_happening(records[0].id, "Mark")
        await told(gateway, "Mark")

        assert [(each.phase, each.reason) for each in gateway.records] == [("Error", reason)]


@pytest.mark.parametrize("preset", NEWEST)
async def test_the_start_up_sweep_denies_driver_config(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    records = await earlier(driver, socket_path, preset, "Ready")
    driver.capabilities.gateway_manages_lifecycle = True
    template = SandboxTemplate(driver_config={"x": 1.0})
    spec = SandboxSpec(id=records[0].id, name="box-0", template=template)

    async with Gateway(
        socket_path, preset=preset, records=[replace(records[0], spec=spec)]
    ) as gateway:
        assert gateway.records[0].reason == "ResourceAdmissionDenied"
    assert started(driver) == []


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_0_1_retries_errors_that_a_restart_of_the_runtime_left(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    records = await earlier(driver, socket_path, preset, "Error", "Error", "Error")
    driver.capabilities.gateway_manages_lifecycle = True
    reasons = ("ContainerRuntimeRestart", "containerstopped", "ImagePullFailed")
    statuses = [
        SandboxStatus(conditions=(Condition(type="Ready", status="False", reason=reason),))
        for reason in reasons
    ]
    records = [replace(r, status=s) for r, s in zip(records, statuses, strict=True)]
    driver.snapshots_on_open = False

    async with Gateway(socket_path, preset=preset, records=records) as gateway:
        found = [each.phase for each in gateway.records]

    new = preset in NEWEST
    assert started(driver) == (["box-0", "box-1"] if new else [])
    assert found == (["Starting", "Starting", "Error"] if new else ["Error"] * 3)


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_recovery_can_be_switched_off(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    records = await earlier(driver, socket_path, preset, "Stopping", "Starting")

    off = GatewayOptions(recover=False)
    async with Gateway(socket_path, preset=preset, records=records, options=off):
        pass

    assert driver.asked("StopSandbox") == driver.asked("StartSandbox") == []


async def test_a_graceful_end_stops_all_for_a_driver_that_wants_it(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.capabilities.gateway_manages_lifecycle = True

    async with Gateway(socket_path, preset=preset) as gateway:
        await gateway.wait_watching()
        for number in range(20):
            await gateway.create(f"box-{number}")
        stall = driver.always["StopSandbox"] = Stall()
        if preset in UPSTREAM:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(gateway.shut_down)
                await until(lambda: len(driver.asked("StopSandbox")) == 16)
                await anyio.wait_all_tasks_blocked()
                assert len(driver.asked("StopSandbox")) == 16
                stall.until.set()
        else:
            await gateway.shut_down()

        assert {each.phase for each in gateway.records} == {"Provisioning"}  # no stop is recorded
    assert len(driver.asked("StopSandbox")) == (20 if preset in UPSTREAM else 0)


async def test_a_driver_that_does_not_want_it_is_left_alone_at_the_end(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        await gateway.wait_watching()
        await gateway.create("box")
        await gateway.shut_down()

        await until(lambda: driver.closed_watches == 1)
    assert driver.asked("StopSandbox") == []


# The main process


@pytest.mark.parametrize("preset", ["fork-mvp", "0.0.111"])
async def test_older_lines_restart_no_main_process(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        await gateway.create("box")
        with pytest.raises(UserError, match="restarts no main process"):
            gateway.exit_main_process("box")


async def boxed(driver: ScriptedCompute, gateway: Gateway) -> str:
    await gateway.wait_watching()
    record = await gateway.create("box")
    driver.show(record.id, "box", ready())
    await gateway.wait_for("box", "Ready")
    return record.id


@pytest.mark.parametrize("preset", NEWEST)
async def test_a_main_process_that_ended_is_stopped_and_started(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset, speed=100) as gateway:
        sandbox_id = await boxed(driver, gateway)
        driver.script["StartSandbox"] = [Status("UNAVAILABLE")]
        gateway.exit_main_process("box")
        await until(lambda: len(driver.asked("StartSandbox")) == 2)
        await gateway.wait_for("box", "Starting")
        driver.show(sandbox_id, "box", ready())
        await gateway.wait_for("box", "Ready")

    assert [m for m in driver.methods if m in {"StopSandbox", "StartSandbox"}] == [
        *("StopSandbox", "StartSandbox"),
        *("StopSandbox", "StartSandbox"),
    ]
    first, second = driver.asked("StartSandbox")
    assert first.generation_id != second.generation_id


@pytest.mark.parametrize("preset", NEWEST)
async def test_not_found_ends_the_restarts(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset, speed=100) as gateway:
        await boxed(driver, gateway)
        driver.sandboxes.clear()
        gateway.exit_main_process("box")
        found = await gateway.wait_for("box", "Error")

        assert found.reason == "BackendResourceMissing"


@pytest.mark.parametrize("preset", NEWEST)
async def test_a_restart_that_does_not_get_ready_is_tried_again_after_120_s(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset, speed=1000) as gateway:
        await boxed(driver, gateway)
        gateway.exit_main_process("box")
        await told(gateway, "box did not get ready in time")
        await until(lambda: len(driver.asked("StartSandbox")) == 2)

        await gateway.delete("box")
        await gateway.wait_gone("box")
    assert phases(gateway)[-1] == "Deleting"
