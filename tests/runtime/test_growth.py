"""What must not grow: descriptors, tasks, threads, streams."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from openshell_drivers.client import connect
from openshell_drivers.server import ServerOptions, SocketPolicy, running
from tests.fakes import grpc_calls
from tests.fakes.driver import Named
from tests.fakes.polling import held, until

PLAIN = ServerOptions(max_streams=1000)
STRICT = ServerOptions(
    max_streams=1000, socket=SocketPolicy(allowed_uids=frozenset({os.geteuid()}))
)


@pytest.mark.parametrize("options", [PLAIN, STRICT], ids=["plain", "strict"])
async def test_a_thousand_watches_leave_nothing(
    socket_path: Path, options: ServerOptions, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        running(Named(), socket=socket_path, options=options) as server,
        grpc_calls.channel(socket_path) as channel,
    ):
        await grpc_calls.check(channel)
        before = await held()
        for _ in range(20):
            watching = [grpc_calls.watch(channel) for _ in range(50)]
            for each in watching:
                await each.read()
            for each in watching:
                each.cancel()
        await until(lambda: not server._traffic.streams)
        after = await held()

    assert after["descriptors"] <= before["descriptors"] + 2
    assert after["tasks"] <= before["tasks"] + 1
    assert after["threads"] <= before["threads"] + 1
    assert [each for each in caplog.records if each.levelname != "INFO"] == []


@pytest.mark.parametrize("options", [PLAIN, STRICT], ids=["plain", "strict"])
async def test_a_thousand_connections_leave_nothing(
    socket_path: Path, options: ServerOptions
) -> None:
    async with running(Named(), socket=socket_path, options=options):
        async with grpc_calls.channel(socket_path) as channel:
            await grpc_calls.check(channel)
        before = await held()
        for _ in range(1000):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(socket_path))
            await anyio.lowlevel.checkpoint()
        for _ in range(20):
            async with connect(socket_path) as client:
                await client.credentials.resolve_credential("quick")
        after = await held()

    assert after["descriptors"] <= before["descriptors"] + 2
    assert after["tasks"] <= before["tasks"] + 1
    assert after["threads"] <= before["threads"] + 1


async def test_a_thousand_cancelled_calls_leave_no_room_taken(socket_path: Path) -> None:
    driver = Named()
    async with (
        running(driver, socket=socket_path) as server,
        grpc_calls.channel(socket_path) as channel,
    ):
        await grpc_calls.check(channel)
        before = await held()
        for _ in range(10):
            calls = [grpc_calls.resolve(channel, "never", timeout=30) for _ in range(100)]
            await until(lambda: driver.under_way == 100)
            for each in calls:
                each.cancel()
            await until(lambda: driver.under_way == 0)
        await until(lambda: server._traffic.calls == 0)
        after = await held()

    assert after["tasks"] <= before["tasks"] + 1


async def test_servers_that_came_and_went_leave_nothing(socket_path: Path) -> None:
    async def once() -> None:
        async with running(Named(), socket=socket_path, options=STRICT), connect(socket_path):
            pass

    for _ in range(3):
        await once()
    before = await held()
    for _ in range(20):
        await once()
    after = await held()

    assert after["descriptors"] <= before["descriptors"] + 3
    assert after["tasks"] <= before["tasks"] + 1
    assert after["threads"] <= before["threads"] + 2
