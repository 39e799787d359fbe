"""`Run`: one run of a sandbox's command, begun here or found again, and its end for sure.

A keeper holds a lock in the sandbox's directory, which it inherits from the driver, so there is no
moment at which a run has begun and cannot be found: whoever gets the lock knows that none is there
and none will come. The kernel frees it with the last of its holders; a pid that was given to
somebody else, or a reboot, does not mislead.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from openshell_drivers import ResourceExhausted, Unavailable
from openshell_drivers.reference import _keeper
from openshell_drivers.reference._members import MARK, kill_all, open_process, terminate_all

_LOCK: Final = "alive"
_KEPT_FREE: Final = 10
_REGISTER_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.02
_AGAIN_SECONDS: Final = 0.1
_END_SECONDS: Final = 40.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a keeper says of its run."""

    run: int
    pid: int
    started: int
    outcome: str
    """``registered``, ``running``, ``refused`` or ``ended``."""
    code: int = 0
    """The exit status, or the negative number of a signal."""
    main: int = 0
    """The command's own process, once it runs."""
    problem: str = ""
    """Why the command could not be begun: the name of an errno."""


def read_report(folder: Path, number: int) -> Report | None:
    """Read what the keeper of this run says; None if it has said nothing. Blocks."""
    try:
        report = Report(**json.loads((folder / _keeper.REPORT).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return report if report.run == number else None


class Run:
    """A run from the birth of its keeper to its death."""

    def __init__(
        self, folder: Path, mark: str, number: int, *, changed: Callable[[], None]
    ) -> None:
        self.report: Report | None = None
        self.known = anyio.Event()
        """Set when the command runs, or nothing of it is left."""
        self.over = anyio.Event()
        """Set when nothing of it is left."""
        self._folder = folder
        self._mark = mark
        self._number = number
        self._changed = changed
        self._keeper: int | None = None
        self._told: int | None = None

    @property
    def alive(self) -> bool:
        """Whether it is not over yet."""
        return not self.over.is_set()

    def launch(self) -> None:
        """Begin it. Blocks. Raises `Unavailable` if the run before is not over,
        `ResourceExhausted` if the host has no room for another process."""
        with ExitStack() as opened:
            # Out of the way of the numbers under which the keeper is to find them.
            lock = _moved_up(os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600))
            opened.callback(os.close, lock)
            if not _taken(lock):
                raise Unavailable("processes of the last run are still there")
            told, low = os.pipe()
            tell = _moved_up(low)
            opened.callback(os.close, tell)
            try:
                pid = _spawn(self._folder, self._number, self._mark, lock, tell)
                self._keeper = os.pidfd_open(pid)
            except BaseException:
                os.close(told)
                raise
            self._told = told

    async def attend(self) -> None:
        """See it through, and say when something has changed. Cancelled, the run goes on."""
        try:
            began = await self._has_begun()
            if began and self._keeper is not None:
                self.known.set()
                self._changed()
                await anyio.wait_readable(self._keeper)
            await self._until_nothing_is_left()
            self._bury()
            await self.look()
            self.over.set()
            self.known.set()
            self._changed()
        finally:
            self._close()

    async def end(self, grace: float = 0.0) -> None:
        """End it: SIGTERM, and SIGKILL for what is left `grace` seconds later. When this returns it
        is over. Raises `Unavailable` if it cannot be ended."""
        if grace > 0 and self.alive:
            with anyio.move_on_after(grace):
                await self.known.wait()
                await terminate_all(self._mark)
                await self.over.wait()
        try:
            with anyio.fail_after(_END_SECONDS):
                while self.alive:
                    await kill_all(self._mark)
                    with anyio.move_on_after(_AGAIN_SECONDS):
                        await self.over.wait()
        except TimeoutError:
            raise Unavailable("processes of the sandbox do not end") from None

    async def _until_nothing_is_left(self) -> None:
        """Kill until it has worked: a process that is just being made is not to be seen yet."""
        while True:
            with suppress(Unavailable):
                await kill_all(self._mark)
                if self._keeper is None:
                    return None
                with anyio.move_on_after(_AGAIN_SECONDS):
                    return await anyio.wait_readable(self._keeper)

    async def look(self) -> None:
        """Read what its keeper says."""
        self.report = await anyio.to_thread.run_sync(read_report, self._folder, self._number)

    async def _has_begun(self) -> bool:
        """Wait for the keeper's word; False if there is none, or that it cannot begin."""
        with anyio.move_on_after(_REGISTER_SECONDS):
            if self._told is not None:
                await anyio.wait_readable(self._told)
            while True:
                held = await anyio.to_thread.run_sync(_is_held, self._folder)
                await self.look()
                if self.report is not None and held:
                    self._keeper = self._keeper or open_process(
                        self.report.pid, self.report.started
                    )
                    if self._keeper is not None and self.report.outcome != "registered":
                        return self.report.outcome == "running"
                if not held:
                    return False
                await anyio.sleep(_LOOK_SECONDS)  # rare: a keeper found at its very beginning
        return False

    def _bury(self) -> None:
        if self._keeper is not None:
            with suppress(ChildProcessError):  # found again: somebody else's child
                os.waitid(os.P_PIDFD, self._keeper, os.WEXITED)

    def _close(self) -> None:
        for each in (self._keeper, self._told):
            if each is not None:
                os.close(each)
        self._keeper = self._told = None


def _spawn(folder: Path, number: int, mark: str, lock: int, tell: int) -> int:
    try:
        return os.posix_spawn(
            sys.executable,
            [
                *(sys.executable, "-I", "-S", "-B", _keeper.__file__),
                *(str(folder), str(number)),
            ],
            {MARK: mark},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, lock, _keeper.LOCK_FD),
                (os.POSIX_SPAWN_DUP2, tell, _keeper.TELL_FD),
            ],
            setsid=True,  # before it has the mark: a marked process is never in another's session
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGCHLD),
        )
    except OSError as error:
        raise ResourceExhausted(f"no process can be made now (errno {error.errno})") from None


def _is_held(folder: Path) -> bool:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _taken(lock)
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _moved_up(descriptor: int) -> int:
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _KEPT_FREE)
    finally:
        os.close(descriptor)
