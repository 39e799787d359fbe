"""Stop and start tell nothing stale: COMP-STOP, COMP-START, COMP01-START, COMP01-STAT."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import anyio
import pytest

from openshell_drivers import FailedPrecondition, InvalidArgument, NotFound, Secret, Unavailable
from openshell_drivers._lifecycle import Lifecycle
from openshell_drivers.compute import SandboxRef, SandboxState, StartRequest
from tests.compute.living import DELETED, ID, REF, START, Reader, living, rest, shown, spec
from tests.fakes.compute import OneByOne, Polled, Pushed, seen
from tests.fakes.polling import until

KINDS = [Polled, OneByOne, Pushed]
STARTING = "Ready=False/Starting"
READY = "Ready=True/Running"
STOPPING = "Suspended=False/PodTerminating Ready=Unknown/Stopping"
STOPPED = "Suspended=True/Stopped Ready=Unknown/Stopped"

Driver = Polled | Pushed


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def driver(request: pytest.FixtureRequest) -> Driver:
    made: Driver = request.param()
    made.platform.put(ID, SandboxState.ready())
    return made


class Clock:
    """Time that the test makes pass."""

    def __init__(self, life: Lifecycle) -> None:
        self.now = 1000.0
        life.board._clock = lambda: self.now


async def test_a_stop_and_a_start_show_each_state_once(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        await life.stop(REF)
        await life.list()
        await rest()
        await life.start(REF, START)
        await life.list()
        await rest()
        driver.platform.put(ID, SandboxState.ready())
        driver.told(ID)
        await life.list()
        await rest()

        assert reader.of_id() == [READY, STOPPING, STOPPED, STARTING, READY] or (
            # another instance id is news as well
            reader.of_id() == [READY, STOPPING, STOPPED, STARTING, STARTING, READY]
        )


async def test_stopping_what_is_stopped_does_nothing(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        await life.stop(REF)
        await life.stop(REF)
        await life.list()
        await life.stop(REF)
        await rest()

        assert driver.platform.count("stop") == 1
        assert reader.of_id() == [READY, STOPPING, STOPPED]


async def test_starting_what_runs_changes_nothing(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        await life.start(REF, START)
        await life.list()
        await rest()

        assert reader.of_id() == [READY]
        entry = await life.get(REF)
        assert entry.view is not None
        assert entry.view.status is not None
        assert entry.view.status.instance_id == f"{ID}.1"


@pytest.mark.parametrize("operation", ["stop", "start"])
async def test_an_unknown_sandbox_is_not_found(driver: Driver, operation: str) -> None:
    nobody = SandboxRef(id="nobody", name="box")
    async with living(driver) as life:
        with pytest.raises(NotFound):
            await (life.stop(nobody) if operation == "stop" else life.start(nobody, START))

    assert operation not in driver.platform.steps


async def test_a_stop_that_fails_leaves_the_sandbox_as_it_was(driver: Driver) -> None:
    driver.platform.fail("stop", lambda: Unavailable("no answer"))
    async with living(driver) as life, Reader.of(life.board) as reader:
        with pytest.raises(Unavailable):
            await life.stop(REF)
        await rest()
        assert reader.of_id() == [READY, STOPPING, READY]
        await life.stop(REF)
        assert shown(life.board) == STOPPED


async def test_a_start_that_fails_leaves_it_stopped_and_startable(driver: Driver) -> None:
    driver.platform.fail("start", lambda: Unavailable("no answer"))
    async with living(driver) as life:
        await life.stop(REF)
        with pytest.raises(Unavailable):
            await life.start(REF, START)
        assert shown(life.board) == STOPPED
        await life.list()
        assert shown(life.board) == STOPPED
        assert await life.start(REF, START) == f"runtime-{ID}"


async def test_a_sandbox_that_a_stop_does_not_find_is_told_as_deleted(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        driver.platform.present.clear()  # nobody has told
        with pytest.raises(NotFound):
            await life.stop(REF)
        await life.list()
        await rest()

        assert reader.of_id()[-1] == DELETED
        assert life.board.entries() == []


async def test_a_sandbox_that_a_start_does_not_find_can_be_created_again(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        driver.platform.present.clear()
        with pytest.raises(NotFound):
            await life.start(REF, START)
        await life.create(spec())
        await life.list()
        await rest()

        assert DELETED not in reader.of_id()
        assert shown(life.board) == READY


@pytest.mark.parametrize("generation", ["g1", ""])
async def test_a_start_of_one_generation_is_made_once(driver: Driver, generation: str) -> None:
    request = StartRequest(generation_id=generation)
    async with living(driver) as life:
        await life.stop(REF)
        answers = [await life.start(REF, request) for _ in range(3)]

        assert answers == [f"runtime-{ID}"] * 3
        assert driver.platform.count("start") == (1 if generation else 3)
        assert driver.platform.present[ID].instance_id == f"{ID}.2"


async def test_parallel_starts_of_one_generation_are_one_start(driver: Driver) -> None:
    request = StartRequest(generation_id="g1")
    async with living(driver) as life:
        await life.stop(REF)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(life.start, REF, request)

    assert driver.platform.count("start") == 1


async def test_a_start_after_a_stop_is_made_though_its_generation_was(driver: Driver) -> None:
    request = StartRequest(generation_id="g1")
    async with living(driver) as life:
        await life.start(REF, request)
        await life.stop(REF)
        await life.start(REF, request)

    assert driver.platform.count("start") == 2


async def test_a_generation_whose_start_failed_is_tried_again(driver: Driver) -> None:
    request = StartRequest(generation_id="g1")
    driver.platform.fail("start", lambda: Unavailable("no answer"))
    async with living(driver) as life:
        await life.stop(REF)
        with pytest.raises(Unavailable):
            await life.start(REF, request)
        assert await life.start(REF, request) == f"runtime-{ID}"


async def test_another_identity_than_the_gateway_knows_is_not_started(driver: Driver) -> None:
    driver.platform.present.clear()
    async with living(driver) as life:
        await life.create(spec())
        await life.list()
        await life.stop(REF)
        with pytest.raises(FailedPrecondition):
            await life.start(REF, replace(START, expected_runtime_identity="canary-other"))
        assert "start" not in driver.platform.steps
        assert shown(life.board) == STOPPED
        good = replace(START, expected_runtime_identity=f"runtime-{ID}")
        assert await life.start(REF, good) == f"runtime-{ID}"


@pytest.mark.parametrize("text", ["canary-1{", "[]", '"canary-1"', "1", "null"])
async def test_launch_authentication_is_a_json_object(driver: Driver, text: str) -> None:
    async with living(driver) as life:
        with pytest.raises(InvalidArgument) as refused:
            await life.start(REF, StartRequest(launch_authentication=Secret(text)))

    assert "canary" not in str(refused.value)
    assert "start" not in driver.platform.steps


@pytest.mark.parametrize("operation", ["stop", "start"])
async def test_a_caller_that_gives_up_does_not_end_it(driver: Driver, operation: str) -> None:
    async with living(driver) as life:
        if operation == "start":
            await life.stop(REF)
        gate = driver.platform.gate(operation)
        call = asyncio.create_task(
            life.stop(REF) if operation == "stop" else life.start(REF, START)
        )
        await gate.reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.opened.set()
        done = "stopped" if operation == "stop" else "started"
        await until(lambda: done in driver.platform.steps)
        await life.list()
        assert shown(life.board) == (STOPPED if operation == "stop" else STARTING)


@pytest.mark.parametrize("operation", ["stop", "start"])
async def test_an_operation_that_takes_too_long_fails(driver: Driver, operation: str) -> None:
    async with living(driver) as life:
        if operation == "start":
            await life.stop(REF)
        driver.platform.gate(operation)
        life._detached._limit = 0.05
        with pytest.raises(TimeoutError):
            await (life.stop(REF) if operation == "stop" else life.start(REF, START))
        assert shown(life.board) == (READY if operation == "stop" else STOPPED)


async def test_operations_on_one_sandbox_do_not_overlap(driver: Driver) -> None:
    async with living(driver) as life:
        gate = driver.platform.gate("stop")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.stop, REF)
            await gate.reached.wait()
            tasks.start_soon(life.start, REF, START)
            await rest()
            assert "start" not in driver.platform.steps
            gate.opened.set()
        assert driver.platform.steps.index("stopped") < driver.platform.steps.index("start")


async def test_operations_on_two_sandboxes_run_together(driver: Driver) -> None:
    driver.platform.put("other", SandboxState.ready())
    async with living(driver) as life:
        gate = driver.platform.gate("stop")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.stop, REF)
            await gate.reached.wait()
            with anyio.fail_after(5):
                await life.start(SandboxRef(id="other"), START)
            gate.opened.set()


# What is stale


async def test_a_list_that_was_asked_for_before_a_stop_is_not_told() -> None:
    driver = Polled()
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life, Reader.of(life.board) as reader:
        gate = driver.platform.gate("list")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.list)
            await gate.reached.wait()  # it has read the backend
            await life.stop(REF)
            gate.opened.set()
        await rest()

        assert reader.of_id() == [READY, STOPPING, STOPPED]


async def test_a_list_that_was_asked_for_before_a_start_is_not_told() -> None:
    driver = Polled()
    driver.platform.put(ID, SandboxState.stopped())
    async with living(driver) as life, Reader.of(life.board) as reader:
        gate = driver.platform.gate("list")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.list)
            await gate.reached.wait()
            await life.start(REF, START)
            gate.opened.set()
        await rest()

        assert not any("Suspended" in each for each in reader.of_id()[1:])
        assert shown(life.board) == STARTING


@pytest.mark.parametrize("late", [SandboxState.ready(), SandboxState.exited()])
async def test_a_late_push_after_a_stop_is_not_told(late: SandboxState) -> None:
    driver = Pushed()
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life, Reader.of(life.board) as reader:
        clock = Clock(life)
        driver.mute = True
        await life.stop(REF)
        assert driver.feed is not None
        driver.feed.update(seen(ID, late))
        clock.now += 29
        life.board.lapse()
        await rest()

        assert reader.of_id() == [READY, STOPPING, STOPPED]


@pytest.mark.parametrize(
    "late", [SandboxState.stopped(), SandboxState.stopping(), SandboxState.exited()]
)
async def test_a_late_push_after_a_start_is_not_told(late: SandboxState) -> None:
    """Of the run before: the instance is the old one, or the backend names none."""
    for instance in (f"{ID}.1", ""):
        driver = Pushed()
        driver.platform.put(ID, SandboxState.stopped(), instance_id=instance)
        driver.mute = True
        async with living(driver) as life, Reader.of(life.board) as reader:
            await life.start(REF, START)
            assert driver.feed is not None
            driver.feed.update(seen(ID, late, instance_id=instance))
            life.board.lapse()
            await rest()

            assert {*reader.of_id()[1:]} == {STARTING}


async def test_an_exit_of_the_new_run_is_told_at_once() -> None:
    driver = Pushed()
    driver.platform.put(ID, SandboxState.stopped())
    async with living(driver) as life:
        await life.start(REF, START)
        assert driver.feed is not None
        driver.feed.update(seen(ID, SandboxState.exited(), instance_id=f"{ID}.2"))

        assert shown(life.board) == "Ready=False/ContainerExited"


async def test_what_was_seen_before_a_stop_is_not_shown_after_the_start(driver: Driver) -> None:
    """Ready belongs to the run before."""
    if isinstance(driver, Pushed):
        driver.mute = True
    async with living(driver) as life, Reader.of(life.board) as reader:
        gate = driver.platform.gate("list")
        await life.stop(REF)
        await life.start(REF, START)
        await rest()
        assert reader.of_id()[-1] == STARTING
        assert reader.of_id().count(READY) == 1
        gate.opened.set()


async def test_an_outage_after_a_stop_does_not_bring_back_what_was_seen_before_it(
    driver: Driver,
) -> None:
    """COMP01-STAT-02: a stale Ready beats Suspended."""
    if isinstance(driver, Pushed):
        driver.mute = True
    async with living(driver) as life, Reader.of(life.board) as reader:
        clock = Clock(life)
        driver.platform.out = "no route"
        await life.stop(REF)
        life.board.blind("no route")
        clock.now += 3600
        life.board.lapse()
        await rest()

        assert reader.of_id() == [READY, STOPPING, STOPPED]


async def test_what_is_seen_in_the_end_wins(driver: Driver) -> None:
    """A backend that still says so after 30 s is believed."""
    if isinstance(driver, Pushed):
        driver.mute = True
    async with living(driver) as life:
        clock = Clock(life)
        await life.stop(REF)
        if isinstance(driver, Pushed):
            driver.mute = False
        driver.platform.put(ID, SandboxState.ready())  # started by somebody else
        driver.told(ID)
        await life.list()
        assert shown(life.board) == STOPPED
        clock.now += 31
        driver.told(ID)
        await life.list()
        assert shown(life.board) == READY


async def test_an_exit_that_a_backend_makes_of_a_stop_stays_a_stop(driver: Driver) -> None:
    if isinstance(driver, Pushed):
        driver.mute = True
    async with living(driver) as life:
        clock = Clock(life)
        await life.stop(REF)
        if isinstance(driver, Pushed):
            driver.mute = False
        driver.platform.put(ID, SandboxState.exited())
        driver.told(ID)
        await life.list()
        clock.now += 3600
        life.board.lapse()
        assert shown(life.board) == STOPPED


async def test_a_start_waits_for_the_end_of_an_outage(driver: Driver) -> None:
    driver.platform.put(ID, SandboxState.stopped())
    async with living(driver) as life:
        life.board.blind("no route")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.start, REF, START)
            await rest()
            assert "start" not in driver.platform.steps
            life.board.replace([seen(ID, SandboxState.stopped())])
        assert driver.platform.count("start") == 1


async def test_a_stop_does_not_wait_for_the_end_of_an_outage(driver: Driver) -> None:
    async with living(driver) as life:
        driver.platform.out = "no route"
        life.board.blind("no route")
        with pytest.raises(Unavailable, match="no route"):
            await life.stop(REF)


async def test_a_condition_keeps_its_time_while_its_status_stays(driver: Driver) -> None:
    async with living(driver) as life:

        def times() -> dict[str, object]:
            entry = life.board.entry(ID)
            assert entry is not None
            assert entry.view is not None
            assert entry.view.status is not None
            return {each.type: each.transition_time for each in entry.view.status.conditions}

        first = times()
        driver.platform.put(ID, SandboxState.ready("and well"))
        driver.told(ID)
        await life.list()
        assert shown(life.board) == READY
        assert times() == first
        await life.stop(REF)
        assert times()["Ready"] != first["Ready"]


@pytest.mark.parametrize("operation", ["stop", "start"])
async def test_a_sandbox_that_is_listed_and_not_found_is_not_lost(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COMP-WATCH-07, COMP-START-02: a driver that could not see for a moment."""
    monkeypatch.setattr("openshell_drivers._sight._LAGS", (0.0, 0.0))
    driver = Polled()
    driver.platform.put(
        ID, SandboxState.stopped() if operation == "start" else SandboxState.ready()
    )
    driver.platform.fail(operation, lambda: NotFound("for a moment"))
    async with living(driver) as life, Reader.of(life.board) as reader:
        with pytest.raises(Unavailable):
            await (life.stop(REF) if operation == "stop" else life.start(REF, START))
        assert DELETED not in reader.of_id()
        await (life.stop(REF) if operation == "stop" else life.start(REF, START))


async def test_a_sandbox_that_is_lost_twice_is_not_found_twice() -> None:
    """COMP01-START-02: what was created again may be lost at once, before any list has shown it."""
    driver = Polled()
    async with living(driver) as life:
        for _ in range(2):
            await life.create(spec())
            driver.platform.present.clear()
            driver.platform.fail("start", lambda: NotFound("gone"))
            with anyio.fail_after(2), pytest.raises(NotFound):
                await life.start(REF, START)
        await life.create(spec())
