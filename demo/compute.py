"""Sandboxes: the `process` driver under the model of a gateway."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio

from demo.story import BOLD, DIM, OFF, STOPPER, Stopped, chapter, say
from openshell_drivers.testing.gateway import PRESETS, Entry, Gateway, Record
from tests.peers.processes import ProcessGroup

COMMAND = ("/bin/sh", "-c", "while :; do date >> notes; sleep 1; done")
SPEED = 20.0
"""A gateway looks again two seconds after it has lost its driver; here, in a tenth of one."""


@contextlib.contextmanager
def sidecar(folder: Path, socket: Path, log: Path) -> Iterator[ProcessGroup]:
    """Run the driver as a container would."""
    script = str(Path(sys.executable).parent / "openshell-drivers")
    run = ["run", "process", "--set", f"root={folder}", "--socket", str(socket)]
    process = ProcessGroup([script, *run, "--log-format", "text"], os.environ, log)
    try:
        yield process
    finally:
        process.kill()


def everything_below(folder: Path) -> Iterator[int]:
    """The processes that work in the folder: what is left of sandboxes when a demo is stopped."""
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if cwd.readlink().is_relative_to(folder):
                yield int(cwd.parent.name)


class Story:
    """A gateway's user, and what they see."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._told = len(gateway.journal)

    async def until(self, name: str, phase: str) -> Record | None:
        """Wait for a phase, telling what comes before it."""
        if phase == "gone":
            await self.gateway.wait_gone(name)
            found = None
        else:
            found = await self.gateway.wait_for(name, phase)  # type: ignore[arg-type]  # a Phase
        self.tell()
        return found

    def tell(self) -> None:
        journal = self.gateway.journal
        for entry in journal[self._told :]:
            if entry.kind in {"phase", "gone"}:
                say(f"   {line(entry)}")
        self._told = len(journal)


def line(entry: Entry) -> str:
    phase = f"{entry.phase or 'gone':12}"
    return f"{entry.name:8} {BOLD}{phase}{OFF} {DIM}{entry.reason or entry.why}{OFF}"


async def first_line(notes: Path) -> str:
    """What the sandbox has written first, when it has."""
    with anyio.fail_after(30):
        while not notes.exists() or "\n" not in notes.read_text():
            STOPPER.check()
            await anyio.sleep(0.02)
    return notes.read_text().splitlines()[0]


async def tour(gateway: Gateway, root: Path) -> None:
    story = Story(gateway)
    await gateway.create("agent", command=COMMAND)
    record = await story.until("agent", "Ready")
    if record is None:
        raise SystemExit("the sandbox is not there")
    notes = root / record.id / "workspace" / "notes"
    before = await first_line(notes)
    await gateway.stop("agent")
    await story.until("agent", "Stopped")
    await gateway.start("agent")
    await story.until("agent", "Ready")
    if await first_line(notes) != before:
        raise SystemExit("its workspace has not been kept")
    say(f"   {DIM}its workspace has been kept over the stop: a note of {before}{OFF}")

    chapter(
        "Somebody kills its process",
        "Nobody asked for this, so its user is told. A driver does not restart anything.",
    )
    for pid in everything_below(root / record.id):
        os.kill(pid, signal.SIGKILL)
    await story.until("agent", "Error")
    await gateway.delete("agent")
    await story.until("agent", "gone")


async def survive(gateway: Gateway, restart: Callable[[], Awaitable[None]]) -> None:
    story = Story(gateway)
    chapter(
        "The driver is killed",
        "kill -9, and another one is started. The gateway opens its watch again and finds what\n"
        "it had: the sandbox has never noticed.",
    )
    await gateway.create("steady", command=COMMAND)
    await story.until("steady", "Ready")
    before = gateway.watches_opened
    await restart()
    await gateway.wait_watching(times=before + 1)
    await gateway.sweep()
    story.tell()
    for record in gateway.records:
        say(f"   {record.name:8} {BOLD}{record.phase:12}{OFF} {DIM}after the restart{OFF}")
    await gateway.delete("steady")
    await story.until("steady", "gone")


async def meet(folder: Path, socket: Path, log: Path) -> Stopped | None:
    """Show it all; give `Stopped` back, which must not get into a task group."""
    root = folder / "sandboxes"
    with contextlib.ExitStack() as drivers:
        first = drivers.enter_context(sidecar(root, socket, log))

        async def restart() -> None:
            first.kill()
            drivers.enter_context(sidecar(root, socket, log.with_suffix(".2.log")))

        async with Gateway(socket, preset="0.1-latest", speed=SPEED) as gateway:
            try:
                say(f"   connected to {gateway.capabilities.driver_name}")
                await tour(gateway, root)
                await survive(gateway, restart)
            except Stopped as stopped:
                return stopped
        for number, preset in enumerate(PRESETS):
            async with Gateway(socket, preset=preset, speed=SPEED) as gateway:
                try:
                    if number == 0:
                        chapter("Every gateway", "The same driver, under each line in use.")
                    await gateway.create("same", command=COMMAND)
                    found = await gateway.wait_for("same", "Ready")
                    say(f"   gateway {preset:10} {BOLD}{found.phase}{OFF}")
                    await gateway.delete("same")
                    await gateway.wait_gone("same")
                except Stopped as stopped:
                    return stopped
    return None


def show(scratch: Path) -> None:
    """Tell the first half of the story."""
    chapter(
        "A driver for sandboxes",
        "`process` runs each sandbox as a process of this machine: no isolation, good to look at.\n"
        "The gateway is a model of the real ones, and shows what its user would see.",
    )
    folder = scratch / "compute"
    folder.mkdir()
    log = folder / "driver.log"
    try:
        stopped = anyio.run(meet, folder, folder / "run" / "compute.sock", log)
    except (Exception, SystemExit):
        print(f"\nIt went wrong. The driver's log:\n{log.read_text(errors='replace')}")
        raise
    finally:
        for pid in everything_below(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if stopped is not None:
        raise stopped
