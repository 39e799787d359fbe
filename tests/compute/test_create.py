"""A create happens wholly or leaves nothing: COMP-CREATE, COMP01-CREATE."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import pytest

from openshell_drivers import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from openshell_drivers._lifecycle import Lifecycle
from openshell_drivers.compute import (
    CreateScope,
    PlatformEvent,
    ProvisioningFailed,
    SandboxState,
)
from tests.compute.living import DELETED, ID, REF, START, Reader, living, rest, shown, spec
from tests.fakes.compute import OneByOne, Platform, Polled, Pushed, seen
from tests.fakes.polling import until

KINDS = [Polled, OneByOne, Pushed]
STEPS = ["reserve", "create", "created"]
STARTING = "Ready=False/Starting"
READY = "Ready=True/Running"

Driver = Polled | Pushed


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def driver(request: pytest.FixtureRequest) -> Driver:
    made: Driver = request.param()
    return made


async def nothing_is_left(life: Lifecycle, platform: Platform) -> None:
    async with life._locks.hold(ID):  # a create that was given up is undone behind its caller
        pass
    with pytest.raises(NotFound):
        await life.get(REF)
    await life.list()
    assert life.board.entries() == []
    assert platform.present == {}
    assert not life.board._held
    assert not life._creating
    assert not life._locks._locks


async def test_a_created_sandbox_is_listed_and_watched_at_once(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        identity = await life.create(spec())

        assert identity == f"runtime-{ID}"
        assert [each.id for each in life.board.entries()] == [ID]
        await rest()
        assert next(reader.phases()) in {STARTING, READY}
        await life.list()
        await rest()
        assert list(reader.phases())[-1] == READY


async def test_nothing_is_told_while_a_create_is_under_way(driver: Driver) -> None:
    gate = driver.platform.gate("create")
    async with living(driver) as life, Reader.of(life.board) as reader:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.create, spec())
            await gate.reached.wait()
            await life.list()
            with pytest.raises(NotFound):
                await life.get(REF)
            assert life.board.entries() == []
            await rest()
            assert reader.heard == []
            gate.opened.set()
        await rest()
        assert reader.of_id()


@pytest.mark.parametrize("step", STEPS)
async def test_a_create_that_fails_leaves_nothing(driver: Driver, step: str) -> None:
    driver.platform.fail(step, lambda: FailedPrecondition("the quota is used up"))
    async with living(driver) as life, Reader.of(life.board) as reader:
        with pytest.raises(FailedPrecondition, match="the quota is used up"):
            await life.create(spec())

        await nothing_is_left(life, driver.platform)
        assert reader.heard == []


@pytest.mark.parametrize("step", STEPS)
async def test_a_create_that_is_cancelled_leaves_nothing(driver: Driver, step: str) -> None:
    gate = driver.platform.gate(step)
    async with living(driver) as life, Reader.of(life.board) as reader:
        call = asyncio.create_task(life.create(spec()))  # cancelled as grpcio does it
        await gate.reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        await nothing_is_left(life, driver.platform)
        assert reader.heard == []


async def test_a_rollback_is_not_disturbed_by_whatever_else_is_cancelled(driver: Driver) -> None:
    async def prepare(scope: CreateScope) -> None:
        scope.undo(driver.platform.step, "undone")

    driver.prepare = prepare
    gate, undoing = driver.platform.gate("create"), driver.platform.gate("undone")
    async with living(driver) as life:
        call = asyncio.create_task(life.create(spec()))
        await gate.reached.wait()
        call.cancel()
        await undoing.reached.wait()
        call.cancel()
        life._end_creating(ID)
        undoing.opened.set()

        await nothing_is_left(life, driver.platform)
        assert {"undone", "delete"} <= set(driver.platform.steps)
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_rollback_that_hangs_does_not_hold_up_the_end(driver: Driver) -> None:
    """A process has 10 s to end, and a rollback otherwise 20 (PROC-EXIT-02)."""
    gate, hanging = driver.platform.gate("create"), driver.platform.gate("delete")
    with anyio.fail_after(10):
        async with living(driver) as life:
            call = asyncio.create_task(life.create(spec()))
            await gate.reached.wait()
            call.cancel()
            await hanging.reached.wait()

        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize("step", STEPS)
async def test_a_delete_ends_a_create_that_is_under_way(driver: Driver, step: str) -> None:
    gate = driver.platform.gate(step)
    async with living(driver) as life, Reader.of(life.board) as reader:
        async with anyio.create_task_group() as tasks:

            async def create() -> None:
                with pytest.raises(Aborted):
                    await life.create(spec())

            tasks.start_soon(create)
            await gate.reached.wait()
            assert await life.delete(REF) is False

        await nothing_is_left(life, driver.platform)
        assert reader.heard == []


@pytest.mark.parametrize("step", STEPS)
async def test_an_id_can_be_created_after_a_create_of_it_has_failed(
    driver: Driver, step: str
) -> None:
    driver.platform.fail(step, lambda: Unavailable("not now"))
    async with living(driver) as life, Reader.of(life.board) as reader:
        with pytest.raises(Unavailable):
            await life.create(spec())
        await life.create(spec())
        await life.list()
        await rest()

        assert shown(life.board) == READY
        assert DELETED not in reader.of_id()


async def test_steps_are_undone_in_reverse_and_then_the_sandbox_is_deleted(driver: Driver) -> None:
    undone: list[str] = []

    async def undo(name: str) -> None:
        undone.append(name)
        assert "delete" not in driver.platform.steps
        if name == "two":
            raise RuntimeError("not this one")

    async def prepare(scope: CreateScope) -> None:
        for name in ("one", "two", "three"):
            scope.undo(undo, name)

    driver.prepare = prepare
    driver.platform.fail("create", lambda: Unavailable("not now"))
    async with living(driver) as life:
        with pytest.raises(Unavailable):
            await life.create(spec())

        assert undone == ["three", "two", "one"]
        await nothing_is_left(life, driver.platform)


async def test_no_step_is_undone_when_a_create_succeeds(driver: Driver) -> None:
    async def prepare(scope: CreateScope) -> None:
        scope.undo(driver.platform.step, "undone")

    driver.prepare = prepare
    async with living(driver) as life:
        await life.create(spec())

    assert "undone" not in driver.platform.steps
    assert "delete" not in driver.platform.steps


async def test_what_an_undo_awaited_may_be_cancelled_and_the_rest_is_undone(
    driver: Driver,
) -> None:
    """A future that somebody else cancelled is a failure of that step alone."""

    async def lost() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def prepare(scope: CreateScope) -> None:
        scope.undo(driver.platform.step, "undone")
        scope.undo(lost)

    driver.prepare = prepare
    gate = driver.platform.gate("create")
    async with living(driver) as life:
        call = asyncio.create_task(life.create(spec()))
        await gate.reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        await nothing_is_left(life, driver.platform)
        assert "undone" in driver.platform.steps


async def test_what_a_create_awaited_may_be_cancelled_and_is_undone(driver: Driver) -> None:
    async def prepare(scope: CreateScope) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future  # raises at once

    driver.prepare = prepare
    async with living(driver) as life:
        with pytest.raises(Internal):
            await life.create(spec())

        await nothing_is_left(life, driver.platform)


async def test_what_could_not_be_removed_is_removed_later(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openshell_drivers._undoing._CLEAN_UP", [0.0, 0.0, 0.0])
    driver.platform.fail("created", lambda: Unavailable("no answer"))
    driver.platform.fail("delete", *[lambda: Unavailable("no answer")] * 2)
    async with living(driver) as life, Reader.of(life.board) as reader:
        with pytest.raises(Unavailable):
            await life.create(spec())
        await life.list()
        assert life.board.entries() == []
        await until(lambda: not driver.platform.present)
        await rest()

        assert driver.platform.count("delete") == 3
        assert reader.heard == []
        await nothing_is_left(life, driver.platform)


async def test_cleaning_up_keeps_no_lock_for_ever(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An author's delete that hangs does not make its id unusable."""
    monkeypatch.setattr("openshell_drivers._undoing._CLEAN_UP", [0.0])
    monkeypatch.setattr("openshell_drivers._undoing._ROLLBACK_SECONDS", 0.05)
    driver.platform.fail("created", lambda: Unavailable("no answer"))
    driver.platform.fail("delete", lambda: Unavailable("no answer"))
    async with living(driver) as life:
        with pytest.raises(Unavailable):
            await life.create(spec())
        gate = driver.platform.gate("delete")
        await gate.reached.wait()
        del driver.platform.gates["delete"]
        driver.platform.present.clear()
        with anyio.fail_after(5):
            await life.create(spec())


async def test_an_id_that_exists_is_refused_and_left_alone(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        await life.create(spec())
        before = driver.platform.count("create")
        with pytest.raises(AlreadyExists):
            await life.create(spec(name="other"))

        entry = await life.get(REF)
        assert entry.name == "box"
        assert driver.platform.count("create") == before
        assert "delete" not in driver.platform.steps
        assert DELETED not in reader.of_id()


async def test_of_two_creates_at_once_one_wins(driver: Driver) -> None:
    outcomes: list[str] = []

    async def create(life: Lifecycle) -> None:
        try:
            await life.create(spec())
            outcomes.append("created")
        except AlreadyExists:
            outcomes.append("exists")

    async with living(driver) as life, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(create, life)

    assert sorted(outcomes) == ["created", *["exists"] * 4]
    assert driver.platform.count("create") == 1


async def test_a_backend_that_has_the_id_keeps_it(driver: Driver) -> None:
    """And what was registered last stays: it is what the backend already had."""
    undone: list[str] = []

    async def undo(name: str) -> None:
        undone.append(name)

    async def prepare(scope: CreateScope) -> None:
        scope.undo(undo, "volume")
        scope.undo(undo, "sandbox")
        driver.platform.put(ID, SandboxState.ready())
        driver.told(ID)
        raise AlreadyExists("it is there")

    driver.prepare = prepare
    async with living(driver) as life:
        with pytest.raises(AlreadyExists):
            await life.create(spec())
        await life.list()

        assert undone == ["volume"]
        assert "delete" not in driver.platform.steps
        assert shown(life.board) == READY


async def test_a_create_is_refused_while_the_backend_cannot_be_seen(driver: Driver) -> None:
    async with living(driver) as life:
        driver.platform.out = "no route"
        life.board.blind("no route")
        with pytest.raises(Unavailable):
            await life.create(spec())

    assert driver.platform.count("reserve") == 0


async def test_a_refused_request_never_reaches_the_driver(driver: Driver) -> None:
    async with living(driver) as life:
        with pytest.raises(InvalidArgument):
            await life.create(spec(sandbox_id="../up"))

    assert driver.platform.count("reserve") == 0


async def test_a_deletion_seen_during_a_create_outdates_what_was_seen_before() -> None:
    driver = Pushed()
    gate = driver.platform.gate("created")
    async with living(driver) as life:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.create, spec())
            await gate.reached.wait()  # ready has been told
            assert driver.feed is not None
            driver.feed.delete(ID)  # of what had this id before
            gate.opened.set()

        assert shown(life.board) == STARTING


# What goes on after the answer


async def test_background_work_shows_starting_until_it_ends(driver: Driver) -> None:
    async def work() -> None:
        driver.platform.put(ID, SandboxState.exited())  # a helper's end, say
        driver.told(ID)
        await driver.platform.step("work")
        driver.platform.put(ID, SandboxState.ready())
        driver.told(ID)

    driver.work = work
    gate = driver.platform.gate("work")
    async with living(driver) as life, Reader.of(life.board) as reader:
        await life.create(spec())
        await gate.reached.wait()
        await life.list()
        assert shown(life.board) == STARTING
        gate.opened.set()
        await until(lambda: not life._provisioning)
        await life.list()
        await rest()

        assert list(dict.fromkeys(reader.phases())) == [STARTING, READY]


FAILURES: dict[str, tuple[Callable[[], BaseException], str]] = {
    "its own reason": (lambda: ProvisioningFailed("ImagePullFailed", "no such image"), "x"),
    "a driver's error": (lambda: Unavailable("the registry is down"), "y"),
    "any exception": (lambda: RuntimeError("canary-31f0"), "z"),
    "a cancelled future": (asyncio.CancelledError, "z"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_of_background_work_stays_until_the_sandbox_is_deleted(
    driver: Driver, name: str
) -> None:
    async def work() -> None:
        driver.platform.present.clear()
        raise FAILURES[name][0]()

    driver.work = work
    async with living(driver) as life, Reader.of(life.board) as reader:
        await life.create(spec())
        await until(lambda: not life._provisioning)
        for _ in range(5):
            await life.list()
            life.board.replace([], strikes=1)
        life.board.lapse()
        reason = "ImagePullFailed" if name == "its own reason" else "ProvisioningFailed"
        assert shown(life.board) == f"Ready=False/{reason}"
        entry = await life.get(REF)
        assert "canary" not in str(entry.view)

        assert await life.delete(REF) is True
        await rest()
        assert list(reader.phases())[-1] == DELETED
        assert await life.delete(REF) is False


async def test_a_delete_cancels_background_work_and_waits_for_its_end(driver: Driver) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await driver.platform.step("work")
        finally:
            assert "delete" not in driver.platform.steps
            ended.append("work")

    driver.work = work
    gate = driver.platform.gate("work")
    async with living(driver) as life, Reader.of(life.board) as reader:
        await life.create(spec())
        await gate.reached.wait()
        assert await life.delete(REF) is True
        await life.list()
        await rest()

        assert ended == ["work"]
        assert list(reader.phases())[-1] == DELETED
        assert not any("Provisioning" in each for each in reader.phases())
        await nothing_is_left(life, driver.platform)


async def test_a_start_of_what_is_being_provisioned_is_done_already(driver: Driver) -> None:
    """COMP-START-01; a gateway that starts anew starts all that is on its way."""

    async def work() -> None:
        await driver.platform.step("work")

    driver.work = work
    gate = driver.platform.gate("work")
    async with living(driver) as life:
        await life.create(spec())
        await gate.reached.wait()
        with anyio.fail_after(2):
            assert await life.start(REF, START) == f"runtime-{ID}"
        assert "start" not in driver.platform.steps
        gate.opened.set()


async def test_a_delete_does_not_wait_behind_a_stop_that_waits_for_provisioning(
    driver: Driver,
) -> None:
    async def work() -> None:
        await driver.platform.step("work")

    async def operate(life: Lifecycle) -> None:
        with pytest.raises((NotFound, FailedPrecondition)):  # gone, or going
            await life.stop(REF)

    driver.work = work
    gate = driver.platform.gate("work")
    async with living(driver) as life:
        await life.create(spec())
        await gate.reached.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(operate, life)
            await rest()
            with anyio.fail_after(2):
                assert await life.delete(REF) is True


async def test_a_stop_waits_for_provisioning_to_end(driver: Driver) -> None:
    async def work() -> None:
        await driver.platform.step("work")

    driver.work = work
    gate = driver.platform.gate("work")
    async with living(driver) as life:
        await life.create(spec())
        await gate.reached.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.stop, REF)
            await rest()
            assert "stop" not in driver.platform.steps
            gate.opened.set()
        assert shown(life.board) == "Suspended=True/Stopped Ready=Unknown/Stopped"


async def test_a_delete_that_fails_after_it_stopped_the_work_leaves_a_failed_sandbox(
    driver: Driver,
) -> None:
    async def work() -> None:
        await driver.platform.step("work")

    driver.work = work
    driver.platform.fail("delete", lambda: Unavailable("no answer"))
    gate = driver.platform.gate("work")
    async with living(driver) as life:
        await life.create(spec())
        await gate.reached.wait()
        with pytest.raises(Unavailable):
            await life.delete(REF)

        assert shown(life.board) == "Ready=False/ProvisioningInterrupted"
        assert await life.delete(REF) is True


async def test_an_optional_step_that_fails_is_a_warning_to_the_user(driver: Driver) -> None:
    events: list[PlatformEvent] = []

    async def fail(error: Exception) -> None:
        raise error

    async def prepare(scope: CreateScope) -> None:
        async with scope.optional("network policy"):
            await fail(Unavailable("no plugin"))
        async with scope.optional("metrics"):
            await fail(RuntimeError("canary-77aa"))

    driver.prepare = prepare
    async with living(driver) as life, Reader.of(life.board) as reader:
        tell = life.board.event

        def keep(sandbox_id: str, event: PlatformEvent) -> None:
            events.append(event)
            tell(sandbox_id, event)

        life.board.event = keep  # type: ignore[method-assign]
        await life.create(spec())
        await rest()

        assert reader.of_id().count("event:Skipped") == 2
        assert reader.of_id()[0] == STARTING or reader.of_id()[0] == READY
    assert {(each.type, each.message) for each in events} == {
        ("Warning", "The sandbox has no network policy: no plugin"),
        ("Warning", "The sandbox has no metrics"),
    }


async def test_events_of_a_create_that_fails_are_told_to_nobody(driver: Driver) -> None:
    async def prepare(scope: CreateScope) -> None:
        scope.event(PlatformEvent(reason="Pulling"))

    driver.prepare = prepare
    driver.platform.fail("created", lambda: Unavailable("not now"))
    async with living(driver) as life, Reader.of(life.board) as reader:
        with pytest.raises(Unavailable):
            await life.create(spec())
        await rest()
        assert reader.heard == []


async def test_what_a_backend_shows_of_a_failed_create_is_not_told(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openshell_drivers._undoing._CLEAN_UP", [])
    driver.platform.fail("created", lambda: Unavailable("not now"))
    driver.platform.fail("delete", lambda: Unavailable("not now"))
    async with living(driver) as life, Reader.of(life.board) as reader:
        with pytest.raises(Unavailable):
            await life.create(spec())
        driver.told(ID)
        life.board.update(seen(ID, SandboxState.ready()))
        await life.list()
        await rest()

        assert reader.heard == []
        assert life.board.entries() == []
        assert await life.delete(REF) is True  # it is there, and can be deleted


async def test_what_another_instance_has_just_created_is_left_untouched() -> None:
    """COMP-CREATE-03: it is seen before anything is created, and so before anything is undone."""
    driver = Polled()
    async with living(driver) as life:
        driver.platform.put(ID, SandboxState.ready())  # between two polls
        with pytest.raises(AlreadyExists):
            await life.create(spec())
        assert "delete" not in driver.platform.steps
        assert ID in driver.platform.present
