"""`Process`: its root goes away, is taken, is damaged, or belongs to somebody else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from openshell_drivers import ConfigError, SandboxRef, Unavailable
from openshell_drivers.compute import SandboxDeleted, SandboxSeen
from openshell_drivers.reference.process import Process, ProcessConfig
from tests.fakes.commands import Commands
from tests.fakes.polling import until
from tests.reference.sandboxes import (
    becomes,
    box,
    entries,
    inhabitants,
    look,
    make,
    move,
    serving,
    shell,
)

pytestmark = pytest.mark.anyio

REF = SandboxRef(id="a")


async def test_without_its_root_the_driver_says_so_and_sees_again_by_itself(root: Path) -> None:
    away = root.with_name("away")
    told: list[object] = []
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        await client.create_sandbox(shell("b", "while ! [ -e go ]; do sleep 0.02; done; exit 7"))
        for each in ("a", "b"):
            await becomes(client, each, "Running")

        async def watch() -> None:
            async with aclosing(client.watch_sandboxes()) as events:
                while True:
                    told.append(await anext(events))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await until(lambda: len(told) == 2)
            move(root, away)
            for call in (
                client.stop_sandbox(REF),
                client.delete_sandbox(REF),
                client.create_sandbox(box("c")),
            ):
                with pytest.raises(Unavailable):
                    await call
            await becomes(client, "a", "Unavailable")
            with pytest.raises(Unavailable, match="root directory"):
                await client.list_sandboxes()
            (away / "b" / "workspace" / "go").touch()
            await until(lambda: "nobody saw how" in repr(told))
            move(away, root)
            seen = await becomes(client, "b", "ContainerExited")
            again = await look(client, "a")
            tasks.cancel_scope.cancel()

        assert seen[1] == "exit status 7"
        assert again[0] == "Running"
        assert not [event for event in told if isinstance(event, SandboxDeleted)]
        await client.stop_sandbox(REF)
        assert inhabitants(root) == []


async def test_another_directory_in_its_place_is_not_the_root(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        move(root, root.with_name("away"))
        make(root)
        with pytest.raises(Unavailable):
            await client.delete_sandbox(REF)
        await becomes(client, "a", "Unavailable")
        await anyio.Path(root).rmdir()
        move(root.with_name("away"), root)
        await becomes(client, "a", "Running")


async def test_a_sandbox_whose_directory_was_removed_is_gone(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        async with aclosing(client.watch_sandboxes()) as events:
            await anext(events)
            (root / "a").rename(root.parent / "trash")
            async for event in events:
                if isinstance(event, SandboxDeleted):
                    break
        seen = await look(client, "a")
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")

    assert seen[0] == "Gone"
    assert len(inhabitants(root.parent)) == 2


async def test_a_second_driver_on_a_root_is_refused(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        with pytest.raises(ConfigError, match="another driver"):
            async with Process(ProcessConfig(root=root)).lifespan():
                pass
        await becomes(client, "a", "Running")

    async with Process(ProcessConfig(root=root)).lifespan():
        pass


async def test_a_second_process_on_a_root_is_refused_in_words(root: Path) -> None:
    commands = Commands(root.parent)
    async with serving(root):
        done = await anyio.to_thread.run_sync(
            commands.run, "run", "process", "--socket", root.parent / "s", "--set", f"root={root}"
        )

    assert done.status == 1
    assert "another driver uses this directory" in done.err


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
async def test_a_root_that_is_open_to_others_is_refused(root: Path, mode: int) -> None:
    make(root, mode)
    with pytest.raises(ConfigError, match="0700"):
        async with Process(ProcessConfig(root=root)).lifespan():
            pass


async def test_a_root_without_a_parent_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="root: FileNotFoundError"):
        async with Process(ProcessConfig(root=root / "deeper")).lifespan():
            pass


async def test_a_damaged_record_stops_the_driver_rather_than_shortens_its_list(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        await client.stop_sandbox(REF)
    (root / "a" / "record.json").write_text('{"id": "a"')
    with pytest.raises(ConfigError, match="damaged"):
        async with Process(ProcessConfig(root=root)).lifespan():
            pass


async def test_what_is_not_the_driver_s_is_left_alone(root: Path) -> None:
    make(root)
    (root / "mine").mkdir()
    (root / "mine" / "file").touch()
    (root / "note").touch()
    async with serving(root) as client:
        listed = await client.list_sandboxes()
        deleted = await client.delete_sandbox(SandboxRef(id="mine"))

    assert (listed, deleted) == ((), False)
    assert entries(root) == ["mine", "note"]


@pytest.fixture
def mounted(root: Path) -> Iterator[Path]:
    """Where a file system may be mounted, which nobody can remove then."""
    place = root / "a" / "workspace" / "mounted"
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    yield place
    subprocess.run(["umount", place], check=False, capture_output=True)


async def test_a_delete_that_fails_leaves_the_sandbox_to_be_deleted_again(
    root: Path, mounted: Path
) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        make(mounted)
        done = await anyio.run_process(
            ["mount", "-t", "tmpfs", "none", str(mounted)], check=False, stdout=None, stderr=None
        )
        if done.returncode != 0:
            pytest.skip("nothing can be mounted here")
        with pytest.raises(Unavailable, match="EBUSY"):
            await client.delete_sandbox(REF)
        seen = await look(client, "a")
        left = inhabitants(root)
        secrets = (root / "a" / "launch.json").exists()
        await anyio.run_process(["umount", str(mounted)])
        deleted = await client.delete_sandbox(REF)

    assert seen[0] == "DeletionIncomplete"
    assert left == []
    assert not secrets
    assert deleted
    assert entries(root) == []


async def test_a_delete_removes_what_the_command_made_hard_to_remove(root: Path) -> None:
    script = "mkdir -p x/y; touch x/y/z; ln -s / x/top; chmod 0 x/y x; exec sleep 1000"
    async with serving(root) as client:
        await client.create_sandbox(shell("a", script))
        await becomes(client, "a", "Running")
        workspace = root / "a" / "workspace"
        await until(lambda: (workspace / "x").exists() and not (workspace / "x").stat().st_mode & 7)
        assert await client.delete_sandbox(REF)

    assert entries(root) == []


async def test_a_watch_opened_in_an_outage_begins_with_its_end(root: Path) -> None:
    away = root.with_name("away")
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
        move(root, away)
        await becomes(client, "a", "Unavailable")
        async with aclosing(client.watch_sandboxes()) as events:
            with anyio.move_on_after(0.2) as nothing:
                await anext(events)
        move(away, root)
        async with aclosing(client.watch_sandboxes()) as events:
            event = await anext(events)

    assert nothing.cancelled_caught
    assert isinstance(event, SandboxSeen)
