"""What a backend shows, or does not: polling, pushing, absences, outages.

COMP-LIST, COMP-GET-05, COMP-WATCH-07, COMP-WATCH-09.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from openshell_drivers import NotFound, Unavailable
from openshell_drivers._board import Board
from openshell_drivers._entries import Entry
from openshell_drivers._lifecycle import Lifecycle
from openshell_drivers._polling import Poller
from openshell_drivers._services.compute import rules
from openshell_drivers.compute import ObservedSandbox, PlatformEvent, SandboxState
from tests.compute.living import DELETED, ID, REF, Reader, living, phase, rest, shown, spec
from tests.fakes.compute import OneByOne, Platform, Polled, Pushed, seen
from tests.fakes.polling import until

KINDS = [Polled, OneByOne, Pushed]
READY = "Ready=True/Running"
Driver = Polled | Pushed


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def driver(request: pytest.FixtureRequest) -> Driver:
    made: Driver = request.param()
    made.platform.put(ID, SandboxState.ready())
    return made


class Often(Polled):
    """Polls all the time."""

    name = "often"
    poll_interval = 0.01


async def polls(platform: Platform, count: int) -> None:
    """Wait for so many whole lists."""
    done = platform.count("list") + count + 1
    await until(lambda: platform.count("list") >= done)


async def test_nothing_is_told_at_rest() -> None:
    driver = Often()
    for number in range(5):
        driver.platform.put(f"id-{number}", SandboxState.ready())
    async with living(driver) as life, Reader.of(life.board) as reader:
        await polls(driver.platform, 10)
        assert len(reader.heard) == 5


async def test_a_polled_sandbox_is_lost_after_three_absences_of_the_interval() -> None:
    driver = Often()
    driver.platform.put(ID, SandboxState.ready())
    driver.platform.put("other", SandboxState.ready())
    async with living(driver) as life, Reader.of(life.board) as reader:
        lost = driver.platform.present.pop(ID)
        await polls(driver.platform, 1)
        driver.platform.present[ID] = lost
        await polls(driver.platform, 5)
        assert DELETED not in reader.of_id()

        del driver.platform.present[ID]
        await until(lambda: DELETED in reader.of_id())
        await polls(driver.platform, 3)
        assert reader.of_id().count(DELETED) == 1
        assert DELETED not in reader.of_id("other")


async def test_lists_on_demand_do_not_count_as_absences() -> None:
    driver = Polled()
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life, Reader.of(life.board) as reader:
        driver.platform.present.clear()
        for _ in range(10):
            await life.list()
        assert DELETED not in reader.of_id()
        assert shown(life.board) == READY


@pytest.mark.parametrize("absences", [1, 2])
async def test_fewer_absences_are_none(absences: int) -> None:
    board = Board()
    board.replace([seen(ID, SandboxState.ready())])
    for _ in range(3):
        for _ in range(absences):
            board.replace([], strikes=3)
        board.replace([seen(ID, SandboxState.ready())], strikes=3)
    assert board.entry(ID) is not None


async def test_a_driver_that_is_asked_for_one_is_believed_at_once() -> None:
    driver = OneByOne()
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life, Reader.of(life.board) as reader:
        driver.platform.present.clear()
        with pytest.raises(NotFound):
            await life.get(REF)
        await rest()
        assert reader.of_id()[-1] == DELETED


async def test_a_new_sandbox_that_a_lagging_list_lacks_is_not_lost(driver: Driver) -> None:
    driver.platform.present.clear()
    async with living(driver) as life, Reader.of(life.board) as reader:
        if isinstance(driver, Pushed):
            driver.mute = True
        driver.platform.lagging = []
        await life.create(spec())
        for _ in range(5):
            await life.list()
            life.board.replace([], strikes=1)
        await rest()
        assert list(reader.phases()) == ["Ready=False/Starting"]

        driver.platform.lagging = None
        life.board.replace(driver.platform.listed())
        await rest()
        assert reader.of_id()[-1] == READY


async def test_a_new_sandbox_that_is_never_seen_is_lost_in_the_end() -> None:
    driver = Polled()
    async with living(driver) as life, Reader.of(life.board) as reader:
        await life.create(spec())
        now = 1000.0
        life.board._clock = lambda: now + 31 + 1e9
        driver.platform.lagging = []
        for _ in range(3):
            life.board.replace([], strikes=3)
        await rest()
        assert reader.of_id()[-1] == DELETED


async def test_an_outage_is_no_deletion_and_the_watch_stays_open(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        driver.platform.out = "no route to the backend"
        life.board.blind(driver.platform.out)
        for _ in range(5):
            with pytest.raises(Unavailable, match="no route to the backend"):
                await life.list()
            with pytest.raises(Unavailable, match="no route to the backend"):
                await life.get(REF) if not isinstance(driver, Pushed) else await life.list()
        await rest()
        assert reader.of_id() == [READY]
        assert reader.error is None

        driver.platform.out = None
        driver.platform.put(ID, SandboxState.failed("NodeLost"))
        if isinstance(driver, Pushed):
            life.board.replace(driver.platform.listed())
        await life.list()
        await rest()
        assert reader.of_id() == [READY, "Ready=False/NodeLost"]


async def test_what_vanished_in_an_outage_is_told_after_it() -> None:
    driver = Pushed()
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life, Reader.of(life.board) as reader:
        assert driver.feed is not None
        driver.feed.blind("no route")
        driver.feed.replace([])
        await rest()
        assert reader.of_id() == [READY, DELETED]


async def test_a_watch_that_opens_in_an_outage_waits_for_its_end(driver: Driver) -> None:
    async with living(driver) as life:
        life.board.blind("no route")
        async with Reader.of(life.board) as reader:
            assert reader.heard == []
            life.board.replace([seen(ID, SandboxState.ready())])
            await rest()
            assert reader.of_id() == [READY]


FAULTS = {
    "a driver's error": lambda: Unavailable("no route"),
    "any exception": lambda: RuntimeError("canary-88"),
    "a time limit": TimeoutError,
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_list_that_fails_says_nothing_of_a_sandbox(name: str) -> None:
    driver = Often()
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life, Reader.of(life.board) as reader:
        driver.platform.fail("list", *[FAULTS[name]] * 20)
        with pytest.raises(Unavailable) as refused:
            await life.list()
        assert "canary" not in str(refused.value)
        driver.platform.faults.clear()
        await life.list()
        assert reader.of_id() == [READY]


async def test_a_list_that_takes_too_long_fails() -> None:
    class Slow(Polled):
        name = "slow"
        list_timeout = 0.05

    driver = Slow()
    async with living(driver) as life:
        driver.platform.gate("list")
        with pytest.raises(Unavailable, match="in time"):
            await life.list()


async def test_a_list_of_something_else_fails() -> None:
    class Wrong(Polled):
        name = "wrong"
        right = True

        async def list_sandboxes(self) -> Sequence[ObservedSandbox]:
            return [] if self.right else ["no sandbox"]  # type: ignore[list-item]

    driver = Wrong()
    async with living(driver) as life:
        driver.right = False
        with pytest.raises(Unavailable, match="log"):
            await life.list()


async def test_many_who_ask_at_once_share_a_list() -> None:
    driver = Polled()
    async with living(driver) as life:
        gate = driver.platform.gate("list")
        before = driver.platform.count("list")
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(life.list)
            await gate.reached.wait()
            await rest()
            gate.opened.set()
        assert driver.platform.count("list") - before <= 2


async def test_a_list_is_asked_for_after_the_question() -> None:
    """One that is under way may be older than what the asker knows."""
    driver = Polled()
    async with living(driver) as life:
        gate = driver.platform.gate("list")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.list)
            await gate.reached.wait()  # it has read the backend
            driver.platform.put("late", SandboxState.ready())
            tasks.start_soon(life.list)
            await rest()
            gate.opened.set()
        assert life.board.entry("late") is not None


async def test_one_that_gives_up_does_not_end_the_list_of_others() -> None:
    driver = Polled()
    async with living(driver) as life:
        gate = driver.platform.gate("list")
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(life.list)
                await gate.reached.wait()
                scope.cancel()
            gate.opened.set()
        await life.list()


@pytest.mark.parametrize("which", ["this list", "the next list"])
async def test_a_poller_that_ends_leaves_nobody_waiting(which: str) -> None:
    platform = Platform()
    board = Board()
    gate = platform.gate("list")

    async def listed() -> Sequence[ObservedSandbox]:
        await platform.step("list")
        return []

    poller = Poller(board, listed, interval=3600, timeout=3600)
    failed: list[str] = []

    async def ask() -> None:
        try:
            await poller.fresh()
        except Unavailable as error:
            failed.append(error.message)

    async with anyio.create_task_group() as asking:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poller.run)
            await gate.reached.wait()
            for _ in range(3):
                asking.start_soon(ask)
            await rest()
            if which == "this list":
                theirs = platform.gate("list")
                gate.opened.set()
                await theirs.reached.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(5):
            await until(lambda: len(failed) == 3)
    assert board.poller is None


@pytest.mark.parametrize("how", ["returns", "raises", "errs"])
async def test_observing_that_ends_makes_the_feed_blind_and_begins_again(how: str) -> None:
    driver = Pushed()
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life, Reader.of(life.board) as reader:
        errors = {"raises": RuntimeError("canary-12"), "errs": Unavailable("no route")}
        if how in errors:
            driver.platform.fail("observe", lambda: errors[how])
        driver.end.set()
        await rest()
        with pytest.raises(Unavailable) as refused:
            await life.list()
        assert "canary" not in str(refused.value)
        await until(lambda: life.board.synced)
        assert driver.platform.count("observe") == (3 if how in errors else 2)
        assert reader.of_id() == [READY]


async def test_observing_that_ends_at_once_is_not_repeated_without_a_pause() -> None:
    class Broken(Pushed):
        name = "broken"

        async def observe(self, feed: object) -> None:
            await self.platform.step("observe")

    driver = Broken()
    life = Lifecycle(driver, rules(driver))
    async with life.running():
        with anyio.move_on_after(0.3):
            await anyio.sleep_forever()
    assert driver.platform.count("observe") <= 2


async def test_an_event_of_a_sandbox_that_is_not_there_is_nobodys(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        life.board.event("nobody", PlatformEvent(reason="Lost"))
        life.board.event(ID, PlatformEvent(reason="Found"))
        await rest()
        assert reader.of_id("nobody") == []
        assert "event:Found" in reader.of_id()


async def test_a_watch_that_falls_behind_with_events_ends_with_aborted(driver: Driver) -> None:
    async with living(driver) as life:
        async with Reader.of(life.board) as reader:
            for _ in range(1025):  # it has no chance to read in between
                life.board.event(ID, PlatformEvent(reason="Noise"))
            await rest()
            assert type(reader.error).__name__ == "Aborted"
            assert life.board.watchers == 0
        async with Reader.of(life.board) as again:
            assert again.of_id() == [READY]


async def test_a_thousand_and_twenty_four_events_are_all_told(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        for _ in range(1024):
            life.board.event(ID, PlatformEvent(reason="Noise"))
        await rest()
        assert reader.error is None
        assert reader.of_id().count("event:Noise") == 1024


async def test_changes_between_two_reads_become_one(driver: Driver) -> None:
    async with living(driver) as life, Reader.of(life.board) as reader:
        for number in range(100):
            life.board.update(seen(ID, SandboxState.failed(f"Reason{number}")))
        await rest()
        assert reader.of_id() == [READY, "Ready=False/Reason99"]


@pytest.mark.parametrize("steps", range(4))
async def test_what_happens_while_a_watch_opens_is_not_lost(steps: int) -> None:
    """COMP-WATCH-02."""
    board = Board()
    board.replace([])
    changes = board.watch()
    first = asyncio.ensure_future(changes.__anext__())
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    board.update(seen(ID, SandboxState.ready()))
    with anyio.fail_after(5):
        change = await first
    assert isinstance(change, Entry)
    assert change.id == ID
    await changes.aclose()


async def test_no_end_is_told_of_what_was_created_again_before_it_was_read(
    driver: Driver,
) -> None:
    """The gateway's row is the new one's by then, and a deletion would drop it."""
    async with living(driver) as life, Reader.of(life.board) as reader:
        life.board.delete(ID)
        life.board.hold(ID)
        life.board.accept(ID, "box", "", pinned=False)
        await rest()
        assert reader.of_id() == [READY, "Ready=False/Starting"]


async def test_an_end_that_nobody_read_is_not_told_of_what_was_created_again(
    driver: Driver,
) -> None:
    async with living(driver) as life:
        life.board.delete(ID)
        life.board.hold(ID)
        life.board.accept(ID, "box", "", pinned=False)
        async with Reader.of(life.board) as reader:
            await rest()
            assert DELETED not in reader.of_id()


async def test_all_watches_hear_all(driver: Driver) -> None:
    async with (
        living(driver) as life,
        Reader.of(life.board) as one,
        Reader.of(life.board) as two,
    ):
        life.board.update(seen(ID, SandboxState.failed("Broken")))
        await rest()
        assert one.of_id() == two.of_id() == [READY, "Ready=False/Broken"]


async def test_entries_are_listed_in_the_order_of_their_ids(driver: Driver) -> None:
    for sandbox_id in ("b", "a", "c"):
        driver.platform.put(sandbox_id, SandboxState.ready())
    async with living(driver) as life:
        await life.list()
        assert [each.id for each in life.board.entries()] == ["a", "b", "c", ID]


@pytest.mark.parametrize(
    ("state", "conditions"),
    [
        (SandboxState.starting(), "Ready=False/Starting"),
        (SandboxState.ready(), "Ready=True/Running"),
        (SandboxState.transient("InspectFailed"), "Ready=False/InspectFailed"),
        (SandboxState.unknown(), "Ready=Unknown/Unknown"),
        (SandboxState.failed("Broken"), "Ready=False/Broken"),
        (SandboxState.exited(), "Ready=False/ContainerExited"),
        (SandboxState.stopping(), "Suspended=False/PodTerminating Ready=Unknown/Stopping"),
        (SandboxState.stopped(), "Suspended=True/Stopped Ready=Unknown/Stopped"),
        (SandboxState.deleting(), "Ready=Unknown/Deleting deleting"),
    ],
    ids=lambda each: getattr(each, "kind", None),
)
async def test_each_state_is_written_in_conditions_that_all_gateways_read_alike(
    state: SandboxState, conditions: str
) -> None:
    board = Board()
    board.update(seen(ID, state))
    entry = board.entry(ID)
    assert entry is not None
    assert phase(entry.view) == conditions


async def test_an_observation_that_cannot_be_written_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="instance_id"):
        seen(ID, SandboxState.ready(), instance_id="\ud800")


async def test_a_deleted_id_that_another_instance_creates_again_is_seen_in_the_end() -> None:
    driver = Polled()
    driver.platform.put(ID, SandboxState.ready())
    async with living(driver) as life:
        await life.delete(REF)
        await life.list()
        now = 1e9
        life.board._clock = lambda: now
        driver.platform.put(ID, SandboxState.ready(), instance_id=f"{ID}.2")
        await life.list()
        assert shown(life.board) == READY
