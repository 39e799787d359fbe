"""Starts and ends the process groups that the peers run in, so that none outlives its test."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"


class PeerMissing(Exception):
    """A peer cannot be had on this machine; the message says why and what would help."""


class PeerFailed(Exception):
    """A peer that is there did not start, or did not answer as it must; carries its log's tail."""


def free_port() -> int:
    """Return a TCP port that nothing on loopback listens on just now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def lasting_port() -> int:
    """Return a free TCP port that no outgoing connection is given while its server is down.

    A client that keeps on trying a port of the kernel's own range may get that very port to connect
    from, is then connected to itself, and keeps the server from coming back.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(1000):
        port = random.randrange(first // 2, first)
        try:
            require_free(port)
        except PeerFailed:
            continue
        return port
    raise PeerFailed("no port is free")


def require_free(port: int) -> None:
    """Fail where something listens on the port: what then answered would be somebody else."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PeerFailed(f"port {port} is not free: {error}") from error


def wait_until(condition: Callable[[], bool], timeout: float, every: float = 0.05) -> bool:
    """Poll until the condition holds; False when the time is over and it still does not."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def tail(path: Path, lines: int = 30) -> str:
    """Return the last lines of a log, or a word that there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.splitlines()[-lines:])


def group_alive(group: int) -> bool:
    """Whether a process of the group runs; one that is dead and waits to be reaped does not.

    A process whose first thread is dead has its sockets until the last of its threads is.
    """
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        state, pgrp, threads = fields[0], int(fields[2]), int(fields[17])
        if pgrp == group and (state not in "ZX" or threads > 1):
            return True
    return False


class ProcessGroup:
    """A command in a process group of its own, with its output appended to a log file.

    A reaper (a shell reading a pipe that only this process holds open) kills the group when this
    process ends in any way, SIGKILL included.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        try:
            self._reaper = subprocess.Popen(
                ["sh", "-c", 'cat >/dev/null; kill -s KILL -- "-$0"', str(self.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self._signal(signal.SIGKILL)
            self._process.wait()
            raise

    @property
    def returncode(self) -> int | None:
        """The leader's exit status, None while it runs."""
        return self._process.poll()

    @property
    def alive(self) -> bool:
        """Whether any process of the group is left."""
        return group_alive(self.pid)

    def terminate(self, timeout: float = 20) -> None:
        """Ask the group to end, and kill it where it does not in time."""
        if self.alive:
            self._signal(signal.SIGTERM)
        wait_until(lambda: not self.alive, timeout)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the whole group and return when nothing of it is left."""
        self._dismiss_reaper()
        if not self.alive:
            self._process.wait()
            return
        self._signal(signal.SIGKILL)
        self._process.wait(timeout=20)
        if not wait_until(lambda: not self.alive, timeout=20):
            raise PeerFailed(f"process group {self.pid} outlived SIGKILL")

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _dismiss_reaper(self) -> None:
        # Before the group goes: afterwards its number may belong to somebody else.
        self._reaper.kill()
        self._reaper.wait(timeout=20)
        if self._reaper.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._reaper.stdin.close()
