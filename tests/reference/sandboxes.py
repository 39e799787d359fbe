"""Sandboxes of the `Process` driver as tests see them: from outside, by /proc and the client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from openshell_drivers import NotFound, SandboxRef, SandboxSpec, Unavailable
from openshell_drivers.client import ComputeClient, connect
from openshell_drivers.reference import _keeper
from openshell_drivers.reference.process import Process, ProcessConfig
from openshell_drivers.server import running

SLEEP = ("sleep", "1000")


def box(sandbox_id: str, *command: str, **fields: Any) -> SandboxSpec:
    """A sandbox that runs a command, by default one that stays."""
    return SandboxSpec(id=sandbox_id, name=f"n-{sandbox_id}", command=command or SLEEP, **fields)


def shell(sandbox_id: str, script: str, **fields: Any) -> SandboxSpec:
    """A sandbox that runs a script."""
    return box(sandbox_id, "/bin/sh", "-c", script, **fields)


@asynccontextmanager
async def serving(root: Path, **settings: Any) -> AsyncIterator[ComputeClient]:
    """A driver in this process, and its client."""
    socket = root.parent / "run" / "driver.sock"
    driver = Process(ProcessConfig(root=root, **settings))
    async with running(driver, socket=socket), connect(socket) as connection:
        yield connection.compute


def entries(folder: Path) -> list[str]:
    """What is in a directory."""
    return sorted(each.name for each in folder.iterdir())


def move(source: Path, target: Path) -> None:
    source.rename(target)


def make(folder: Path, mode: int = 0o700) -> None:
    folder.mkdir()
    folder.chmod(mode)


def inhabitants(place: Path) -> list[int]:
    """Living processes that are in a directory, or have it in their environment."""
    return [pid for pid in _pids() if _lives(pid) and _belongs(pid, str(place))]


def _pids() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def _lives(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(") ")[2][0] not in "ZX"


def _belongs(pid: int, place: str) -> bool:
    proc = Path(f"/proc/{pid}")
    if pid == os.getpid():
        return False
    try:
        inside = str((proc / "cwd").readlink()).startswith(f"{place}/")
        return inside or f"{place}/".encode() in (proc / "environ").read_bytes()
    except OSError:
        return False


def zombies() -> list[int]:
    """Children of this process that nobody has asked after."""
    own, found = os.getpid(), []
    for pid in _pids():
        try:
            state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(parent) == own:
            found.append(pid)
    return found


async def look(client: ComputeClient, sandbox_id: str) -> tuple[str, str]:
    """The reason and the message of what is said of a sandbox; ``Gone`` if it is not there."""
    try:
        sandbox = await client.get_sandbox(SandboxRef(id=sandbox_id))
    except NotFound:
        return "Gone", ""
    assert sandbox.status is not None
    if sandbox.status.deleting:
        return "Deleting", ""
    conditions = {each.type: each for each in sandbox.status.conditions}
    if "Suspended" in conditions and conditions["Suspended"].status == "True":
        return "Stopped", ""
    ready = conditions["Ready"]
    assert (ready.status == "True") == (ready.reason == "Running")
    return ready.reason, ready.message


async def becomes(client: ComputeClient, sandbox_id: str, *reasons: str) -> tuple[str, str]:
    """Wait until one of these is said of it."""
    with anyio.fail_after(20):
        while True:
            try:
                seen = await look(client, sandbox_id)
            except Unavailable:
                seen = ("Unavailable", "")
            if seen[0] in reasons:
                return seen
            await anyio.sleep(0.005)


async def instance(client: ComputeClient, sandbox_id: str) -> str:
    sandbox = await client.get_sandbox(SandboxRef(id=sandbox_id))
    assert sandbox.status is not None
    return sandbox.status.instance_id


def keepers() -> set[int]:
    """Living keepers of whatever root."""
    return {pid for pid in _pids() if _lives(pid) and _keeps(pid)}


def _keeps(pid: int) -> bool:
    try:
        return _keeper.__file__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
