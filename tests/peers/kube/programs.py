"""Runs the programs of a cluster, each in a process group of its own with a log of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.peers.processes import PeerFailed, ProcessGroup, tail, wait_until


class Programs:
    """The programs that run, by name; their logs are `NAME.log` in the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._groups: dict[str, ProcessGroup] = {}

    @property
    def pids(self) -> Mapping[str, int]:
        """The process, and process group, of each program that was started and not ended."""
        return {name: group.pid for name, group in self._groups.items()}

    def start(self, command: Sequence[str]) -> None:
        """Start the command under its own name."""
        name = Path(command[0]).name
        environment = {"HOME": str(self._folder), "PATH": os.environ.get("PATH", os.defpath)}
        self._groups[name] = ProcessGroup(command, environment, self._folder / f"{name}.log")

    def terminate(self, name: str) -> None:
        """Ask the program to end, kill it where it does not, and return when it is gone."""
        self._groups.pop(name).terminate()

    def kill(self, *names: str) -> None:
        """SIGKILL those that run of the named programs, and return when they are gone."""
        groups = [self._groups.pop(name) for name in names if name in self._groups]
        if groups:
            with ThreadPoolExecutor(len(groups)) as pool:
                list(pool.map(ProcessGroup.kill, groups))

    def kill_all(self) -> None:
        """SIGKILL whatever runs, and return when nothing does."""
        self.kill(*self._groups)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send the signal to all processes of the program."""
        os.killpg(self._groups[name].pid, number)

    def wait_for(self, what: str, condition: Callable[[], bool], timeout: float) -> None:
        """Wait for the condition; PeerFailed where a program ends first, or the time does."""
        over = wait_until(lambda: bool(self._ended()) or condition(), timeout)
        if ended := self._ended():
            why, told = f"{', '.join(ended)} ended", ended
        elif not over:
            why, told = f"not in {timeout:.0f} s", list(self._groups)
        else:
            return
        logs = (f"{name}:\n{tail(self._folder / f'{name}.log', 10)}" for name in told)
        raise PeerFailed(f"{what}: {why}; the logs end:\n" + "\n".join(logs))

    def _ended(self) -> list[str]:
        return [name for name, group in self._groups.items() if group.returncode is not None]
