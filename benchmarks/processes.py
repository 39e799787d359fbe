"""Start the processes that are measured, see when they answer, read what they use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.frames import ConnectionLost
from benchmarks.raw import RESOLVE, RawClient
from openshell_drivers._wire import credentials_driver_pb2 as wire

TARGETS = Path(__file__).parent / "targets"
MESSAGES = Path(wire.__file__)
BODY = wire.ResolveCredentialRequest(name="example").SerializeToString()
_POLL = 0.001
_LONGEST_START = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One kind of process: its name in the tables, and how it is run."""

    name: str
    arguments: Sequence[str]
    """After the interpreter's name; ``{socket}`` stands for the path of its socket."""
    errors: Path | None = None
    """Where its standard error goes; by default nowhere."""
    request: bytes = BODY
    method: str = RESOLVE
    """What is asked of it until it answers."""


class Process:
    """A driver that runs and has answered once."""

    def __init__(self, command: Command, socket: Path, child: subprocess.Popen[bytes]) -> None:
        self.command = command
        self.socket = socket
        self._child = child
        self._clock = (~child.pid) << 3 | 2  # the kernel's number for a process's CPU clock

    def cpu_seconds(self) -> float:
        """The CPU time of all its threads so far, to the nanosecond."""
        return time.clock_gettime(self._clock)

    def memory(self) -> tuple[float, float]:
        """Resident and unshared MiB."""
        lines = Path(f"/proc/{self._child.pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
        kib = {
            name: int(size.split()[0]) for name, _, size in (each.partition(":") for each in lines)
        }
        return kib["Rss"] / 1024, (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024

    def wait_for_answer(self) -> None:
        """Poll until a call is answered. Raises `RuntimeError` if it ends, or never answers."""
        limit = time.perf_counter() + _LONGEST_START
        while time.perf_counter() < limit:
            if self._child.poll() is not None:
                raise RuntimeError(f"{self.command.name} ended with {self._child.returncode}")
            try:
                with RawClient(self.socket, self.command.method) as client:
                    if client.call(self.command.request) is not None:
                        return
            except (OSError, ConnectionLost):
                pass
            time.sleep(_POLL)
        raise RuntimeError(f"{self.command.name} did not answer")

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class Bench:
    """A directory for sockets and bytecode, and the environment that all processes get."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started = 0
        # Bytecode of its own, so that every process finds it compiled whatever the caller's
        # environment says, and nothing is written beside the sources.
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            **_kept(os.environ),
            "PYTHONPYCACHEPREFIX": str(directory / "bytecode"),
        }

    def python(self, *arguments: str) -> str:
        """Run an interpreter to its end and give what it prints."""
        return subprocess.run(
            [sys.executable, *arguments],
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    @contextmanager
    def running(self, command: Command) -> Iterator[Process]:
        """Start a process, wait for its first answer, and stop it at the end."""
        process = self.spawn(command)
        try:
            process.wait_for_answer()
            yield process
        finally:
            process.stop()

    @contextmanager
    def all_running(self, commands: Iterable[Command]) -> Iterator[list[Process]]:
        """Start them one after the other, and stop them at the end."""
        with ExitStack() as stack:
            yield [stack.enter_context(self.running(command)) for command in commands]

    def spawn(self, command: Command) -> Process:
        """Start a process without waiting for it."""
        self._started += 1
        socket = self.directory / f"{self._started}.sock"
        errors = command.errors or Path(os.devnull)
        with errors.open("ab") as sink:
            child = subprocess.Popen(
                [sys.executable, *(part.format(socket=socket) for part in command.arguments)],
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=sink,
            )
        return Process(command, socket, child)


def _kept(environment: Mapping[str, str]) -> dict[str, str]:
    """PYTHONPATH stays: it is how another copy of the SDK is measured."""
    return {key: environment[key] for key in ("PYTHONPATH",) if key in environment}


def bare() -> Command:
    return Command(
        name="bare grpc.aio", arguments=[str(TARGETS / "bare.py"), "{socket}", str(MESSAGES)]
    )


def sdk(name: str = "SDK", level: str = "warning", errors: Path | None = None) -> Command:
    return driver(name, "sdk.py", "--log-level", level, errors=errors)


def driver(
    name: str,
    script: str,
    *flags: str,
    request: bytes = BODY,
    method: str = RESOLVE,
    errors: Path | None = None,
) -> Command:
    """A driver of `targets`, started as its console script would."""
    arguments = [str(TARGETS / script), "--socket", "{socket}", *flags]
    return Command(name=name, arguments=arguments, request=request, method=method, errors=errors)
