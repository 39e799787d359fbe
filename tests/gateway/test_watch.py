"""The watch: what events do, and what a driver does that a line must not fall for."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.testing.gateway import Gateway, Progress
from tests.fakes.polling import until
from tests.fakes.scripted_compute import (
    STARTING,
    SUSPENDED,
    ScriptedCompute,
    Stall,
    Status,
    condition,
    ready,
    snapshot,
)
from tests.gateway.conftest import NEWEST, UPSTREAM
from tests.gateway.journal import phases, told

pytestmark = pytest.mark.anyio


async def boxed(driver: ScriptedCompute, gateway: Gateway) -> str:
    """Create a sandbox and get it ready; its id."""
    await gateway.wait_watching()
    record = await gateway.create("box")
    driver.show(record.id, "box", ready())
    await gateway.wait_for("box", "Ready")
    return record.id


async def caught_up(driver: ScriptedCompute, gateway: Gateway, sandbox_id: str) -> None:
    """Return when the gateway has applied all events so far."""
    seen = len(gateway.journal)
    driver.emit_happening(sandbox_id, f"Mark{seen}")
    await told(gateway, f"Mark{seen}")


@pytest.mark.parametrize("status", [None, Status("UNAVAILABLE"), Status("INTERNAL")])
async def test_after_any_end_the_watch_is_opened_again_2_s_later(
    driver: ScriptedCompute, socket_path: Path, preset: str, status: Status | None
) -> None:
    async with Gateway(socket_path, preset=preset, speed=20) as gateway:
        await gateway.wait_watching()
        await until(lambda: driver.asked("ListSandboxes"))
        began = time.monotonic()
        driver.end_watches(status)
        await gateway.wait_watching(times=2)
        took = time.monotonic() - began

        assert 0.1 <= took < 1.0  # 2 s of the gateway's
        assert len(driver.asked("ListSandboxes")) == 1  # no list comes with it
    said = "the watch was ended" if status is None else f"the watch failed: {status.code}"
    assert gateway.journal[1].why.startswith(said)


async def test_a_watch_that_cannot_be_opened_is_tried_again(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.watch_answers = [Status("UNIMPLEMENTED"), Status("INTERNAL")]

    async with Gateway(socket_path, preset=preset, speed=100) as gateway:
        await gateway.wait_watching()

    assert len(driver.asked("WatchSandboxes")) == 3


async def test_a_watch_without_headers_is_not_open(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.headers = asyncio.Event()

    async with Gateway(socket_path, preset=preset) as gateway:
        await until(lambda: driver.asked("WatchSandboxes"))
        assert gateway.watches_opened == 0
        driver.headers.set()
        await gateway.wait_watching()


async def test_the_watch_survives_a_driver_that_is_started_again(
    socket_path: Path, preset: str
) -> None:
    driver = ScriptedCompute()
    async with driver.serving(socket_path):
        gateway = Gateway(socket_path, preset=preset, speed=20)
        context = gateway.__aenter__()
        await context
        sandbox_id = await boxed(driver, gateway)
    try:
        async with driver.serving(socket_path):
            await gateway.wait_watching(times=2)
            driver.show(sandbox_id, "box", ready("False", "Dead"))
            await gateway.wait_for("box", "Error")
    finally:
        await gateway.__aexit__(None, None, None)


async def test_an_unknown_id_is_adopted_by_the_fork_and_ignored_by_others(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        sandbox_id = await boxed(driver, gateway)
        driver.emit_snapshot(snapshot("ghost", "ghost", ready()))
        await caught_up(driver, gateway, sandbox_id)

        ghost = gateway.record("ghost")
        if preset == "fork-mvp":
            assert ghost is not None
            assert (ghost.phase, ghost.spec, ghost.id) == ("Ready", None, "ghost")
        else:
            assert ghost is None


async def test_the_fork_s_records_are_keyed_on_the_name(
    driver: ScriptedCompute, socket_path: Path
) -> None:
    async with Gateway(socket_path, preset="fork-mvp") as gateway:
        sandbox_id = await boxed(driver, gateway)
        driver.emit_snapshot(snapshot("other", "box", STARTING))
        await told(gateway, "box now has another id")
        await gateway.wait_for("box", "Provisioning")
        assert [(each.id, each.name) for each in gateway.records] == [("other", "box")]

        driver.emit_snapshot(snapshot("other", "renamed", ready()))
        await told(gateway, "the new name of a known id cannot be written")
        found = [(each.id, each.name, each.phase) for each in gateway.records]
        assert found == [("other", "box", "Provisioning")]
    assert sandbox_id != "other"


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_a_snapshot_with_another_name_is_rejected(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        sandbox_id = await boxed(driver, gateway)
        driver.emit_snapshot(snapshot(sandbox_id, "pod-7f", ready("False", "Dead")))
        await told(gateway, "a snapshot is ignored: INTERNAL")

        assert [(each.name, each.phase) for each in gateway.records] == [("box", "Ready")]


async def test_deleted_ends_a_record_in_any_phase_without_a_question(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        sandbox_id = await boxed(driver, gateway)
        gets = len(driver.asked("GetSandbox"))
        driver.emit_deleted("unknown")
        driver.emit_deleted(sandbox_id)
        await gateway.wait_gone("box")

        assert len(driver.asked("GetSandbox")) == gets


async def test_an_empty_event_is_ignored(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        sandbox_id = await boxed(driver, gateway)
        driver.emit(wire.WatchSandboxesEvent())
        await caught_up(driver, gateway, sandbox_id)

        assert gateway.watches_opened == 1


async def test_error_is_sticky_but_in_the_fork(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        sandbox_id = await boxed(driver, gateway)
        driver.show(sandbox_id, "box", ready("False", "ContainerRestarting"))
        found = await gateway.wait_for("box", "Error")
        driver.show(sandbox_id, "box", ready())
        await caught_up(driver, gateway, sandbox_id)

        assert found.reason == "ContainerRestarting"
        expected = ("Ready", "Running") if preset == "fork-mvp" else ("Error", found.reason)
        assert [(each.phase, each.reason) for each in gateway.records] == [expected]


async def test_no_status_is_no_news_or_unknown(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        sandbox_id = await boxed(driver, gateway)
        driver.emit_snapshot(wire.DriverSandbox(id=sandbox_id, name="box"))
        await caught_up(driver, gateway, sandbox_id)

        phase = "Unknown" if preset == "fork-mvp" else "Ready"
        assert [each.phase for each in gateway.records] == [phase]


async def test_ready_waits_for_the_session_but_in_the_fork(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset, sessions="by hand") as gateway:
        await gateway.wait_watching()
        record = await gateway.create("box")
        driver.show(record.id, "box", ready())
        await caught_up(driver, gateway, record.id)
        if preset == "fork-mvp":
            assert gateway.records[0].phase == "Ready"
            return
        found = gateway.records[0]
        assert (found.phase, found.reason) == ("Provisioning", "SupervisorNotConnected")
        gateway.connect_session("box")
        await gateway.wait_for("box", "Ready")
        gateway.disconnect_session("box")
        await gateway.wait_for("box", "Provisioning")


async def test_a_session_lifts_what_is_still_provisioning(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset, sessions="by hand") as gateway:
        await gateway.wait_watching()
        await gateway.create("box")
        await told(gateway, "Starting")
        gateway.connect_session("box")

        assert gateway.records[0].phase == "Ready"


async def test_readiness_of_the_runtime_counts_in_0_1_only(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.capabilities.driver_reports_runtime_readiness = True

    async with Gateway(socket_path, preset=preset, sessions="never") as gateway:
        await gateway.wait_watching()
        record = await gateway.create("box")
        driver.show(record.id, "box", ready())
        await caught_up(driver, gateway, record.id)

        phase = "Provisioning" if preset == "0.0.111" else "Ready"
        assert gateway.records[0].phase == phase


async def test_a_restart_of_the_container_takes_the_session_along(
    driver: ScriptedCompute, socket_path: Path
) -> None:
    async with Gateway(socket_path) as gateway:
        sandbox_id = await boxed(driver, gateway)
        driver.show(sandbox_id, "box", ready("False", "Starting"))
        await gateway.wait_for("box", "Provisioning")
        driver.show(sandbox_id, "box", ready("Unknown"))
        driver.show(sandbox_id, "box", ready())
        await gateway.wait_for("box", "Ready")
        driver.show(sandbox_id, "box", ready("Unknown"))
        await caught_up(driver, gateway, sandbox_id)

        assert gateway.records[0].phase == "Ready"


async def test_events_are_applied_in_order(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        sandbox_id = await boxed(driver, gateway)
        for number in range(20):
            driver.show(sandbox_id, "box", ready("True", f"Run{number}"))
        await caught_up(driver, gateway, sandbox_id)

    shown = [entry.reason for entry in gateway.journal if entry.reason.startswith("Run")]
    assert shown == ["Running", *(f"Run{number}" for number in range(20))]


async def test_platform_events_are_published_with_their_progress(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    progress = {
        "openshell.progress.active_step": "pulling_image",
        "openshell.progress.active_detail": "40 %",
    }
    async with Gateway(socket_path, preset=preset) as gateway:
        sandbox_id = await boxed(driver, gateway)
        driver.emit_happening("unknown", "Lost")
        driver.emit_happening(sandbox_id, "Pulling", **progress)
        entry = await told(gateway, "Pulling")

        assert entry.event is not None
        assert entry.event.time is not None
        assert entry.event.time.timestamp() == 1
        assert entry.progress == Progress(active_step="pulling_image", active_detail="40 %")
        assert gateway.records[0].phase == "Ready"
        assert not any("Lost" in str(each) for each in gateway.journal)


@pytest.mark.parametrize("preset", NEWEST)
@pytest.mark.parametrize("answer", [Status("UNAVAILABLE"), Status("NOT_FOUND")])
async def test_a_snapshot_of_a_starting_sandbox_is_confirmed(
    driver: ScriptedCompute, socket_path: Path, preset: str, answer: Status
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        sandbox_id = await boxed(driver, gateway)
        await gateway.stop("box")
        driver.emits = False
        await gateway.start("box")
        driver.script["GetSandbox"] = [answer]
        driver.emit_snapshot(snapshot(sandbox_id, "box", ready()))
        await caught_up(driver, gateway, sandbox_id)
        assert gateway.records[0].phase == "Starting"  # the Get failed, so it is ignored

        driver.emit_snapshot(snapshot(sandbox_id, "box", ready()))
        await caught_up(driver, gateway, sandbox_id)
        assert gateway.records[0].phase == "Starting"  # the Get said so

        driver.show(sandbox_id, "box", ready())
        driver.emit_snapshot(snapshot(sandbox_id, "box", STARTING))
        await gateway.wait_for("box", "Ready")


async def test_a_starting_sandbox_of_0_0_x_believes_the_watch(
    driver: ScriptedCompute, socket_path: Path
) -> None:
    async with Gateway(socket_path, preset="0.0.111") as gateway:
        sandbox_id = await boxed(driver, gateway)
        await gateway.stop("box")
        driver.emits = False
        await gateway.start("box")
        driver.emit_snapshot(snapshot(sandbox_id, "box", SUSPENDED))  # of the run before
        driver.emit_snapshot(snapshot(sandbox_id, "box", ready()))
        await gateway.wait_for("box", "Ready")

    assert driver.asked("GetSandbox") == []
    assert phases(gateway)[-3:] == ["Stopped", "Starting", "Ready"]


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_the_previous_run_s_exit_condemns_a_starting_sandbox(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        sandbox_id = await boxed(driver, gateway)
        await gateway.stop("box")
        await gateway.start("box")
        driver.show(sandbox_id, "box", ready("False", "ContainerExited"))
        await gateway.wait_for("box", "Error")


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_a_time_that_is_none_breaks_the_watch_of_0_1(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    bad = condition("Ready", "False", "Dead")
    bad.transition_time.nanos = -1

    async with Gateway(socket_path, preset=preset, speed=20) as gateway:
        sandbox_id = await boxed(driver, gateway)
        driver.emit_snapshot(snapshot(sandbox_id, "box", bad))
        if preset == "0.0.111":
            await gateway.wait_for("box", "Error")
        else:
            await told(gateway, "the watch failed: INTERNAL")
            await gateway.wait_watching(times=2)
            assert gateway.records[0].phase == "Ready"


async def test_only_in_the_fork_a_slow_get_of_the_sweep_holds_events_up(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset, speed=100) as gateway:
        sandbox_id = await boxed(driver, gateway)
        stall = driver.always["GetSandbox"] = Stall()
        await until(lambda: driver.asked("GetSandbox"))
        driver.emit_happening(sandbox_id, "Waiting")
        if preset != "fork-mvp":
            await told(gateway, "Waiting")
            return
        with pytest.raises(TimeoutError):
            await told(gateway, "Waiting", within=0.3)
        del driver.always["GetSandbox"]
        stall.until.set()
        await told(gateway, "Waiting")
