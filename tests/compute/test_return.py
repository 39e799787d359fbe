"""What comes back soon after its end is told when its end is old enough (COMP-WATCH-06)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openshell_drivers._board import TOMBSTONE_SECONDS, Board
from openshell_drivers.compute import SandboxState
from tests.compute.living import ID, shown
from tests.fakes.compute import seen

READY_PHASE = "Ready=True/Running"
BACK = seen(ID, SandboxState.ready())


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def board(time: Time) -> Board:
    """A board on which a sandbox has just ended and been seen again."""
    board = Board(clock=time)
    board.replace([BACK])
    board.delete(ID)
    board.update(BACK)
    return board


def test_it_is_told_by_itself(board: Board, time: Time) -> None:
    time.now += TOMBSTONE_SECONDS - 1
    board.lapse()
    assert shown(board) == ""
    time.now += 1
    board.lapse()
    assert shown(board) == READY_PHASE


@pytest.mark.parametrize(
    "end",
    [
        lambda board: board.delete(ID),
        lambda board: board.replace([]),
        lambda board: board.hold(ID),
        lambda board: board.blind("away"),
    ],
    ids=["deleted again", "not listed", "being created", "out of sight"],
)
def test_it_is_not_told_if_it_is_not_there(
    board: Board, time: Time, end: Callable[[Board], None]
) -> None:
    end(board)
    time.now += TOMBSTONE_SECONDS + 1
    board.lapse()
    assert shown(board) == ""


def test_out_of_sight_it_is_told_when_it_is_seen(board: Board, time: Time) -> None:
    board.blind("away")
    time.now += TOMBSTONE_SECONDS + 1
    board.lapse()
    board.replace([BACK])
    board.lapse()
    assert shown(board) == READY_PHASE
