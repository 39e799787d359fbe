"""How the demo tells what it does, and how it ends when somebody wants it to."""

from __future__ import annotations

import signal
import sys
from itertools import count
from types import FrameType

BOLD, DIM, OFF = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")
_numbers = count(1)


class Stopped(BaseException):
    """Somebody wants this to end."""


class Stopper:
    """Notes SIGINT and SIGTERM, for the story to end at its next line.

    Raising at once could leave a process half started, or a thread that nobody ends.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def check(self) -> None:
        """Raise `Stopped` if there was a signal."""
        if self.number is not None:
            raise Stopped

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number


STOPPER = Stopper()


def say(text: str) -> None:
    STOPPER.check()
    print(text, flush=True)


def chapter(title: str, story: str) -> None:
    say(f"\n{BOLD}{next(_numbers)}. {title}{OFF}\n{story}\n")
