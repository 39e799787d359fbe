"""The relay of strict peers: who may come in, and that nothing is lost on the way."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread
from grpc import aio

from openshell_drivers._relay import relaying
from openshell_drivers.server import ServerOptions, SocketPolicy, running
from tests.fakes import grpc_calls
from tests.fakes.driver import CANARY, Named
from tests.fakes.grpc_calls import resolve
from tests.fakes.polling import descriptors, steady
from tests.fakes.process import DriverProcess
from tests.fakes.users import SOMEBODY, as_somebody, need_root

OURS = ServerOptions(socket=SocketPolicy(allowed_uids=frozenset({os.geteuid()})))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.fixture
def driver() -> Named:
    return Named()


@pytest.fixture
async def channel(driver: Named, socket_path: Path) -> AsyncIterator[aio.Channel]:
    async with (
        running(driver, socket=socket_path, options=OURS),
        grpc_calls.channel(socket_path) as channel,
    ):
        yield channel


async def test_allowed_user_is_served(channel: aio.Channel) -> None:
    answer = await resolve(channel, "quick")

    assert answer.token == CANARY


async def test_large_messages_pass_in_both_directions(channel: aio.Channel) -> None:
    size = 4_000_000
    answers = await asyncio.gather(*(resolve(channel, f"size:{size}") for _ in range(4)))
    long_name = await resolve(channel, "x" * size)

    assert [len(answer.token) for answer in answers] == [size] * 4
    assert long_name.token == CANARY


async def test_peer_that_does_not_read_stops_who_writes(short_dir: Path) -> None:
    """Else the relay would keep in memory what the peer does not take."""
    inner, outer = str(short_dir / "inner"), str(short_dir / "outer")
    sent = 0

    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < 100_000_000:
            writer.write(b"x" * 10_000)
            await writer.drain()
            sent += 10_000
        writer.close()

    async with (
        await asyncio.start_unix_server(write, inner),
        relaying(outer, inner, frozenset({os.geteuid()})),
    ):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.setblocking(False)
            peer.connect(outer)
            stopped_at = await steady(lambda: sent)
            received = 0
            while received < 100_000_000:
                received += len(await asyncio.get_running_loop().sock_recv(peer, 1_000_000))

    assert 0 < stopped_at < 5_000_000
    assert received == 100_000_000


async def test_other_user_gets_not_one_byte_through(socket_path: Path) -> None:
    need_root()
    socket_path.parent.parent.chmod(0o755)
    code = (
        "peer = socket.socket(socket.AF_UNIX); peer.settimeout(10)\n"
        "peer.connect(sys.argv[1])\n"
        "try:\n"
        f"    peer.sendall({PREFACE!r})\n"
        "    answer = peer.recv(100)\n"
        "except (BrokenPipeError, ConnectionResetError): answer = b''\n"
        "print(len(answer))\n"
    )
    options = ServerOptions(
        socket=SocketPolicy(group=SOMEBODY, allowed_uids=frozenset({os.geteuid()}))
    )
    async with running(Named(), socket=socket_path, options=options):
        refused = await to_thread.run_sync(as_somebody, code, str(socket_path))
        async with grpc_calls.channel(socket_path) as channel:
            answer = await resolve(channel, "quick")
    welcome = ServerOptions(socket=SocketPolicy(group=SOMEBODY, allowed_uids=frozenset({SOMEBODY})))
    async with running(Named(), socket=socket_path, options=welcome):
        greeted = await to_thread.run_sync(as_somebody, code, str(socket_path))

    assert int(refused) == 0
    assert answer.token == CANARY
    assert int(greeted) > 0


async def test_refused_user_is_named_in_the_log(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ServerOptions(socket=SocketPolicy(allowed_uids=frozenset({os.geteuid() + 1})))
    async with running(Named(), socket=socket_path, options=options):
        reader, writer = await asyncio.open_unix_connection(str(socket_path))
        with anyio.fail_after(10):
            gone = await reader.read()
        writer.close()

    assert gone == b""
    (record,) = [each for each in caplog.records if each.message == "peer refused"]
    assert vars(record)["peer_uid"] == os.geteuid()


async def test_refused_user_cannot_fill_the_log(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ServerOptions(socket=SocketPolicy(allowed_uids=frozenset({os.geteuid() + 1})))
    async with running(Named(), socket=socket_path, options=options):
        for _ in range(5):
            reader, writer = await asyncio.open_unix_connection(str(socket_path))
            with anyio.fail_after(10):
                await reader.read()
            writer.close()

    loud = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert [each.message for each in loud] == ["peer refused"]


@pytest.mark.parametrize("size", [1, 60_000, 3_000_000])
async def test_answers_under_way_at_sigterm_arrive_through_the_relay(
    socket_path: Path, size: int
) -> None:
    with DriverProcess(socket_path, allowed_uids=[os.geteuid()]) as driver:
        driver.serving()
        async with grpc_calls.channel(socket_path) as channel:
            calls = [resolve(channel, f"wait:{size}") for _ in range(20)]
            for _ in calls:
                await to_thread.run_sync(driver.says, "waiting")
            driver.send(signal.SIGTERM)
            await grpc_calls.refused(channel)
            driver.open_gate()
            answers = [await call for call in calls]
        status = driver.ended()

    assert [len(answer.token) for answer in answers] == [size] * 20
    assert status == 0


async def test_many_connections_leak_no_descriptor(socket_path: Path) -> None:
    async with running(Named(), socket=socket_path, options=OURS):
        async with grpc_calls.channel(socket_path) as channel:
            await resolve(channel, "quick")
        before = await steady(descriptors)
        for number in range(300):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(socket_path))
                if number % 3 == 0:
                    peer.send(PREFACE)
                if number % 3 == 1:
                    peer.send(b"not HTTP/2 at all")
            await anyio.lowlevel.checkpoint()
        after = await steady(descriptors)

    assert after <= before + 2
