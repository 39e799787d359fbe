"""The processes of a sandbox: all of them found, and ended.

Each of them has the sandbox's mark in its environment, or is in a session with one that has, or
descends from one of these.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from openshell_drivers import Unavailable
from openshell_drivers.reference import _keeper
from openshell_drivers.reference._keeper import ProcessInfo

#: In the environment of every process of a sandbox that does not clear it.
MARK: Final = "OPENSHELL_PROCESS_MARK"
_KILL_SECONDS: Final = 15.0
_People: TypeAlias = tuple[dict[int, ProcessInfo], dict[str, set[int]]]
"""All processes by pid, and by mark the pids of those that have it."""


def open_process(pid: int, started: int) -> int | None:
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


async def terminate_all(mark: str) -> None:
    """Ask all processes of a sandbox to end, but for its keeper.

    Shells at a terminal do not listen to SIGTERM: to them it is as if their terminal was closed.
    """
    found = [each for each in await _members(mark) if not each.is_keeper]
    shells = [each for each in found if each.info.terminal and _ignores_sigterm(each.info.pid)]
    for members, number in (
        (found, signal.SIGTERM),
        (shells, signal.SIGHUP),
        (found, signal.SIGCONT),
    ):
        with _opened(members) as processes:
            for each in processes:
                _send(each, number)


async def kill_all(mark: str) -> None:
    """Kill all processes of a sandbox; when this returns, none of them exists.

    What has cleared its environment, left its session and lost its parent is found only while the
    keeper lives. Raises `Unavailable` if some do not die.
    """
    try:
        with anyio.fail_after(_KILL_SECONDS):
            while found := await _members(mark):
                # The keeper last: it inherits, and so gives away, whoever lost a parent.
                await _kill([each for each in found if not each.is_keeper] or found)
    except TimeoutError:
        raise Unavailable("processes of the sandbox do not end") from None


async def _kill(found: Iterable[_Member]) -> None:
    """Kill, and wait until they are dead."""
    with _opened(found) as processes:
        for each in processes:
            _send(each, signal.SIGKILL)
        for each in processes:
            await anyio.wait_readable(each)


@dataclass(frozen=True, slots=True)
class _Member:
    info: ProcessInfo
    is_keeper: bool


async def _members(mark: str) -> list[_Member]:
    everybody, marks = await _census().taken()
    own = everybody[os.getpid()]
    marked = marks.get(mark, set())
    # Never the driver's own, nor 0, which stands for all that are outside of a container's view.
    sessions = {everybody[pid].session for pid in marked} - {own.session, 0}
    roots = marked | {pid for pid, each in everybody.items() if each.session in sessions}
    found = _keeper.with_descendants(roots, everybody) - {own.pid}
    return [
        _Member(everybody[pid], _keeper.__file__.encode() in _items(pid, "cmdline"))
        for pid in found
        if not everybody[pid].dead
    ]


class _Census:
    """A look at all processes, for all who want one at the same time: it costs the same."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()
        self._taken: tuple[int, _People] | None = None
        self._begun = 0

    async def taken(self) -> _People:
        """Give one that was begun after this call."""
        asked = self._begun
        async with self._lock:
            if self._taken is None or self._taken[0] <= asked:
                self._begun += 1
                number = self._begun
                self._taken = number, await anyio.to_thread.run_sync(_look_at_all)
            return self._taken[1]


_censuses: Final = RunVar[_Census]("censuses")


def _census() -> _Census:
    """The one of this event loop."""
    try:
        return _censuses.get()
    except LookupError:
        made = _Census()
        _censuses.set(made)
        return made


def _look_at_all() -> _People:
    everybody = _keeper.processes()
    marks: dict[str, set[int]] = {}
    prefix = f"{MARK}=".encode()
    for pid in everybody:
        for item in _items(pid, "environ"):
            if item.startswith(prefix):
                marks.setdefault(item[len(prefix) :].decode("ascii", "replace"), set()).add(pid)
    return everybody, marks


def _items(pid: int, name: str) -> list[bytes]:
    """The NUL-terminated items of a file of /proc; none if it cannot be read."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    except OSError:
        return []


def _ignores_sigterm(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    return bool(ignored >> (signal.SIGTERM - 1) & 1)


@contextmanager
def _opened(found: Iterable[_Member]) -> Iterator[list[int]]:
    """Open processes, so that a signal reaches these or nobody."""
    with ExitStack() as stack:
        opened = []
        for each in found:
            descriptor = open_process(each.info.pid, each.info.started)
            if descriptor is not None:
                stack.callback(os.close, descriptor)
                opened.append(descriptor)
        yield opened


def _send(descriptor: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)
