"""`Process`: sandboxes outlive their driver, and the next one tells of them what is true."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from openshell_drivers import DriverError, SandboxRef, SandboxSpec, Secret
from openshell_drivers.client import ComputeClient, connect
from openshell_drivers.reference._keeper import look_up
from openshell_drivers.reference._members import open_process
from tests.fakes.commands import Commands, Serving
from tests.fakes.polling import until
from tests.reference.sandboxes import (
    becomes,
    box,
    entries,
    inhabitants,
    instance,
    look,
    serving,
    shell,
)

pytestmark = pytest.mark.anyio

_TOP = Path(__file__).resolve().parents[2]
REF = SandboxRef(id="a")


@asynccontextmanager
async def own_process(
    root: Path, driver: str = "process", **env: str
) -> AsyncIterator[tuple[Serving, ComputeClient]]:
    """A driver in a process of its own, as operators run it."""
    socket = root.parent / "run" / "driver.sock"
    arguments: list[str | Path] = ["run", driver, "--socket", socket, "--set", f"root={root}"]
    commands = Commands(root.parent)
    with commands.serving(socket, *arguments, env={"PYTHONPATH": str(_TOP), **env}) as process:
        async with connect(socket) as connection:
            yield process, connection.compute


async def killed(process: Serving) -> None:
    process.process.kill()
    await anyio.to_thread.run_sync(process.process.wait)


async def test_sandboxes_live_on_when_their_driver_is_killed(root: Path) -> None:
    async with own_process(root) as (process, client):
        await client.create_sandbox(SandboxSpec(id="shell", name="shell"))
        await client.create_sandbox(shell("a", "while :; do date >> ticks; sleep 0.05; done"))
        await client.create_sandbox(box("stopped"))
        for each in ("shell", "a", "stopped"):
            await becomes(client, each, "Running")
        await client.stop_sandbox(SandboxRef(id="stopped"))
        before = await instance(client, "a")
        lived = set(inhabitants(root))
        await killed(process)
    ticks = root / "a" / "workspace" / "ticks"
    size = ticks.stat().st_size
    await until(lambda: ticks.stat().st_size > size)

    async with serving(root) as client:
        listed = {each.id: each.name for each in await client.list_sandboxes()}
        seen = [(await look(client, each))[0] for each in ("a", "shell", "stopped")]
        same = await instance(client, "a") == before
        await client.stop_sandbox(REF)
        await client.delete_sandbox(SandboxRef(id="shell"))

        assert listed == {"a": "n-a", "shell": "shell", "stopped": "n-stopped"}
        assert seen == ["Running", "Running", "Stopped"]
        assert same
        assert len(lived) > 3
        assert inhabitants(root) == []


async def test_sandboxes_live_on_when_their_driver_ends(root: Path) -> None:
    async with own_process(root) as (process, client):
        await client.create_sandbox(SandboxSpec(id="a", name="a"))
        await becomes(client, "a", "Running")
        await anyio.to_thread.run_sync(process.terminate)

    async with serving(root) as client:
        assert (await look(client, "a"))[0] == "Running"


async def test_an_adopted_sandbox_s_end_is_told_at_once_and_exactly(root: Path) -> None:
    async with own_process(root) as (process, client):
        await client.create_sandbox(shell("a", "while ! [ -e go ]; do sleep 0.02; done; exit 7"))
        await becomes(client, "a", "Running")
        await killed(process)

    async with serving(root) as client:
        await becomes(client, "a", "Running")
        (root / "a" / "workspace" / "go").touch()
        with anyio.fail_after(0.8):
            seen = await becomes(client, "a", "ContainerExited")

    assert seen[1] == "exit status 7"


async def test_what_has_ended_meanwhile_has_exited(root: Path) -> None:
    async with own_process(root) as (process, client):
        for each in ("a", "b"):
            await client.create_sandbox(
                shell(each, "while ! [ -e go ]; do sleep 0.02; done; exit 7")
            )
            await becomes(client, each, "Running")
        await killed(process)
    (root / "a" / "workspace" / "go").touch()
    await until(lambda: not inhabitants(root / "a"))
    for pid in inhabitants(root / "b"):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: inhabitants(root) == [])

    async with serving(root) as client:
        first, second = await look(client, "a"), await look(client, "b")
        await client.start_sandbox(REF)
        again = await instance(client, "a")

    assert first == ("ContainerExited", "exit status 7")
    assert second[0] == "ContainerExited"
    assert again.endswith(".2")


async def test_a_pid_that_now_is_somebody_else_s_is_left_alone(root: Path) -> None:
    async with own_process(root) as (process, client):
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        await killed(process)
    for pid in inhabitants(root):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: inhabitants(root) == [])
    bystander = await anyio.open_process(["sleep", "1000"])
    report = root / "a" / "run.json"
    report.write_text(json.dumps({**json.loads(report.read_text()), "pid": bystander.pid}))
    try:
        async with serving(root) as client:
            seen = await look(client, "a")
            await client.stop_sandbox(REF)
            await client.start_sandbox(REF)
            await client.delete_sandbox(REF)

        assert seen[0] == "ContainerExited"
        assert bystander.returncode is None
    finally:
        bystander.kill()
        await bystander.aclose()


def test_a_process_that_began_at_another_time_is_not_opened() -> None:
    own = look_up(os.getpid())
    assert own is not None

    opened = open_process(own.pid, own.started)
    assert opened is not None
    os.close(opened)
    assert open_process(own.pid, own.started + 1) is None


CREATE = ("replace:3", "rename:1", "posix_spawn:1", "pidfd_open:1")
STOP = ("replace:4", "pidfd_open:2", "replace:5")
START = ("unlink:7", "replace:6", "replace:7", "posix_spawn:2")
DELETE = ("replace:8", "unlink:11", "rmdir:1", "rename:2", "rmdir:2")


async def _one_life(client: ComputeClient) -> None:
    await client.create_sandbox(box("a", sandbox_token=Secret("canary")))
    await becomes(client, "a", "Running", "Unavailable")
    await client.stop_sandbox(REF)
    await client.start_sandbox(REF)
    await client.delete_sandbox(REF)


async def _until_killed_at(root: Path, point: str) -> None:
    async with own_process(root, "tests.reference.dying:Dying", DIE_AT=point) as (process, client):
        with suppress(DriverError):
            await _one_life(client)
        assert await anyio.to_thread.run_sync(process.process.wait, 5) == -signal.SIGKILL


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("point", [*CREATE, *STOP, *START, *DELETE])
async def test_after_a_kill_at_any_point_the_next_driver_knows_all(
    root: Path, point: str, side: str
) -> None:
    await _until_killed_at(root, f"{point}:{side}")

    async with serving(root) as client:
        seen = await becomes(client, "a", "Gone", "Running", "ContainerExited", "Stopped")
        listed = await client.list_sandboxes()
        living = inhabitants(root)
        assert bool(listed) == (seen[0] != "Gone")
        assert len(living) == (2 if seen[0] == "Running" else 0)
        if seen[0] == "Gone":
            assert entries(root) == []
            await client.create_sandbox(box("a"))
        else:
            await client.start_sandbox(REF)
        await becomes(client, "a", "Running")
        assert len(inhabitants(root)) == 2
        assert await client.delete_sandbox(REF)

    assert entries(root) == []
    assert inhabitants(root) == []
