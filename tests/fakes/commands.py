"""`Commands`: the console script, run in processes of its own in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fakes.process import PATIENCE, accepts, eventually

SCRIPT: Final = Path(sys.executable).with_name("openshell-drivers")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def problem(self) -> str:
        """The one line of an error, without the program's name."""
        assert self.status in {1, 2}, self
        assert "Traceback" not in self.err
        assert self.out == ""
        first = self.err.split("\n")[0]
        assert first.isprintable()
        return first.partition(": ")[2]


class Serving:
    """A driver's process that accepts connections."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def terminate(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def proc(self, name: str) -> bytes:
        """What the kernel shows of it to every process of its user."""
        return Path(f"/proc/{self.process.pid}/{name}").read_bytes()


class Commands:
    """Runs the console script, or another command, with no OPENSHELL variable but those given."""

    def __init__(self, folder: Path, command: Sequence[str | Path] = (SCRIPT,)) -> None:
        self.folder = folder
        self._command = list(map(str, command))

    def _env(self, env: Mapping[str, str] | None) -> dict[str, str]:
        clean = {key: text for key, text in os.environ.items() if not key.startswith("OPENSHELL")}
        return {**clean, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """Run to the end."""
        done = subprocess.run(
            [*self._command, *map(str, arguments)],
            env=self._env(env),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def serving(
        self, socket: Path, *arguments: str | Path, env: Mapping[str, str] | None = None
    ) -> Iterator[Serving]:
        """Run a driver until it accepts connections at the socket; killed on leaving."""
        log = self.folder / "driver.log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                [*self._command, *map(str, arguments)],
                env=self._env(env),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                text=True,
            ) as process,
        ):
            try:
                there = eventually(lambda: accepts(socket) or process.poll() is not None)
                assert there, log.read_text()
                assert process.poll() is None, log.read_text()
                yield Serving(process, log)
            finally:
                process.kill()
