"""`Bare`: the driver in a process of its own, for tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.fakes.process import PATIENCE, accepts, eventually

ROOT: Final = Path(__file__).resolve().parents[3]


class Bare:
    """One process of the driver, with its state, its switch and its log in a folder."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self.path = home / "run" / "driver.sock"
        self.state, self.switch = home / "state", home / "switch"
        self._log = home / "log"
        backend = ["--state", str(self.state), "--switch", str(self.switch)]
        command = [sys.executable, "-m", "tests.conformance.bare", *backend]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--bind-socket", str(self.path), *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def serving(self) -> None:
        """Wait until it accepts connections."""
        there = eventually(lambda: accepts(self.path) or self.process.poll() is not None)
        assert there, self.log
        assert self.process.poll() is None, self.log

    def ended(self) -> int:
        """Wait for its end and give its exit status."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()  # a test that fails leaves nobody behind
            self.process.wait()
            raise

    def verb(self, name: str, **given: object) -> dict[str, Any]:
        """Speak to the platform behind it."""
        backend = ["--state", str(self.state), "--switch", str(self.switch)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.conformance.bare.verbs", *backend, name],
            cwd=ROOT,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@contextmanager
def bare(home: Path, *arguments: str) -> Iterator[Bare]:
    """Run the driver until it accepts connections; killed on leaving."""
    found = Bare(home, *arguments)
    try:
        found.serving()
        yield found
    finally:
        found.process.kill()
        found.ended()
