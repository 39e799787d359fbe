"""A compute driver's process ends when it is told to, whoever watches."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.abc
import grpc
import pytest
from grpc import aio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.client import connect
from openshell_drivers.compute import SandboxSpec
from tests.wire.compute_gateway import watch
from tests.wire.gateway import dial

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def process(socket_path: Path) -> AsyncIterator[anyio.abc.Process]:
    command = [sys.executable, "-m", "tests.compute.serve", str(socket_path)]
    async with await anyio.open_process(command, cwd=ROOT, stdout=None, stderr=None) as started:
        async with connect(socket_path) as client:
            await client.compute.create_sandbox(SandboxSpec(id="id-1", name="box"))
        yield started
        if started.returncode is None:
            started.kill()


async def _to_its_end(watching: aio.UnaryStreamCall[bytes, wire.WatchSandboxesEvent]) -> None:
    while await watching.read() is not aio.EOF:
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_ten_open_watches_do_not_hold_up_the_end(
    process: anyio.abc.Process, socket_path: Path, number: signal.Signals
) -> None:
    async with dial(socket_path) as to:
        watching = [watch(to) for _ in range(10)]
        for each in watching:
            assert await each.read() is not aio.EOF
        began = time.monotonic()
        process.send_signal(number)
        with anyio.fail_after(10):
            status = await process.wait()
        took = time.monotonic() - began
        codes = set()
        for each in watching:
            with pytest.raises(aio.AioRpcError) as ended:
                await _to_its_end(each)
            codes.add(ended.value.code())

    assert status == 0
    assert codes == {grpc.StatusCode.UNAVAILABLE}
    assert not await anyio.Path(socket_path).exists()
    assert took < 1
