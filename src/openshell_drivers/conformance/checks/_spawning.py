"""Processes of the driver that are started in odd circumstances, and how they took it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openshell_drivers.conformance._instances import Instance, TargetNotReady, accepts
from openshell_drivers.conformance._outcomes import Blocked
from openshell_drivers.conformance.benches._base import Bench

#: Seconds within which a process that cannot serve has to be gone.
REFUSAL: Final = 10.0
_PAUSE: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a start went."""

    serving: bool
    status: int | None
    """The exit status, None while it runs."""
    said: str
    pid: int

    @property
    def refused(self) -> bool:
        """Whether it ended by itself, and not as if all were well."""
        return not self.serving and self.status not in {None, 0}

    def __str__(self) -> str:
        if self.serving:
            return "it serves"
        how = "still runs without serving" if self.status is None else f"ended with {self.status}"
        return f"the process {how}" + (
            f" and said: {self.said[-300:].strip()}" if self.said else ""
        )


@asynccontextmanager
async def launched(
    instance: Instance,
    *,
    socket: Path | None = None,
    command: Sequence[str] = (),
    extra: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    listening: Path | None = None,
    within: float = REFUSAL,
) -> AsyncIterator[Launch]:
    """Start a process, wait until it serves or ends, and end it at last.

    `listening` is where it would be seen to serve, if not at its socket.
    """
    path = listening or socket or instance.socket
    before = len(instance.log())
    was_served = accepts(path)
    try:
        process = instance.spawn(
            socket=socket, command=command, extra=extra, environment=environment
        )
    except TargetNotReady as error:
        raise Blocked(str(error)) from None
    deadline = time.monotonic() + within
    serving = False
    try:
        while process.poll() is None and time.monotonic() < deadline:
            serving = not was_served and accepts(path)
            if serving:
                break
            await asyncio.sleep(_PAUSE)
        said = instance.log()[before:].decode("utf-8", "replace")
        yield Launch(serving=serving, status=process.poll(), said=said, pid=process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def must_refuse(bench: Bench, launch: Launch, when: str, *, mend: str = "") -> None:
    """Fail unless the process ended by itself with a status other than 0 and said something."""
    bench.hold(
        launch.refused,
        f"{when}, the process ends within {REFUSAL:g} s with a status other than 0",
        str(launch),
        mend=mend,
    )


def with_flag(instance: Instance, spelled: str, socket: Path | None = None) -> list[str] | None:
    """The command line with ``--bind-socket`` at its end, as one word or as two.

    None if the driver is not given its socket by a flag, so that nobody would start it so.
    """
    words = list(instance.target.argv)
    for at, word in enumerate(words):
        if word == "{socket}" and at and words[at - 1].startswith("-"):
            del words[at - 1 : at + 1]
            break
        if word.startswith("-") and word.endswith("={socket}"):
            del words[at]
            break
    else:
        return None
    path = str(socket or instance.socket)
    ending = ["--bind-socket", path] if spelled == "two words" else [f"--bind-socket={path}"]
    rest = instance.command()[len(instance.target.argv) :]
    return [*(instance.fill(word, socket) for word in words), *rest, *ending]


def takes_bind_socket(bench: Bench) -> bool:
    """Whether the driver is given its socket as a gateway that spawns it would."""
    argv = bench.instance.target.argv
    return bench.instance.target.kind == "driver" or any(
        word.startswith("--bind-socket") for word in argv
    )


async def answers(bench: Bench, socket: Path, within: float = 5.0) -> Any:
    """The reply of a driver at another socket; the last one if none is OK."""
    deadline = time.monotonic() + within
    async with bench.another_caller(socket=socket) as caller:
        while True:
            reply = await bench.ping(caller, patience=within)
            if reply.ok or time.monotonic() > deadline:
                return reply
            await asyncio.sleep(0.05)
