"""`Engine` and `Feed`: the fronts' end of a run. The engine runs, they start it and listen.

Waiting is done with locks alone: whoever patches the clock of the host process changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias, TypeVar, cast

from openshell_drivers.settings import state_folder

ValueT = TypeVar("ValueT")
Event: TypeAlias = Mapping[str, Any]

_LOOK: Final = 0.02
_HARNESS: Final = 3
#: How long the engine may take to remove what was made.
CLEANING: Final = 60.0
_LAST: Final = frozenset({"finished", "refused", "ended"})
_TAIL: Final = 2000


class Feed:
    """What the engine has said, read by a thread as it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._fresh: deque[Event] = deque()
        self.start: Event | None = None
        self.planned: Event | None = None
        self.last: Event | None = None
        """``finished``, ``refused``, or ``ended`` without either."""
        self.results: dict[str, Event] = {}
        """By unit."""
        self._thread = threading.Thread(target=self._read, name="openshell-feed", daemon=True)
        self._thread.start()

    def _until(self, look: Callable[[], ValueT | None]) -> ValueT:
        """Wait until there is what `look` looks for."""
        with self._changed:
            while (found := look()) is None:
                self._changed.wait()
            return found

    def plan(self) -> Event:
        """Wait for what is planned, or for the end if there is no plan."""
        return self._until(lambda: self.planned or self.last)

    def end(self) -> Event:
        """Wait for the end of the run."""
        return self._until(lambda: self.last)

    def result(self, key: str) -> Event | None:
        """Wait for the result of one unit; None if the run ends without it."""
        self._until(lambda: self.results.get(key) or self.last)
        return self.results.get(key)

    def fresh(self, timeout: float) -> Event | None:
        """The next result that came; None if the time, or the run, is over first."""
        with self._changed:
            self._changed.wait_for(lambda: self._fresh or self.last, timeout)
            return self._fresh.popleft() if self._fresh else None

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        self._thread.join()

    def _read(self) -> None:
        rest = b""
        try:
            with self._path.open("rb") as file:
                while True:
                    last = self._closing.is_set()
                    *lines, rest = (rest + file.read()).split(b"\n")
                    for line in lines:
                        self._take(json.loads(line))
                    if last or self.last is not None:
                        return
                    self._closing.wait(_LOOK)
        except Exception as error:  # noqa: BLE001  # nobody may wait for a thread that is gone
            self._take({"event": "ended", "why": f"its events cannot be read: {error!r}"})

    def _take(self, event: Event) -> None:
        with self._changed:
            match event["event"]:
                case "start":
                    self.start = event
                case "planned":
                    self.planned = event
                case "result":
                    self.results[f"{event['check']}[{event['preset']}]"] = event
                    self._fresh.append(event)
                case name if name in _LAST and self.last is None:
                    self.last = event
            self._changed.notify_all()


class Engine:
    """A run: the engine's process, from its start to the end of its clean-up."""

    def __init__(self, request: Mapping[str, Any], cwd: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="osd-run-"))
        self.events = self._folder / "events"
        self.events.touch(0o600)
        file = self._folder / "request"
        file.touch(0o600)
        ledgers = state_folder() / "ledgers"
        whole = {**request, "events": str(self.events), "ledgers": str(ledgers)}
        file.write_text(json.dumps(whole), "utf-8")
        self._said = self._folder / "said"
        with self._said.open("wb") as said:
            # In a session of its own: Ctrl-C is ours to hear, and the end of its input its sign.
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                [*_PYTHON, "openshell_drivers.conformance.engine", str(file)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                cwd=cwd,
                start_new_session=True,
            )
        self._input = cast("BinaryIO", self._process.stdin)  # as it is a pipe
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="openshell-engine", daemon=True)
        self._watcher.start()
        self.feed = Feed(self.events)
        self.told = False
        """Whether it was told to run."""

    def go(self, keys: Collection[str] | None = None) -> None:
        """Let it run: all that is planned, or these units."""
        if not self.told:
            self.told = True
            line = "go" if keys is None else f"go {json.dumps(sorted(keys))}"
            with contextlib.suppress(BrokenPipeError):  # it has ended; the feed says so
                self._input.write(line.encode() + b"\n")
                self._input.flush()

    def close(self) -> Event:
        """Have it stop and clean up, or wait until it has done so; how it ended."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        if not self._over.wait(CLEANING):
            self._process.kill()
        self._watcher.join()
        self.feed.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        return self.feed.end()

    def _watch(self) -> None:
        """Say in the file when the process is gone, so that nobody waits for it in vain."""
        status = self._process.wait()
        said = self._said.read_bytes()[-_TAIL:].decode("utf-8", "replace").strip()
        with self.events.open("ab") as file:
            # It may have been killed in the middle of a line.
            words = {"event": "ended", "status": status, "why": f"its process is gone; {said}"}
            file.write(_after(self.events) + json.dumps(words).encode() + b"\n")
        self._over.set()


#: ``-P``: a file of the user's folder that is called like a module is none of ours.
_PYTHON: Final = (sys.executable, "-P", "-W", "ignore", "-m")


def _after(path: Path) -> bytes:
    data = path.read_bytes()
    return b"" if not data or data.endswith(b"\n") else b"\n"


def exit_status(last: Event) -> int:
    """The exit status of a run that ended so."""
    return int(last.get("exit_status", _HARNESS))


def listed(request: Mapping[str, Any]) -> list[Event]:
    """The units that the options allow, without a target. Raises ValueError with the reason."""
    done = subprocess.run(  # noqa: S603  # our own module
        [*_PYTHON, "openshell_drivers.conformance._listing"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(done.stderr.strip() or "the checks cannot be listed")
    units: list[Event] = json.loads(done.stdout)
    return units
