"""The keeper: a small process between a `Process` driver and one run of a sandbox's command.

It owns what must outlive the driver: the terminal or the output pipe, and the exit status. Run as a
program, with the standard library only, in an interpreter that loads nothing else. It is given a
lock that it holds for as long as it lives, writes what becomes of the command to ``run.json``, and
ends when the command has ended and nothing that descends from it is left. A sandbox whose directory
was removed is ended by it, if no driver does.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, NoReturn

#: The descriptors that the driver hands over.
LOCK_FD: Final = 3
TELL_FD: Final = 4
REPORT: Final = "run.json"
LAUNCH: Final = "launch.json"
OUTPUT: Final = "output.log"
WORKSPACE: Final = "workspace"

_LARGEST_OUTPUT: Final = 4 * 1024 * 1024
_CHUNK: Final = 65536
_ROWS_AND_COLUMNS: Final = (24, 80)
_LOOK_MILLISECONDS: Final = 3000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

Prctl = Callable[[int, int], object]


class ProcessInfo(NamedTuple):
    """What the kernel says of a process."""

    pid: int
    parent: int
    session: int
    terminal: int
    """The device that is its controlling terminal, or 0."""
    started: int
    """Clock ticks after boot: with the pid it names one process for good."""
    dead: bool
    """It has ended, and its parent has not asked how."""


def look_up(pid: int) -> ProcessInfo | None:
    """Read one process; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  # pathlib is a megabyte here
            text = file.read()
    except OSError:
        return None
    words = text[text.rindex(b")") + 2 :].split()  # a name may hold spaces and parentheses
    parent, session, terminal = int(words[1]), int(words[3]), int(words[4])
    return ProcessInfo(pid, parent, session, terminal, int(words[19]), words[0] in b"ZX")


def processes() -> dict[int, ProcessInfo]:
    """Read all processes."""
    found = (look_up(int(name)) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208
    return {each.pid: each for each in found if each is not None}


def with_descendants(roots: Iterable[int], among: Mapping[int, ProcessInfo]) -> set[int]:
    """Add to processes all that descend from them."""
    children: dict[int, list[int]] = {}
    for each in among.values():
        children.setdefault(each.parent, []).append(each.pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found


class _Report:
    """What the driver reads; replaced as a whole each time."""

    def __init__(self, number: int) -> None:
        own = look_up(os.getpid())
        started = own.started if own is not None else 0
        self._facts: dict[str, object] = {"run": number, "pid": os.getpid(), "started": started}

    def write(self, outcome: str, **facts: object) -> None:
        with suppress(OSError):  # the sandbox's directory may be gone: then nobody reads it
            file = os.open(f"{REPORT}~", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(file, json.dumps({**self._facts, "outcome": outcome, **facts}).encode())
            finally:
                os.close(file)
            os.replace(f"{REPORT}~", REPORT)  # noqa: PTH105


class _Output:
    """The log of what the command prints: two files of a bounded size."""

    def __init__(self) -> None:
        self._open()

    def _open(self) -> None:
        self._file = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size

    def take(self, source: int) -> bool:
        """Copy what there is; False at its end. What cannot be written is dropped."""
        try:
            data = os.read(source, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # how a terminal ends
            return False
        with suppress(OSError):
            self._size += os.write(self._file, data)
            if self._size > _LARGEST_OUTPUT:
                os.replace(OUTPUT, f"{OUTPUT}.1")  # noqa: PTH105
                os.close(self._file)
                self._open()
        return bool(data)


def _prctl() -> Prctl:
    try:
        import ctypes

        prctl: Prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):  # the driver finds by other marks what escapes
        return lambda option, value: None
    return prctl


def _command(launch: Mapping[str, Any], stdio: tuple[int, int], keeper: int, prctl: Prctl) -> None:
    """Become the command; returns only by raising."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(1)
    os.setsid()
    os.dup2(stdio[0], 0)
    os.dup2(stdio[1], 1)
    os.dup2(stdio[1], 2)
    if launch["tty"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(WORKSPACE)
    os.execvpe(launch["command"][0], launch["command"], launch["environment"])  # noqa: S606


def _spawn(launch: Mapping[str, Any], prctl: Prctl) -> tuple[int, int, int]:
    """Begin the command: its pid, where its output comes from, and why it did not begin, or 0."""
    if launch["tty"]:
        source, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("4H", *_ROWS_AND_COLUMNS, 0, 0))
        stdio = (inner, inner)
    else:
        source, inner = os.pipe()
        stdio = (os.open("/dev/null", os.O_RDONLY), inner)
    told, tell = os.pipe()
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _command(launch, stdio, keeper, prctl)
        except OSError as error:
            os.write(tell, str(error.errno).encode())
        finally:
            os._exit(127)
    for each in {*stdio, tell}:
        os.close(each)
    problem = os.read(told, 16)  # the end comes when the command has taken the child's place
    os.close(told)
    return pid, source, int(problem or 0)


def _attend(main: int, source: int, output: _Output) -> int:
    """Carry output until the command ends, and bury whoever is left to this process meanwhile.

    Gives its exit code; that of one who is about to be killed if the sandbox's directory is gone.
    """
    woken, wake = os.pipe()
    for each in (woken, wake, source):
        os.set_blocking(each, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    poll.register(source, select.POLLIN)
    status = _reap(main)  # it may have ended before there was a handler
    while status is None:
        if not _is_there():
            return -signal.SIGKILL
        for ready, _ in poll.poll(_LOOK_MILLISECONDS):
            if ready == woken:
                os.read(woken, _CHUNK)
            elif not output.take(source):
                poll.unregister(source)
        status = _reap(main)
    return status


def _is_there() -> bool:
    """Whether the sandbox's directory has not been removed; it may have been moved."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return False
    return True


def _reap(main: int) -> int | None:
    """Ask after all that have ended; give the exit code of `main` if it is among them."""
    code = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == main:
                code = os.waitstatus_to_exitcode(ended[1])
    return code


def _end_descendants() -> None:
    """Kill what the command has left, as the end of a container does."""
    own = os.getpid()
    with suppress(ChildProcessError):
        while True:
            for pid in with_descendants([own], processes()) - {own}:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def _drain(source: int, output: _Output) -> None:
    poll = select.poll()
    poll.register(source, select.POLLIN)
    while poll.poll(0) and output.take(source):
        pass


def _close_others() -> None:
    """Close whatever the driver's libraries have left open to its children."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) > TELL_FD:
            with suppress(OSError):
                os.close(int(name))
    os.set_inheritable(LOCK_FD, False)
    os.set_inheritable(TELL_FD, False)


def main(folder: str, number: int) -> None:
    """Run the command of a sandbox's directory to its end."""
    _close_others()
    os.chdir(folder)
    report = _Report(number)
    report.write("registered")
    prctl = _prctl()
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with open(LAUNCH, encoding="ascii") as file:  # noqa: PTH123
        launch = json.load(file)
    output = _Output()
    time.sleep(launch["delay"])
    pid, source, problem = _spawn(launch, prctl)
    del launch
    if problem:
        report.write("refused", problem=errno.errorcode.get(problem, "UNKNOWN"))
        return
    report.write("running", main=pid)
    os.close(TELL_FD)  # whoever waits at the other end looks now
    code = _attend(pid, source, output)
    _end_descendants()
    _drain(source, output)
    report.write("ended", code=code)


def _run() -> NoReturn:
    main(sys.argv[1], int(sys.argv[2]))
    os._exit(0)


if __name__ == "__main__":
    _run()
