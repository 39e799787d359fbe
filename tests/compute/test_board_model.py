"""Whatever happens in whatever order, every reader of the board ends up with what it holds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from openshell_drivers._board import Board, Change
from openshell_drivers._entries import Entry
from openshell_drivers._sandboxes import PlatformEvent, Sandbox, SandboxDeleted, SandboxHappening
from openshell_drivers.compute import ObservedSandbox, SandboxState
from tests.fakes.compute import seen

IDS = st.sampled_from(["a", "b", "c"])
STATES = st.sampled_from(
    [
        SandboxState.starting(),
        SandboxState.ready(),
        SandboxState.failed("Broken"),
        SandboxState.stopped(),
        SandboxState.exited(),
        SandboxState.deleting(),
    ]
)
OBSERVATIONS = st.builds(seen, IDS, STATES)


class Reading:
    """A reader that reads when it is told to, and what it then believes there is."""

    def __init__(self, board: Board, births: Counter[str]) -> None:
        self.births = births
        self.deaths: Counter[str] = Counter()
        self.changes: AsyncGenerator[Change, None] = board.watch()
        self.believed: dict[str, Sandbox] = {}
        self.waiting: asyncio.Task[Change] | None = None

    async def begin(self) -> asyncio.Task[Change]:
        """Ask for a change, and do not wait."""
        if self.waiting is None:
            self.waiting = asyncio.ensure_future(self.changes.__anext__())
            await asyncio.sleep(0)
        return self.waiting

    async def read(self) -> bool:
        """Take one change if there is one."""
        waiting = await self.begin()
        for _ in range(5):
            await asyncio.sleep(0)
        if not waiting.done():
            return False
        self._take(waiting.result())
        self.waiting = None
        return True

    def _take(self, change: Change) -> None:
        if isinstance(change, Entry):
            assert change.view is not None
            self.believed[change.id] = change.view
            assert self.births[change.id] > self.deaths[change.id], "told after its deletion"
        elif isinstance(change, SandboxDeleted):
            self.believed.pop(change.sandbox_id, None)
            self.deaths[change.sandbox_id] += 1
            assert self.deaths[change.sandbox_id] <= self.births[change.sandbox_id], "deleted twice"
        else:
            assert isinstance(change, SandboxHappening)

    async def close(self) -> None:
        if self.waiting is not None:
            self.waiting.cancel()
            await asyncio.gather(self.waiting, return_exceptions=True)
        await self.changes.aclose()


class BoardMachine(RuleBasedStateMachine):
    """The rules are what drivers, the lifecycle and time may do to a board."""

    readers = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 0.0
        self.board = Board(lambda: self.now)
        self.all: list[Reading] = []
        self.held: set[str] = set()
        self.entries: set[Entry] = set()
        self.births: Counter[str] = Counter()

    @initialize(first=st.lists(OBSERVATIONS, max_size=3))
    def see(self, first: list[ObservedSandbox]) -> None:
        self.board.replace(first)

    @rule(target=readers)
    def open(self) -> Reading:
        """Open a watch, and let it not even come to its first change."""
        reader = Reading(self.board, self.births)
        self.all.append(reader)
        self.loop.run_until_complete(reader.begin())
        return reader

    @rule(reader=readers, times=st.integers(1, 4))
    def read(self, reader: Reading, times: int) -> None:
        for _ in range(times):
            self.loop.run_until_complete(reader.read())

    @rule(reader=consumes(readers))
    def close(self, reader: Reading) -> None:
        self.loop.run_until_complete(reader.close())
        self.all.remove(reader)

    @rule(seen=OBSERVATIONS)
    def update(self, seen: ObservedSandbox) -> None:
        self.board.update(seen)

    @rule(listed=st.lists(OBSERVATIONS, max_size=3), strikes=st.sampled_from([0, 1, 3]))
    def replace(self, listed: list[ObservedSandbox], strikes: int) -> None:
        self.board.replace(listed, strikes=strikes)

    @rule(listed=st.lists(OBSERVATIONS, max_size=3), age=st.integers(0, 3))
    def replace_late(self, listed: list[ObservedSandbox], age: int) -> None:
        self.board.replace(listed, began=max(self.board.mark() - age, 0), strikes=3)

    @rule(sandbox_id=IDS)
    def delete(self, sandbox_id: str) -> None:
        self.board.delete(sandbox_id)

    @rule(sandbox_id=IDS)
    def event(self, sandbox_id: str) -> None:
        self.board.event(sandbox_id, PlatformEvent(reason="Event"))

    @rule(sandbox_id=IDS)
    def create(self, sandbox_id: str) -> None:
        if self.board.entry(sandbox_id) is None and sandbox_id not in self.held:
            self.held.add(sandbox_id)
            self.board.hold(sandbox_id)

    @rule(sandbox_id=IDS, pinned=st.booleans())
    def accept(self, sandbox_id: str, pinned: bool) -> None:
        if sandbox_id in self.held:
            self.held.remove(sandbox_id)
            self.board.accept(sandbox_id, f"name-of-{sandbox_id}", "", pinned=pinned)

    @rule(sandbox_id=IDS, leftover=st.booleans())
    def abandon(self, sandbox_id: str, leftover: bool) -> None:
        if sandbox_id in self.held:
            self.held.remove(sandbox_id)
            self.board.abandon(sandbox_id, leftover=leftover)

    @rule(sandbox_id=IDS, state=STATES, done=st.booleans())
    def show(self, sandbox_id: str, state: SandboxState, done: bool) -> None:
        entry = self.board.entry(sandbox_id)
        if entry is not None:
            self.board.show(entry, state, done=done)

    @rule(sandbox_id=IDS)
    def doom(self, sandbox_id: str) -> None:
        entry = self.board.entry(sandbox_id)
        if entry is not None:
            self.board.show(entry, SandboxState.deleting(), done=False)
            entry.doomed = True

    @rule(seconds=st.sampled_from([1.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.board.lapse()

    @invariant()
    def births_are_counted(self) -> None:
        entries = set(self.board.entries())
        self.births.update(each.id for each in entries - self.entries)
        self.entries = entries

    @invariant()
    def nothing_is_told_of_a_create_under_way(self) -> None:
        assert not self.held & {each.id for each in self.board.entries()}

    @rule()
    def the_first_reader_knows_all(self) -> None:
        for reader in self.all[:1]:  # the others read when the rules say so
            self.drain(reader)

    def drain(self, reader: Reading) -> None:
        while self.loop.run_until_complete(reader.read()):
            pass
        truth = {each.id: each.view for each in self.board.entries()}
        assert reader.believed == truth

    def teardown(self) -> None:
        for reader in self.all:
            self.drain(reader)
            self.loop.run_until_complete(reader.close())
        assert self.board.watchers == 0
        self.loop.close()


def test_every_reader_ends_up_with_what_the_board_holds() -> None:
    run_state_machine_as_test(
        BoardMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
