"""A delete works in every state and is told once: COMP-DEL, COMP01-DEL, COMP-WATCH-05 to 07."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from openshell_drivers import FailedPrecondition, Internal, NotFound, Unavailable
from openshell_drivers._lifecycle import Lifecycle
from openshell_drivers.compute import SandboxRef, SandboxState
from tests.compute.living import DELETED, ID, REF, START, Reader, living, rest, shown, spec
from tests.fakes.compute import OneByOne, Polled, Pushed, seen
from tests.fakes.polling import until

KINDS = [Polled, OneByOne, Pushed]
READY = "Ready=True/Running"
STOPPED = "Suspended=True/Stopped Ready=Unknown/Stopped"
DELETING = "Ready=Unknown/Deleting deleting"
STATES = {
    "starting": SandboxState.starting(),
    "ready": SandboxState.ready(),
    "transient": SandboxState.transient("ReconcilerError"),
    "unknown": SandboxState.unknown(),
    "failed": SandboxState.failed("ImagePullFailed"),
    "exited": SandboxState.exited(),
    "stopping": SandboxState.stopping(),
    "stopped": SandboxState.stopped(),
    "deleting": SandboxState.deleting(),
}

Driver = Polled | Pushed


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def driver(request: pytest.FixtureRequest) -> Driver:
    made: Driver = request.param()
    return made


@pytest.mark.parametrize("state", STATES)
async def test_a_delete_works_in_every_state(driver: Driver, state: str) -> None:
    driver.platform.put(ID, STATES[state])
    async with living(driver) as life, Reader.of(life.board) as reader:
        assert await life.delete(REF) is True
        await life.list()
        await rest()

        assert reader.of_id()[-2:] == [DELETING, DELETED]
        assert reader.of_id().count(DELETED) == 1
        assert life.board.entries() == []
        with pytest.raises(NotFound):
            await life.get(REF)
        assert await life.delete(REF) is False


async def test_nothing_there_is_no_error(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        assert await life.delete(SandboxRef(id="nobody", name="box")) is False
        await rest()
        assert reader.heard == []


async def test_a_name_is_no_match(driver: Driver) -> None:
    async with living(driver) as life:
        await life.create(spec())
        assert await life.delete(SandboxRef(id="other", name="box")) is False
        assert (await life.get(REF)).id == ID


async def test_deletes_at_once_agree(driver: Driver) -> None:
    answers: list[bool] = []

    async def delete(life: Lifecycle) -> None:
        answers.append(await life.delete(REF))

    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life, Reader.of(life.board) as reader:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(delete, life)
        await life.list()
        await rest()

        assert any(answers)
        assert reader.of_id().count(DELETED) == 1


async def test_deleting_is_shown_until_the_backend_has_nothing_left(driver: Driver) -> None:
    driver.platform.put(ID, SandboxState.ready())
    driver.platform.stubborn = True
    async with living(driver) as life, Reader.of(life.board) as reader:
        assert await life.delete(REF) is True
        for _ in range(3):
            driver.told(ID)
            await life.list()
        life.board.lapse()
        assert shown(life.board) == DELETING
        assert [each.id for each in life.board.entries()] == [ID]

        driver.platform.present.clear()
        driver.told(ID)
        await life.list()
        await rest()
        assert reader.of_id()[-2:] == [DELETING, DELETED]


async def test_a_delete_that_fails_leaves_the_sandbox_as_it_was(driver: Driver) -> None:
    driver.platform.put(ID, SandboxState.ready())
    driver.platform.fail("delete", lambda: Unavailable("no answer"))
    async with living(driver) as life, Reader.of(life.board) as reader:
        with pytest.raises(Unavailable):
            await life.delete(REF)
        await rest()

        assert reader.of_id() == [READY, DELETING, READY]
        assert await life.delete(REF) is True
        await life.list()
        await rest()
        assert reader.of_id()[-1] == DELETED


async def test_a_second_delete_that_fails_does_not_undo_the_first(driver: Driver) -> None:
    driver.platform.put(ID, SandboxState.ready())
    driver.platform.stubborn = True
    async with living(driver) as life, Reader.of(life.board) as reader:
        assert await life.delete(REF) is True
        driver.platform.fail("delete", lambda: Unavailable("no answer"))
        with pytest.raises(Unavailable):
            await life.delete(REF)
        assert shown(life.board) == DELETING

        driver.platform.present.clear()
        driver.told(ID)
        await life.list()
        await rest()
        assert reader.of_id()[-2:] == [DELETING, DELETED]


@pytest.mark.parametrize("operation", ["stop", "start"])
async def test_what_is_being_deleted_is_neither_stopped_nor_started(
    driver: Driver, operation: str
) -> None:
    driver.platform.put(ID, SandboxState.ready())
    driver.platform.stubborn = True
    async with living(driver) as life:
        await life.delete(REF)
        with pytest.raises(FailedPrecondition):
            await (life.stop(REF) if operation == "stop" else life.start(REF, START))

        assert operation not in driver.platform.steps
        assert shown(life.board) == DELETING


async def test_a_caller_that_gives_up_does_not_end_a_delete(driver: Driver) -> None:
    driver.platform.put(ID, SandboxState.ready())
    gate = driver.platform.gate("delete")
    async with living(driver) as life, Reader.of(life.board) as reader:
        call = asyncio.create_task(life.delete(REF))
        await gate.reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.opened.set()
        await until(lambda: not driver.platform.present)
        await life.list()
        await until(lambda: reader.of_id()[-1] == DELETED)


async def test_a_delete_that_takes_too_long_fails_and_the_sandbox_stays(driver: Driver) -> None:
    driver.platform.put(ID, SandboxState.ready())
    driver.platform.gate("delete")
    async with living(driver) as life:
        life._detached._limit = 0.05
        with pytest.raises(TimeoutError):
            await life.delete(REF)
        assert shown(life.board) == READY


async def test_a_new_watch_hears_of_a_deletion_that_nobody_read(driver: Driver) -> None:
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life:
        async with Reader.of(life.board) as before:
            pass
        await life.delete(REF)
        await life.list()
        async with Reader.of(life.board) as after:
            pass
        async with Reader.of(life.board) as last:
            pass

    assert before.of_id() == [READY]
    assert after.of_id() == [DELETED]
    assert last.heard == []


async def test_a_deletion_that_was_read_is_not_told_to_a_new_watch(driver: Driver) -> None:
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life:
        async with Reader.of(life.board) as first:
            await life.delete(REF)
            await life.list()
        async with Reader.of(life.board) as second:
            pass

    assert first.of_id()[-1] == DELETED
    assert second.heard == []


async def test_nothing_comes_after_a_deletion(driver: Driver) -> None:
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life, Reader.of(life.board) as reader:
        await life.delete(REF)
        await life.list()
        life.board.update(seen(ID, SandboxState.ready()))  # a push that was on its way
        life.board.replace([seen(ID, SandboxState.ready())])
        await rest()

        assert reader.of_id()[-1] == DELETED
        assert life.board.entries() == []


async def test_a_deleted_id_can_be_created_again(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        for _ in range(3):
            await life.create(spec())
            await life.list()
            await rest()
            await life.delete(REF)
            await life.list()
            await rest()

        assert reader.of_id().count(DELETED) == 3
        assert reader.of_id().count(READY) == 3


async def test_what_another_instance_has_created_is_found_before_it_is_deleted() -> None:
    """So that it is shown as deleting and told as deleted."""
    driver = Polled()
    async with living(driver) as life, Reader.of(life.board) as reader:
        driver.platform.put(ID, SandboxState.ready())  # the poll is an hour away
        assert await life.delete(REF) is True
        await life.list()
        await rest()
        assert reader.of_id()[-2:] == [DELETING, DELETED]


async def test_nothing_is_deleted_while_the_backend_cannot_be_seen(driver: Driver) -> None:
    """A driver that cannot see may find nothing, and its gateway would drop the record."""
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life:
        driver.platform.out = "no route"
        life.board.blind("no route")
        for ref in (REF, SandboxRef(id="unknown")):
            with pytest.raises(Unavailable):
                await life.delete(ref)
        assert "delete" not in driver.platform.steps


async def test_a_driver_that_finds_nothing_of_what_it_lists_has_deleted_nothing() -> None:
    driver = Polled()
    driver.platform.put(ID, SandboxState.ready())

    async def nothing(ref: SandboxRef) -> bool:
        return False

    driver.delete_sandbox = nothing  # type: ignore[method-assign]
    async with living(driver) as life:
        with pytest.raises(Internal, match="the sandbox is there"):
            await life.delete(REF)
        assert shown(life.board) == "Ready=True/Running"
        driver.platform.present.clear()
        assert await life.delete(REF) is True
        await life.list()
        assert life.board.entries() == []
