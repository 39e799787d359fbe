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
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from openshell_drivers import ResourceExhausted, Unavailable
from openshell_drivers.reference import _keeper
from openshell_drivers.reference._keeper import ProcessInfo

#: In the environment of every process of a sandbox that does not clear it.
MARK: Final = "OPENSHELL_PROCESS_MARK"
_LOCK: Final = "alive"
_NULL_FD: Final = "/dev/null"
_KEPT_FREE: Final = 10
_REGISTER_SECONDS: Final = 10.0
_KILL_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.02


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

    def __init__(self, folder: Path, mark: str, number: int) -> None:
        self.number = number
        self.report: Report | None = None
        self.begun = anyio.Event()
        """Set when the command runs, or has not been able to."""
        self.over = anyio.Event()
        """Set when nothing of it is left."""
        self._folder = folder
        self._mark = mark
        self._keeper: int | None = None
        self._told: int | None = None

    @property
    def alive(self) -> bool:
        """Whether it is not over yet."""
        return not self.over.is_set()

    async def launch(self) -> None:
        """Begin it. Raises `Unavailable` if the run before is not over."""
        await anyio.to_thread.run_sync(self._launch)

    def _launch(self) -> None:
        # Out of the way of the numbers under which the keeper is to find them.
        lock = _moved_up(os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600))
        told, tell = os.pipe()
        tell = _moved_up(tell)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            pid = os.posix_spawn(
                sys.executable,
                [
                    *(sys.executable, "-I", "-S", "-B", str(Path(_keeper.__file__))),
                    *(str(self._folder), str(self.number)),
                ],
                {MARK: self._mark},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, _NULL_FD, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, _NULL_FD, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, _NULL_FD, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, lock, _keeper.LOCK_FD),
                    (os.POSIX_SPAWN_DUP2, tell, _keeper.TELL_FD),
                ],
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGCHLD),
            )
            self._keeper, self._told = os.pidfd_open(pid), told
        except BlockingIOError as error:
            os.close(told)
            if error.filename is None and not _is_held(self._folder):
                raise ResourceExhausted("no more processes can be made now") from None
            raise Unavailable("processes of the last run are still there") from None
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(lock)
            os.close(tell)

    async def attend(self) -> None:
        """See it through: `begun`, then `over`. Call it once; cancelled, the run goes on."""
        try:
            if self._told is not None:
                with anyio.move_on_after(_REGISTER_SECONDS):
                    await anyio.wait_readable(self._told)
            with anyio.move_on_after(_REGISTER_SECONDS):
                await self._until_begun()
            self.begun.set()
            if self._keeper is not None:
                await anyio.wait_readable(self._keeper)
                with suppress(ChildProcessError):  # found again: somebody else's child
                    os.waitid(os.P_PIDFD, self._keeper, os.WEXITED)
            await end(self._mark)
            self.report = await self._read()
            self.over.set()
        finally:
            self._close()

    async def _until_begun(self) -> None:
        while True:
            held = await anyio.to_thread.run_sync(_is_held, self._folder)
            self.report = await self._read()
            if self._keeper is None and held and self.report is not None:
                self._keeper = _open(self.report.pid, self.report.started)
            decided = self.report is not None and self.report.outcome != "registered"
            if not held or (decided and self._keeper is not None):
                return
            await anyio.sleep(_LOOK_SECONDS)  # rare: a keeper found at its very beginning

    async def _read(self) -> Report | None:
        return await anyio.to_thread.run_sync(read_report, self._folder, self.number)

    def _close(self) -> None:
        for each in (self._keeper, self._told):
            if each is not None:
                os.close(each)
        self._keeper = self._told = None


async def is_held(folder: Path) -> bool:
    """Whether a keeper lives, or is on its way."""
    return await anyio.to_thread.run_sync(_is_held, folder)


async def end(mark: str, grace: float = 0.0, *, keeper: Run | None = None) -> None:
    """End every process of a sandbox: SIGTERM, and SIGKILL for what is left `grace` seconds later.

    When it returns none of them exists. It finds those that have the mark in their environment, all
    of their sessions, and all that descend from them. What clears its environment, leaves its
    session and is left by its parent is found while its keeper lives. Raises `Unavailable` if some
    do not die.
    """
    if grace > 0 and keeper is not None:
        found = await _members(mark)
        _signal(found, signal.SIGTERM, signal.SIGCONT)
        with anyio.move_on_after(grace):
            await keeper.over.wait()
            return
    with anyio.move_on_after(_KILL_SECONDS):
        while found := await _members(mark):
            # The keeper last: it inherits, and so gives away, whoever lost a parent.
            targets = [each for each in found if not each.is_keeper] or found
            await _kill(targets)
        return
    raise Unavailable("processes of the sandbox do not end")


@dataclass(frozen=True, slots=True)
class _Member:
    info: ProcessInfo
    is_keeper: bool


async def _members(mark: str) -> list[_Member]:
    return await anyio.to_thread.run_sync(_find_members, mark)


def _find_members(mark: str) -> list[_Member]:
    everybody = _keeper.processes()
    marked = {pid for pid in everybody if _has(pid, "environ", f"{MARK}={mark}".encode())}
    sessions = {everybody[pid].session for pid in marked}
    roots = marked | {pid for pid, each in everybody.items() if each.session in sessions}
    found = _keeper.with_descendants(roots, everybody) - {os.getpid()}
    return [
        _Member(everybody[pid], _has(pid, "cmdline", _keeper.__file__.encode()))
        for pid in found
        if not everybody[pid].dead
    ]


def _has(pid: int, name: str, item: bytes) -> bool:
    """Whether one of the NUL-terminated items of a file of /proc is this one."""
    try:
        return item in Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    except OSError:
        return False


def _signal(found: Iterable[_Member], *numbers: int) -> list[int]:
    """Send signals to all but keepers; through descriptors, so that nobody else gets them."""
    raise NotImplementedError


async def _kill(found: Iterable[_Member]) -> None:
    raise NotImplementedError


def _open(pid: int, started: int) -> int | None:
    """Open the process that has this pid and began then; None if there is no such one."""
    try:
        opened = os.pidfd_open(pid)
    except OSError:
        return None
    found = _keeper.look_up(pid)  # after the opening: what is open now is what was looked at
    if found is not None and found.started == started:
        return opened
    os.close(opened)
    return None


def _is_held(folder: Path) -> bool:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _moved_up(descriptor: int) -> int:
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _KEPT_FREE)
    finally:
        os.close(descriptor)
