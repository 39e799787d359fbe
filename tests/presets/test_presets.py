"""A sandbox under each gateway line: what its user sees on the way, and what is never lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from openshell_drivers.server import running
from openshell_drivers.testing.gateway import Gateway, UserError
from tests.fakes.commands import Commands
from tests.presets.platforms import MemoryPlatform, Platform, ProcessPlatform

FORK = "fork-mvp"
SLEEP = ("sleep", "600")
FAST = 300.0
"""The gateway's seconds in one of ours: its five minutes of patience pass in one."""


@asynccontextmanager
async def served(
    platform: Platform, preset: str, socket: Path, *, speed: float = 20.0
) -> AsyncIterator[Gateway]:
    async with (
        running(platform.driver(), socket=socket),
        Gateway(socket, preset=preset, speed=speed) as gateway,
    ):
        yield gateway


def phases(gateway: Gateway, name: str) -> list[str | None]:
    """The phases that a user saw, in order."""
    seen: list[str | None] = []
    for entry in gateway.journal:
        if entry.name == name and entry.kind == "phase" and seen[-1:] != [entry.phase]:
            seen.append(entry.phase)
    return seen


async def ready(gateway: Gateway, *names: str) -> None:
    for name in names:
        await gateway.create(name, command=SLEEP)
    for name in names:
        await gateway.wait_for(name, "Ready")


async def test_a_sandbox_goes_the_whole_way(
    platform: Platform, preset: str, socket_path: Path
) -> None:
    async with served(platform, preset, socket_path) as gateway:
        await ready(gateway, "one")
        if preset != FORK:
            await gateway.stop("one")
            await gateway.wait_for("one", "Stopped")
            await gateway.start("one")
            await gateway.wait_for("one", "Ready")
            await gateway.stop("one")
        await gateway.delete("one")
        await gateway.wait_gone("one")
        await gateway.sweep()

        assert gateway.records == ()
        assert "Error" not in phases(gateway, "one")
        assert phases(gateway, "one")[0] == "Provisioning"


async def test_the_fork_has_no_stop(platform: Platform, socket_path: Path) -> None:
    async with served(platform, FORK, socket_path) as gateway:
        await ready(gateway, "one")
        with pytest.raises(UserError):
            await gateway.stop("one")


async def test_a_name_is_free_in_every_workspace(
    platform: Platform, preset: str, socket_path: Path
) -> None:
    if preset == FORK:
        pytest.skip("its names are unique everywhere")
    async with served(platform, preset, socket_path) as gateway:
        for workspace in ("a", "b"):
            await gateway.create("one", workspace=workspace, command=SLEEP)
        for workspace in ("a", "b"):
            await gateway.wait_for("one", "Ready", workspace=workspace)
        await gateway.delete("one", workspace="a")
        await gateway.wait_gone("one", workspace="a")
        await gateway.sweep()

        (left,) = gateway.records
        assert (left.workspace, left.phase) == ("b", "Ready")


async def test_an_outage_longer_than_the_gateways_patience_loses_no_record(
    platform: Platform, preset: str, socket_path: Path
) -> None:
    async with served(platform, preset, socket_path, speed=FAST) as gateway:
        await ready(gateway, "one", "two", "three")
        before = {record.id for record in gateway.records}
        async with platform.outage():
            await sweeps_fail(gateway, 7)  # one a minute
        assert {record.id for record in gateway.records} == before
        await swept(gateway)
        await gateway.create("four", command=SLEEP)
        await gateway.wait_for("four", "Ready")

        assert {record.phase for record in gateway.records} == {"Ready"}
        assert {record.id for record in gateway.records} > before
        assert [entry for entry in gateway.journal if entry.kind == "gone"] == []


async def sweeps_fail(gateway: Gateway, times: int) -> None:
    """Wait for so many sweeps of the gateway's own that could not see."""
    mark, failed = len(gateway.journal), 0
    with anyio.fail_after(30):
        async for entry in gateway.follow(mark):
            failed += entry.kind == "gateway" and "sweep" in entry.why + entry.message
            if failed >= times:
                return


async def swept(gateway: Gateway) -> None:
    """Wait for a sweep that can see."""
    from openshell_drivers.errors import DriverError

    with anyio.fail_after(30):
        while True:
            try:
                await gateway.sweep()
            except DriverError:
                await anyio.sleep(0.02)
            else:
                return


async def test_a_driver_that_is_killed_comes_back_with_everything(
    platform: Platform, preset: str, socket_path: Path, commands: Commands
) -> None:
    run = ["run", *platform.arguments(), "--socket", str(socket_path)]
    with commands.serving(socket_path, *run) as first:
        async with Gateway(socket_path, preset=preset, speed=100.0) as gateway:
            await ready(gateway, "one", "two")
            await gateway.wait_watching()
            before = {record.id for record in gateway.records}
            first.process.kill()
            first.process.wait()
            with commands.serving(socket_path, *run):
                await gateway.wait_watching(times=2)
                await swept(gateway)
                await gateway.create("three", command=SLEEP)
                await gateway.wait_for("three", "Ready")

                assert {r.id for r in gateway.records} > before
                assert {r.phase for r in gateway.records} == {"Ready"}
                for name in ("one", "two", "three"):
                    await gateway.delete(name)
                    await gateway.wait_gone(name)
                await gateway.sweep()
                assert gateway.records == ()


async def test_what_vanishes_behind_the_driver_is_gone_for_the_user(
    platform: Platform, preset: str, socket_path: Path
) -> None:
    async with served(platform, preset, socket_path) as gateway:
        await ready(gateway, "one", "two")
        record = gateway.record("one")
        assert record is not None
        platform.rob(record.id)
        await gateway.wait_gone("one")
        await gateway.sweep()

        assert [record.name for record in gateway.records] == ["two"]


async def test_a_refused_create_leaves_no_record(
    platform: Platform, preset: str, socket_path: Path
) -> None:
    async with served(platform, preset, socket_path) as gateway:
        with pytest.raises(UserError, match=platform.refusal) as refused:
            await gateway.create("one", **platform.refused)
        await gateway.sweep()

        assert refused.value.code == "FAILED_PRECONDITION"
        assert gateway.records == ()


async def test_a_sandbox_that_fails_is_an_error_that_can_be_deleted(
    preset: str, short_dir: Path, socket_path: Path
) -> None:
    async with served(MemoryPlatform(short_dir), preset, socket_path) as gateway:
        await gateway.create("one", image="memory/unpullable")
        failed = await gateway.wait_for("one", "Error")
        await gateway.delete("one")
        await gateway.wait_gone("one")

        assert failed.reason == "ImagePullFailed"


async def test_a_process_killed_by_hand_is_an_error_that_can_be_deleted(
    preset: str, short_dir: Path, socket_path: Path
) -> None:
    platform = ProcessPlatform(short_dir)
    async with served(platform, preset, socket_path) as gateway:
        await ready(gateway, "one", "two")
        record = gateway.record("one")
        assert record is not None
        platform.kill(record.id)
        ended = await gateway.wait_for("one", "Error")
        await gateway.delete("one")
        await gateway.wait_gone("one")

        assert ended.reason == "ContainerExited"
        assert [record.phase for record in gateway.records] == ["Ready"]
