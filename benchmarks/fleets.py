"""Two ways to serve 10,000 sandboxes, and the orders by which these change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from types import TracebackType
from typing import Final, Self

from benchmarks.processes import Command, Process
from benchmarks.raw import RawClient
from benchmarks.targets.backend import MARKER
from benchmarks.watcher import Watcher, read_all
from openshell_drivers._wire import compute_driver_pb2 as wire

SERVICE: Final = "/openshell.compute.v1.ComputeDriver/"
WATCH: Final = f"{SERVICE}WatchSandboxes"
LIST: Final = f"{SERVICE}ListSandboxes"
CAPABILITIES: Final = f"{SERVICE}GetCapabilities"
WIDTH: Final = 172
"""Of a message, for events of about 430 bytes."""
_BATCH: Final = 100
_marks = count(1)


def fleet(name: str = "SDK", width: int = WIDTH) -> Command:
    module = "benchmarks.targets.fleet"
    flags = ("--socket", "{socket}", "--log-level", "warning")
    return _command(name, "-m", module, str(width), *flags)


def bare_fleet(name: str = "bare", width: int = WIDTH, *, ready: bool = False) -> Command:
    module = "benchmarks.targets.bare_fleet"
    return _command(name, "-m", module, "{socket}", str(width), *["ready"] * ready)


def _command(name: str, *arguments: str) -> Command:
    return Command(name=name, arguments=arguments, request=b"", method=CAPABILITIES)


class Watching:
    """Watchers of one fleet, and the connection on which its orders are given."""

    def __init__(self, process: Process, watchers: int) -> None:
        """Open them; each has the snapshot to read then."""
        self.process = process
        self._orders = RawClient(process.socket, f"{SERVICE}EnsureWorkspace")
        self._began = time.perf_counter()
        self.watchers = [Watcher(process.socket, WATCH) for _ in range(watchers)]
        for watcher in self.watchers:
            watcher.look_for(MARKER.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._orders.close()
        for watcher in self.watchers:
            watcher.close()

    def order(self, number: int, *, batch: int = _BATCH, milliseconds: int = 0) -> bytes:
        """Let so many sandboxes change; all watchers look for the last change. Gives its mark."""
        mark = f"change-{next(_marks):06}"
        for watcher in self.watchers:
            watcher.look_for(mark.encode())
        order = wire.EnsureWorkspaceRequest(workspace=f"{number}.{batch}.{milliseconds}.{mark}")
        self._began = time.perf_counter()
        self._orders.send([order.SerializeToString()])
        return mark.encode()

    def read(self, watchers: Sequence[Watcher] = ()) -> float:
        """Read until every watcher, or those given, has what it looks for; give the seconds since
        it was ordered."""
        read_all(watchers or self.watchers)
        return time.perf_counter() - self._began
