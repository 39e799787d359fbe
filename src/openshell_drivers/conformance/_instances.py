"""`Instance`: one process of the driver under test, or the socket of one that is not ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from openshell_drivers.conformance._ledger import Ledger
from openshell_drivers.conformance._outcomes import NotObservable
from openshell_drivers.conformance._profile import Profile
from openshell_drivers.conformance._targets import Target
from openshell_drivers.conformance._verbs import VerbFailed, run_verb
from openshell_drivers.settings import inherited

#: What a driver's process gets of the suite's own environment.
_PASSED: Final = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "VIRTUAL_ENV"),
    *("PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "KUBECONFIG", "DOCKER_HOST"),
)
SWITCH_VARIABLE: Final = "OPENSHELL_DRIVERS_TEST_SWITCH"
_LOG_TAIL: Final = 40
#: Seconds. A driver may also wait behind threads of its own.
_MOST_STARVED: Final = 10.0
_LOG_READ: Final = 200_000


class TargetNotReady(Exception):
    """The driver did not begin to serve. The text says what was seen, with the end of its log."""


class Instance:
    """Where one driver serves. `start` is for those that the suite spawns."""

    def __init__(self, target: Target, profile: Profile, folder: Path, ledger: Ledger) -> None:
        self.target = target
        self.folder = folder
        self._profile = profile
        self._ledger = ledger
        self._process: subprocess.Popen[bytes] | None = None
        self.keep = folder / "keep"
        self.log_path = folder / "log"
        self.switch = folder / "switch.json"
        self._is_set_up = folder / "set-up"
        self.unclean = ""
        """Why the backend could not be removed after the last process."""
        self.verbose = True
        """Whether its process is told to log all it can."""
        self.variables: dict[str, str] = {}
        """More of them for its processes."""
        self.started_in = 0.0
        """Seconds from the start of the process to the first accepted connection."""
        self.leaving = False
        """Whether the process has been told to end; for a moment it still accepts."""
        if target.socket is not None:
            self.socket = target.socket
        else:
            self.socket = folder / "s" / "d.sock"
            self.keep.mkdir(parents=True, mode=0o700, exist_ok=True)
            self.socket.parent.mkdir(mode=0o700, exist_ok=True)

    @property
    def attached(self) -> bool:
        """Whether the process is not ours."""
        return self.target.attached

    @property
    def pid(self) -> int:
        """Of the running process. Raises `NotObservable`."""
        if self._process is None:
            if self._profile.process.pid is not None:
                return self._profile.process.pid
            raise NotObservable("the driver was not started by the suite, and process.pid is unset")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives, or is not ours to say."""
        return self.attached or (self._process is not None and self._process.poll() is None)

    def command(self, extra: tuple[str, ...] = (), socket: Path | None = None) -> list[str]:
        """The command line of a process, for this socket or another one."""
        words = [*self.target.argv, *self._profile.target.arguments]
        loud = self._profile.target.log_level or self.target.verbose
        verbose = loud if self.verbose else ()
        return [self.fill(word, socket) for word in (*words, *verbose, *extra)]

    def fill(self, word: str, socket: Path | None = None) -> str:
        """Replace the placeholders."""
        pid = "" if self._process is None else str(self._process.pid)
        for name, value in (
            ("{socket}", str(socket or self.socket)),
            ("{dir}", str(self.keep)),
            ("{switch}", str(self.switch)),
            ("{pid}", pid),
            ("{python}", sys.executable),
        ):
            word = word.replace(name, value)
        return word

    def environment(self) -> dict[str, str]:
        """The variables of a process."""
        wanted = {**inherited(_PASSED), **self.target.environment}
        if self.target.kind == "driver":
            wanted[SWITCH_VARIABLE] = str(self.switch)
        for name, value in self._profile.target.environment.items():
            wanted[name] = self.fill(value)
        return {**wanted, **self.variables}

    def spawn(
        self,
        *,
        extra: tuple[str, ...] = (),
        socket: Path | None = None,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a process, in a group of its own, and say so in the ledger.

        `command` goes before all that the target and the profile say.
        """
        with self.log_path.open("ab") as log:
            try:
                process = subprocess.Popen(  # noqa: S603  # the user's own driver
                    command or self.command(extra, socket),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**self.environment(), **(environment or {})},
                    start_new_session=True,
                )
            except OSError as error:
                raise TargetNotReady(
                    f"{self.command()[0]} cannot be started: {error.strerror}"
                ) from None
        self._ledger.write("process", pid=process.pid, began=began_at(process.pid))
        return process

    async def start(self) -> None:
        """Start the process and wait until its socket accepts. Raises `TargetNotReady`.

        Of what the machine made it wait for a processor 10 s do not count: the suite keeps many at
        work.
        """
        if self.attached:
            if not accepts(self.socket):
                raise TargetNotReady(f"nothing accepts connections at {self.socket}")
            return
        await self._set_up()
        began = time.monotonic()
        self._process = self.spawn()
        self.leaving = False
        limit = self._profile.target.ready
        pause = 0.002
        while not accepts(self.socket):
            if self._process.poll() is not None:
                raise TargetNotReady(
                    f"the driver ended with status {self._process.returncode} before it served"
                    + self.tail_text()
                )
            self.started_in = self._since(began)
            if self.started_in > limit:
                self.kill()
                raise TargetNotReady(
                    f"the driver's socket did not accept within {limit:g} s" + self.tail_text()
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, 0.05)
        self.started_in = self._since(began)

    def _since(self, began: float) -> float:
        starved = _starved(self._own().pid)
        return time.monotonic() - began - min(starved, _MOST_STARVED)

    def kill(self) -> None:
        """SIGKILL to the process alone, and wait for its end."""
        process = self._own()
        process.kill()
        process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        self._own().send_signal(number)
        self.leaving = self.leaving or number in {signal.SIGTERM, signal.SIGINT}

    async def ended(self, within: float) -> int | None:
        """Wait for the process to end; its status, or None if it still runs."""
        process = self._own()
        deadline = time.monotonic() + within
        while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return process.poll()

    async def restart(self) -> None:
        """Start it again after its end, with what it kept."""
        await self.start()

    async def _set_up(self) -> None:
        """Have the backend made, once for the folder."""
        command = self._profile.backend.setup
        if not command or self._is_set_up.exists():
            return
        self._is_set_up.touch()  # before: half of one is to be removed, too
        try:
            await self._verb("setup", command)
        except VerbFailed as error:
            raise TargetNotReady(str(error)) from None

    @property
    def torn_down(self) -> bool:
        """Whether the profile makes backends, and this one is not there."""
        made = bool(self._profile.backend.setup) and not self.attached
        return made and not self._is_set_up.exists()

    async def tear_down(self) -> None:
        """Have the backend removed, if there is one and the profile says how."""
        command = self._profile.backend.teardown
        if not command or not self._is_set_up.exists():
            return
        try:
            await self._verb("teardown", command)
        except VerbFailed as error:
            self.unclean = str(error)
        else:
            self._is_set_up.unlink()

    async def _verb(self, verb: str, command: str | list[str]) -> None:
        limit = self._profile.backend.timeout
        await run_verb(verb, command, {}, self.fill, self.environment(), limit)

    async def close(self) -> None:
        """End the process and everything in its group, then its backend."""
        await self._end()
        await self.tear_down()

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            if await self.ended(5.0) is None:
                process.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self) -> bytes:
        """All that the process has written. Raises `NotObservable`."""
        if self.attached:
            raise NotObservable("the driver's log is not at hand: the suite did not start it")
        return self.log_path.read_bytes() if self.log_path.exists() else b""

    @property
    def logged(self) -> int:
        """How many bytes the log has."""
        if self.attached or not self.log_path.exists():
            return 0
        return self.log_path.stat().st_size

    def tail(self, since: int = 0, about: Sequence[str] = ()) -> list[str]:
        """The newest lines of the log, after its first `since` bytes; empty where there is none.

        If there are any with one of the words that it is about, only those.
        """
        if self.attached or not self.log_path.exists():
            return []
        with self.log_path.open("rb") as log:
            log.seek(max(since, self.logged - _LOG_READ))
            lines = log.read().decode("utf-8", "replace").splitlines()
        ours = [line for line in lines if any(word in line for word in about)]
        return (ours or lines)[-_LOG_TAIL:]

    def tail_text(self) -> str:
        """The newest lines for an error message."""
        lines = self.tail()[-12:]
        return "; it said:\n" + "\n".join(lines) if lines else "; it said nothing"

    def _own(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise NotObservable("the driver's process is not ours")
        return self._process


def accepts(path: Path) -> bool:
    """Whether something takes connections at the path."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _starved(pid: int) -> float:
    """Seconds for which a process was ready to run and had no processor; 0 where nobody tells."""
    try:
        times = Path(f"/proc/{pid}/schedstat").read_text("ascii").split()
        return int(times[1]) / 1e9  # run, waited, slices: of its first thread, in nanoseconds
    except (OSError, ValueError, IndexError):
        return 0.0


def began_at(pid: int) -> int:
    """When a process began, in clock ticks since boot: with the pid it names it for good."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])  # a zombie has ended; nobody has asked yet
