"""What ``/proc`` tells of a driver's process and of those that it started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class _Stat:
    pid: int
    name: str
    state: str
    parent: int
    session: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", errors="replace")
    except OSError:
        return None
    name = text[text.index("(") + 1 : text.rindex(")")]
    rest = text[text.rindex(")") + 2 :].split()
    return _Stat(pid, name, rest[0], int(rest[1]), int(rest[3]))


def _pids() -> list[int]:
    return [int(each.name) for each in _PROC.iterdir() if each.name.isdigit()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not waited for does not."""
    found = _stat(pid)
    return found is not None and found.state not in {"Z", "X"}


def descendants(pid: int, *, session: bool = False) -> dict[int, str]:
    """The processes that one has started, and theirs, by pid; with `session` those of its session,
    which stay in it when their parent has ended."""
    every = [one for pid in _pids() if (one := _stat(pid)) is not None]
    if session:
        return {each.pid: each.name for each in every if each.session == pid and each.pid != pid}
    found: dict[int, str] = {}
    front = {pid}
    while front:
        front = {each.pid for each in every if each.parent in front} - set(found)
        found.update({each.pid: each.name for each in every if each.pid in front})
    return found


def children(pid: int) -> set[int]:
    """The same as `descendants`, without names and quickly; empty if the kernel does not tell."""
    found: set[int] = set()
    front = [pid]
    while front:
        one = front.pop()
        try:
            lists = list((_PROC / str(one) / "task").glob("*/children"))
            texts = [each.read_text() for each in lists]
        except OSError:
            continue
        for text in texts:
            for word in text.split():
                if int(word) not in found:
                    found.add(int(word))
                    front.append(int(word))
    return found


def command_and_environment(pid: int) -> tuple[bytes, bytes]:
    """What any user of the host reads of a process, and what its own user does."""
    return _bytes(pid, "cmdline"), _bytes(pid, "environ")


def _bytes(pid: int, name: str) -> bytes:
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""


def descriptors(pid: int) -> int:
    """How many files it has open."""
    return len(list((_PROC / str(pid) / "fd").iterdir()))


def threads(pid: int) -> int:
    """How many threads it has."""
    return len(list((_PROC / str(pid) / "task").iterdir()))


def memory(pid: int) -> int:
    """How many bytes of memory it holds."""
    pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Use:
    """What the busiest thread of a process did to the processor up to now."""

    running: float
    """Seconds."""
    waiting: float
    """Seconds in which it could have run, had there been a processor for it."""
    turns: int


def processor(pid: int) -> dict[str, Use]:
    """The use of each thread."""
    found = {}
    for task in (_PROC / str(pid) / "task").iterdir():
        try:
            running, waiting, turns = map(int, (task / "schedstat").read_text().split())
        except (OSError, ValueError):
            continue
        found[task.name] = Use(running / 1e9, waiting / 1e9, turns)
    return found
