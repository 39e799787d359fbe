"""The sweep: what a list that is wrong, empty or broken does to the records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from openshell_drivers import DriverError
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.testing.gateway import PRESETS, Gateway, Phase, Record
from tests.fakes.polling import until
from tests.fakes.scripted_compute import ScriptedCompute, Stall, Status, ready, snapshot
from tests.gateway.conftest import NEWEST, UPSTREAM
from tests.gateway.journal import told

pytestmark = pytest.mark.anyio
OLD = 400.0


async def aged(gateway: Gateway, seconds: float = OLD) -> None:
    """Let the gateway's time pass."""
    await gateway._clock.sleep(seconds)


@asynccontextmanager
async def alone(driver: ScriptedCompute, path: Path, preset: str) -> AsyncIterator[Gateway]:
    """A gateway that sweeps only when told to, with a ready sandbox, and forgets quickly."""
    own = replace(PRESETS[preset], sweep_every=1e9)
    async with Gateway(path, preset=own, speed=2000) as gateway:
        await gateway.wait_watching()
        await until(lambda: driver.asked("ListSandboxes"))
        record = await gateway.create("box")
        driver.show(record.id, "box", ready())
        await gateway.wait_for("box", "Ready")
        driver.emits = False
        yield gateway


async def test_the_list_is_read_at_once_and_every_minute(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset, speed=600):
        await until(lambda: len(driver.asked("ListSandboxes")) == 3)

    assert PRESETS[preset].sweep_every == 60
    assert PRESETS[preset].prune_after == 300


async def test_each_listed_sandbox_is_looked_at_with_both_names(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with alone(driver, socket_path, preset) as gateway:
        sandbox_id = gateway.records[0].id
        driver.sandboxes["foreign"] = snapshot("foreign", "foreign", ready())
        driver.show(sandbox_id, "box", ready("False", "Dead"))
        await gateway.sweep()

        assert [each.phase for each in gateway.records] == ["Error"]  # and nothing of the foreign
    asked = driver.asked("GetSandbox")
    assert [(each.sandbox_id, each.name) for each in asked] == [(sandbox_id, "box")]


async def test_what_was_written_since_the_sweep_began_is_not_looked_at(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with alone(driver, socket_path, preset) as gateway:
        sandbox_id = gateway.records[0].id
        stall = Stall()
        driver.script["ListSandboxes"] = [stall]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.sweep)
            await until(lambda: len(driver.asked("ListSandboxes")) == 2)
            driver.emits = True
            driver.show(sandbox_id, "box", ready("True", "Anew"))
            await told(gateway, "Anew")
            stall.until.set()

    assert driver.asked("GetSandbox") == []


async def test_a_list_that_fails_changes_nothing(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with alone(driver, socket_path, preset) as gateway:
        driver.script["ListSandboxes"] = [Status("UNAVAILABLE")]
        await aged(gateway)
        with pytest.raises(DriverError, match="scripted"):
            await gateway.sweep()

        assert [each.phase for each in gateway.records] == ["Ready"]


async def test_missing_and_not_found_ends_an_old_record(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with alone(driver, socket_path, preset) as gateway:
        sandbox_id = gateway.records[0].id
        driver.sandboxes.clear()
        await aged(gateway)
        await gateway.sweep()

        assert gateway.records == ()
        assert gateway.journal[-1].why == "sweep: pruned"
        if preset in NEWEST:
            await until(lambda: driver.asked("DeleteSandbox"))
            assert driver.asked("DeleteSandbox")[0].sandbox_id == sandbox_id
        for _ in range(3):
            await gateway.sweep()  # what was on its way has arrived by then
    assert bool(driver.asked("DeleteSandbox")) is (preset in NEWEST)


async def test_an_answer_without_a_sandbox_is_not_found_too(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with alone(driver, socket_path, preset) as gateway:
        driver.sandboxes.clear()
        driver.always["GetSandbox"] = wire.GetSandboxResponse()
        await aged(gateway)
        await gateway.sweep()

        assert gateway.records == ()


async def test_a_young_record_is_spared(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    own = replace(PRESETS[preset], sweep_every=1e9)
    async with Gateway(socket_path, preset=own, speed=60) as gateway:
        await gateway.create("box")
        driver.sandboxes.clear()
        await gateway.sweep()

        assert len(gateway.records) == 1
    assert driver.asked("GetSandbox") == []


@pytest.mark.parametrize("answer", [Status("UNAVAILABLE"), Status("INTERNAL"), Status("UNKNOWN")])
async def test_a_get_that_fails_breaks_the_sweep_off(
    driver: ScriptedCompute, socket_path: Path, preset: str, answer: Status
) -> None:
    async with alone(driver, socket_path, preset) as gateway:
        await gateway.create("second")
        driver.sandboxes.clear()
        driver.script["GetSandbox"] = [answer]
        await aged(gateway)
        with pytest.raises(DriverError):
            await gateway.sweep()

        assert len(gateway.records) == 2
    assert len(driver.asked("GetSandbox")) == 1


async def test_a_missing_sandbox_that_is_there_after_all_is_kept(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with alone(driver, socket_path, preset) as gateway:
        driver.script["ListSandboxes"] = [wire.ListSandboxesResponse()]
        await aged(gateway)
        await gateway.sweep()

        assert [each.phase for each in gateway.records] == ["Ready"]


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_another_id_or_name_in_the_answer_breaks_the_sweep_off(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with alone(driver, socket_path, preset) as gateway:
        sandbox_id = gateway.records[0].id
        for wrong in (snapshot("other", "box", ready()), snapshot(sandbox_id, "pod", ready())):
            driver.script["GetSandbox"] = [wire.GetSandboxResponse(sandbox=wrong)]
            with pytest.raises(DriverError, match="another"):
                await gateway.sweep()

        assert [(each.name, each.phase) for each in gateway.records] == [("box", "Ready")]


@pytest.mark.parametrize("phase", ["Stopped", "Stopping", "Starting"])
async def test_a_missing_stopped_sandbox_is_an_error_upstream(
    driver: ScriptedCompute, socket_path: Path, preset: str, phase: Phase
) -> None:
    own = replace(PRESETS[preset], sweep_every=1e9)
    async with Gateway(socket_path, preset=preset) as gateway:
        record = replace(await gateway.create("box"), phase=phase)
    driver.sandboxes.clear()
    driver.always["StopSandbox"] = driver.always["StartSandbox"] = Status("UNAVAILABLE")
    driver.script["GetSandbox"] = [Status("UNAVAILABLE")] if phase != "Stopped" else []
    driver.script["ListSandboxes"] = [Status("UNAVAILABLE")]  # the sweep at the start sees nothing

    async with Gateway(socket_path, preset=own, speed=2000, records=[record]) as gateway:
        await until(lambda: not driver.script["ListSandboxes"])
        if preset == "fork-mvp":
            driver.script["GetSandbox"] = []
        await aged(gateway)
        await gateway.sweep()

        if preset == "fork-mvp":
            assert gateway.records == ()
        else:
            found: Record = gateway.records[0]
            assert (found.phase, found.reason) == ("Error", "ComputeResourceMissing")


async def test_only_the_first_500_records_are_pruned(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        record = await gateway.create("box")
    records = [replace(record, id=f"id-{n}", name=f"box-{n}") for n in range(502)]
    driver.sandboxes.clear()
    own = replace(PRESETS[preset], sweep_every=1e9, deletes_pruned=False)

    async with Gateway(socket_path, preset=own, speed=5000, records=records) as gateway:
        await until(lambda: len(driver.asked("ListSandboxes")) > 1)
        await aged(gateway)
        await gateway.sweep()

        assert [each.name for each in gateway.records] == ["box-500", "box-501"]
