"""Who is at a create, so that what is left of it is known for what it is when they have died."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_FIELDS = 5


@dataclass(frozen=True, slots=True)
class Holder:
    """A process: its host, that host's boot, its process namespace, its number and its start."""

    host: str
    boot: str
    namespace: str
    pid: str
    began: str

    @classmethod
    def this(cls) -> Holder:
        """Name this process."""
        pid = os.getpid()
        return cls(socket.gethostname(), _boot(), _namespace(), str(pid), _began(pid))

    @classmethod
    def read(cls, text: str) -> Holder | None:
        """Read what `write` wrote; None for anything else."""
        parts = text.split("/")
        return cls(*parts) if len(parts) == _FIELDS else None

    def write(self) -> str:
        """Write it for an annotation."""
        return "/".join((self.host, self.boot, self.namespace, self.pid, self.began))

    def is_dead(self) -> bool:
        """Whether that process has certainly ended: it is missing where this one lives.

        False for what cannot be told from here, as of another container.
        """
        here = Holder.this()
        place = (self.host, self.boot, self.namespace)
        if place != (here.host, here.boot, here.namespace) or not self.began:
            return False
        return not self.pid.isdecimal() or _began(int(self.pid)) != self.began


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in clock ticks since boot; empty if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
