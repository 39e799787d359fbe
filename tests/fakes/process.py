"""`DriverProcess`: a driver of `tests.fakes.serve` in a process of its own."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 15.0


def eventually(condition: Callable[[], bool], within: float = PATIENCE) -> bool:
    """Poll until the condition holds; False if it never does."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def accepts(path: Path) -> bool:
    """Whether somebody accepts connections at the path."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


class DriverProcess:
    """Runs a driver, hears what it says, reads its log. Killed when the context is left."""

    def __init__(
        self,
        path: Path,
        *,
        before: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.path = path
        self._said: queue.Queue[str] = queue.Queue()
        self._errors: list[str] = []
        command = [*before, sys.executable, "-m", "tests.fakes.serve", str(path)]
        self.process = subprocess.Popen(
            [*command, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"} if env is None else dict(env),
        )
        self._readers = [
            threading.Thread(target=self._hear, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.ended()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line.rstrip("\n"))

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)

    def says(self, *expected: str) -> None:
        """Wait for these lines, one after the other; others may come in between."""
        for text in expected:
            while (line := self._said.get(timeout=PATIENCE)) != text:
                assert line != "left", f"ended before it said {text!r}"

    def heard(self) -> list[str]:
        """What it has said since, without waiting."""
        lines = []
        while not self._said.empty():
            lines.append(self._said.get())
        return lines

    def open_gate(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def serving(self) -> Self:
        """Wait until it accepts connections."""
        there = eventually(lambda: accepts(self.path) or self.process.poll() is not None)
        assert there, self.log
        assert self.process.poll() is None, self.log
        return self

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, within: float = PATIENCE) -> int:
        """Wait for its end and give its exit status."""
        status = self.process.wait(within)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return "".join(self._errors)

    def records(self) -> list[dict[str, Any]]:
        """The log's lines; each must be JSON."""
        return [json.loads(line) for line in self._errors]

    def logged(self, message: str) -> list[dict[str, Any]]:
        return [record for record in self.records() if record["msg"] == message]
