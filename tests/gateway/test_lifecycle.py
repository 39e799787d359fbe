"""Stop, start and delete, with drivers that answer them badly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from openshell_drivers import DriverError, Secret
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.testing.gateway import Gateway, UserError
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


@asynccontextmanager
async def running(
    driver: ScriptedCompute, path: Path, preset: str, speed: float = 1.0
) -> AsyncIterator[Gateway]:
    """A gateway with a ready sandbox, whose driver sends no events any more."""
    async with Gateway(path, preset=preset, speed=speed) as gateway:
        await gateway.wait_watching()
        record = await gateway.create("box")
        driver.show(record.id, "box", ready())
        await gateway.wait_for("box", "Ready")
        driver.emits = False
        yield gateway


def state(gateway: Gateway) -> str:
    return gateway.records[0].phase


async def failing(gateway: Gateway, what: str) -> UserError:
    """Do something that must fail; how the user sees it."""
    with pytest.raises(UserError) as error:
        await getattr(gateway, what)("box")
    return error.value


@pytest.mark.parametrize("what", ["stop", "start"])
async def test_the_fork_neither_stops_nor_starts(
    driver: ScriptedCompute, socket_path: Path, what: str
) -> None:
    async with running(driver, socket_path, "fork-mvp") as gateway:
        error = await failing(gateway, what)

    assert error.code == "UNIMPLEMENTED"
    assert driver.asked("StopSandbox") == driver.asked("StartSandbox") == []


async def test_what_is_not_there_is_not_found(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        error = await failing(gateway, "delete")

    assert error.code == "NOT_FOUND"


# Stop


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_ok_means_stopped_and_the_session_is_gone(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        record = await gateway.stop("box")

        assert (record.phase, record.session) == ("Stopped", False)
        assert phases(gateway)[-2:] == ["Stopping", "Stopped"]
    request = driver.asked("StopSandbox")[0]
    assert (request.sandbox_id, request.name) == (record.id, "box")


@pytest.mark.parametrize("preset", UPSTREAM)
@pytest.mark.parametrize(
    ("answer", "phase"),
    [
        ([SUSPENDED], "Stopped"),
        ([ready("False", "ContainerExited")], "Stopped"),
        ([condition("Suspended", "False", "PodTerminating")], "Stopping"),
        ([ready()], "Ready"),
        ([STARTING], "Ready"),
        ([condition("Stopped", "True", "ComputeStopped")], "Ready"),
        ([ready("False", "Dead")], "Error"),
        (Status("UNAVAILABLE"), "Stopping"),
        (Status("NOT_FOUND"), "Stopping"),
    ],
)
async def test_get_decides_after_a_failed_stop(
    driver: ScriptedCompute,
    socket_path: Path,
    preset: str,
    answer: list[wire.DriverCondition] | Status,
    phase: str,
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        driver.script["StopSandbox"] = [Status("ABORTED", "busy")]
        driver.script["GetSandbox"] = [
            answer
            if isinstance(answer, Status)
            else wire.GetSandboxResponse(sandbox=snapshot(gateway.records[0].id, "box", *answer))
        ]
        error = await failing(gateway, "stop")

        assert (error.code, error.message) == ("ABORTED", "stop sandbox: busy")
        assert state(gateway) == phase


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_a_get_without_status_or_of_another_sandbox_tells_nothing(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        sandbox_id = gateway.records[0].id
        driver.always["StopSandbox"] = Status("INTERNAL")
        for odd in (wire.DriverSandbox(id=sandbox_id, name="box"), snapshot("x", "box", SUSPENDED)):
            driver.script["GetSandbox"] = [wire.GetSandboxResponse(sandbox=odd)]
            await failing(gateway, "stop")  # from Stopping it may be tried again
            assert state(gateway) == "Stopping"


@pytest.mark.parametrize("preset", NEWEST)
async def test_the_look_up_of_0_1_has_10_seconds(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset, speed=50) as gateway:
        driver.script["StopSandbox"] = [Status("INTERNAL")]
        driver.always["GetSandbox"] = Stall()
        await failing(gateway, "stop")

        assert state(gateway) == "Stopping"
        await told(gateway, "the look-up of box took too long")


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_the_watch_confirms_a_stop_under_way(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway, anyio.create_task_group() as tasks:
        stall = driver.always["StopSandbox"] = Stall()
        tasks.start_soon(gateway.stop, "box")
        await until(lambda: driver.asked("StopSandbox"))
        assert state(gateway) == "Stopping"
        driver.emits = True
        driver.show(gateway.records[0].id, "box", SUSPENDED)
        await gateway.wait_for("box", "Stopped")
        stall.until.set()


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_operations_wait_for_each_other_and_the_user_s_going_away_stops_none(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        stall = driver.always["StopSandbox"] = Stall()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.stop, "box")
            await until(lambda: driver.asked("StopSandbox"))
            tasks.cancel_scope.cancel()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.start, "box")
            await anyio.wait_all_tasks_blocked()
            assert driver.asked("StartSandbox") == []
            stall.until.set()

        assert phases(gateway)[-3:] == ["Stopping", "Stopped", "Starting"]


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_only_what_is_ready_can_be_stopped_and_what_is_stopped_started(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        await gateway.create("box")
        errors = [await failing(gateway, what) for what in ("stop", "start")]

    assert [error.code for error in errors] == ["FAILED_PRECONDITION"] * 2
    assert driver.asked("StopSandbox") == driver.asked("StartSandbox") == []


# Start


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_start_keeps_starting_until_the_watch_says_ready(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.identity = "uid:1"
    async with running(driver, socket_path, preset) as gateway:
        await gateway.stop("box")
        first = await gateway.start("box")
        assert first.phase == "Starting"
        driver.emits = True
        driver.show(first.id, "box", ready())
        await gateway.wait_for("box", "Ready")
        await gateway.stop("box")
        second = await gateway.start("box")

    requests = driver.asked("StartSandbox")
    new = preset in NEWEST
    assert [bool(each.launch_authentication) for each in requests] == [new, new]
    assert [each.generation_id for each in requests] == (
        [first.generation, second.generation] if new else ["", ""]
    )
    assert first.generation != second.generation
    assert {each.expected_runtime_identity for each in requests} == {"uid:1" if new else ""}


@pytest.mark.parametrize("preset", NEWEST)
async def test_a_start_that_is_tried_again_has_the_same_generation(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        await gateway.stop("box")
        driver.script["StartSandbox"] = [Status("UNAVAILABLE")]
        driver.script["GetSandbox"] = [Status("UNAVAILABLE")]
        error = await failing(gateway, "start")
        assert (error.code, state(gateway)) == ("UNAVAILABLE", "Starting")
        await gateway.start("box")

    first, second = driver.asked("StartSandbox")
    assert first.generation_id == second.generation_id != ""
    assert first.launch_authentication != second.launch_authentication


@pytest.mark.parametrize("preset", UPSTREAM)
@pytest.mark.parametrize(
    ("answer", "phase"),
    [
        ([SUSPENDED], "Stopped"),
        ([ready()], "Starting"),
        ([STARTING], "Starting"),
        ([ready("False", "Dead")], "Error"),
        (Status("NOT_FOUND"), "Error"),
        (Status("UNAVAILABLE"), "Starting"),
    ],
)
async def test_get_decides_after_a_failed_start(
    driver: ScriptedCompute,
    socket_path: Path,
    preset: str,
    answer: list[wire.DriverCondition] | Status,
    phase: str,
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        await gateway.stop("box")
        driver.script["StartSandbox"] = [Status("RESOURCE_EXHAUSTED", "full")]
        driver.script["GetSandbox"] = [
            answer
            if isinstance(answer, Status)
            else wire.GetSandboxResponse(sandbox=snapshot(gateway.records[0].id, "box", *answer))
        ]
        error = await failing(gateway, "start")

        assert (error.code, error.message) == ("RESOURCE_EXHAUSTED", "start sandbox: full")
        assert state(gateway) == phase


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_a_start_that_finds_nothing_creates_again_in_0_1(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        await gateway.stop("box")
        driver.sandboxes.clear()
        if preset == "0.0.111":
            error = await failing(gateway, "start")
            assert (error.code, state(gateway)) == ("NOT_FOUND", "Error")
            return
        await gateway.start("box")

        assert state(gateway) == "Provisioning"
        first, second = (each.sandbox for each in driver.asked("CreateSandbox"))
        assert (first.id, first.name) == (second.id, second.name)
        assert first.spec.template == second.spec.template
        assert first.spec.sandbox_token != second.spec.sandbox_token


@pytest.mark.parametrize("preset", NEWEST)
async def test_a_policy_that_changed_stops_a_start(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        await gateway.stop("box")
        driver.capabilities.resource_admission_policy = "v1: {}"
        error = await failing(gateway, "start")

        assert error.message == "policy changed; restart the gateway"
        assert state(gateway) == "Stopped"
        await gateway.delete("box")  # not gated
    assert driver.asked("StartSandbox") == []


@pytest.mark.parametrize("preset", NEWEST)
async def test_a_start_without_a_runtime_identity_is_undone_with_a_stop(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.capabilities.supports_sandbox_authentication = True
    driver.identity = "uid:1"
    async with running(driver, socket_path, preset) as gateway:
        await gateway.stop("box")
        driver.identity = ""
        error = await failing(gateway, "start")

        assert (error.code, state(gateway)) == ("INTERNAL", "Stopped")
        assert gateway.records[0].runtime_identity == "uid:1"
    assert len(driver.asked("StopSandbox")) == 2


@pytest.mark.parametrize("preset", NEWEST)
async def test_a_start_that_takes_too_long_is_reclaimed_and_can_be_tried_again(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset, speed=5000) as gateway:
        await gateway.stop("box")
        stall = Stall()
        driver.script["StartSandbox"] = [stall]
        error = await failing(gateway, "start")
        assert error.code == "DEADLINE_EXCEEDED"
        stall.until.set()
        await gateway.wait_for("box", "Stopped")
        await until(lambda: not gateway.records[0].pending)
        await gateway.start("box")


# Delete


async def test_true_keeps_the_record_until_the_event(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        sandbox_id = gateway.records[0].id
        await gateway.delete("box")
        assert state(gateway) == "Deleting"
        driver.emit_deleted(sandbox_id)
        await gateway.wait_gone("box")


async def test_false_ends_the_record_at_once(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        driver.sandboxes.clear()
        await gateway.delete("box")

        assert gateway.records == ()


async def test_a_failed_delete_is_internal_whatever_the_code(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        driver.script["DeleteSandbox"] = [Status("NOT_FOUND", "what sandbox?")]
        driver.script["GetSandbox"] = [Status("UNAVAILABLE")]
        error = await failing(gateway, "delete")

        assert (error.code, error.message) == ("INTERNAL", "delete sandbox: what sandbox?")
        assert state(gateway) == ("Deleting" if preset == "fork-mvp" else "Ready")


async def test_a_snapshot_revives_a_failed_delete_of_the_fork_only(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        sandbox_id = gateway.records[0].id
        driver.always["DeleteSandbox"] = (
            Status("INTERNAL") if preset == "fork-mvp" else wire.DeleteSandboxResponse(deleted=True)
        )
        try:
            await gateway.delete("box")
        except DriverError:
            assert preset == "fork-mvp"
        driver.emits = True
        driver.show(sandbox_id, "box", ready())
        driver.emit_happening(sandbox_id, "Mark")
        await told(gateway, "Mark")

        assert state(gateway) == ("Ready" if preset == "fork-mvp" else "Deleting")


@pytest.mark.parametrize("preset", UPSTREAM)
@pytest.mark.parametrize(
    ("answer", "phase"),
    [
        ([ready()], "Ready"),
        ([ready("False", "Dead")], "Error"),
        ([SUSPENDED], "Stopped"),
        (None, "Ready"),
        (Status("NOT_FOUND"), None),
        (Status("INTERNAL"), "Ready"),
    ],
)
async def test_get_decides_after_a_failed_delete(
    driver: ScriptedCompute,
    socket_path: Path,
    preset: str,
    answer: list[wire.DriverCondition] | Status | None,
    phase: str | None,
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        sandbox_id = gateway.records[0].id
        driver.script["DeleteSandbox"] = [Status("UNAVAILABLE")]
        match answer:
            case Status():
                driver.script["GetSandbox"] = [answer]
            case None:
                bare = wire.DriverSandbox(id=sandbox_id, name="box")
                driver.script["GetSandbox"] = [wire.GetSandboxResponse(sandbox=bare)]
            case conditions:
                whole = snapshot(sandbox_id, "box", *conditions)
                driver.script["GetSandbox"] = [wire.GetSandboxResponse(sandbox=whole)]
        await failing(gateway, "delete")

        assert [each.phase for each in gateway.records] == ([] if phase is None else [phase])


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_a_second_delete_does_not_reach_the_driver(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        await gateway.delete("box")
        await gateway.delete("box")

    assert len(driver.asked("DeleteSandbox")) == 1


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_an_error_can_be_deleted(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with running(driver, socket_path, preset) as gateway:
        driver.emits = True
        driver.show(gateway.records[0].id, "box", ready("False", "Dead"))
        await gateway.wait_for("box", "Error")
        await gateway.delete("box")
        await gateway.wait_gone("box")


# Workspaces and authentication


@pytest.mark.parametrize("preset", UPSTREAM)
async def test_workspaces_are_made_and_removed_but_never_the_default_one(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    async with Gateway(socket_path, preset=preset) as gateway:
        await gateway.ensure_workspace("default")
        await gateway.ensure_workspace("team")
        driver.script["DeleteWorkspace"] = [Status("FAILED_PRECONDITION", "not empty")]
        with pytest.raises(UserError, match="not empty") as error:
            await gateway.delete_workspace("team")
        driver.always["DeleteWorkspace"] = driver.always["EnsureWorkspace"] = Status(
            "UNIMPLEMENTED"
        )
        await gateway.delete_workspace("team")
        await gateway.ensure_workspace("team")

    assert error.value.code == "FAILED_PRECONDITION"
    assert {each.workspace for each in driver.asked("EnsureWorkspace")} == {"team"}


@pytest.mark.parametrize("preset", NEWEST)
async def test_a_sandbox_is_authenticated_by_the_identity_of_its_create(
    driver: ScriptedCompute, socket_path: Path, preset: str
) -> None:
    driver.capabilities.supports_sandbox_authentication = True
    driver.identity = "uid:1"
    async with running(driver, socket_path, preset) as gateway:
        sandbox_id = gateway.records[0].id

        def says(who: str, identity: str) -> None:
            driver.script["AuthenticateSandbox"] = [
                wire.AuthenticateSandboxResponse(sandbox_id=who, runtime_identity=identity)
            ]

        says(sandbox_id, "uid:1")
        assert (await gateway.issue_token(Secret("c"))).name == "box"
        for who, identity in ((sandbox_id, "uid:2"), (sandbox_id, ""), ("", ""), ("x", "uid:1")):
            says(who, identity)
            with pytest.raises(UserError) as error:
                await gateway.issue_token(Secret("c"))
            assert error.value.code == "PERMISSION_DENIED"
        driver.script["AuthenticateSandbox"] = [Status("UNAUTHENTICATED")]
        with pytest.raises(UserError) as error:
            await gateway.issue_token(Secret("c"))
        assert error.value.code == "UNAUTHENTICATED"
