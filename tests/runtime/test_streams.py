"""Streams of any service: how they end, and that what feeds them is closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import grpc
import pytest
from grpc import aio

from openshell_drivers._rpc import Service, Stream, Traffic, generic_handler
from openshell_drivers._wire.credentials_driver_pb2 import (
    ResolveCredentialRequest,
    ResolveCredentialResponse,
)
from openshell_drivers.errors import NotFound
from tests.fakes import grpc_calls
from tests.fakes.driver import FAULT_CANARY
from tests.fakes.polling import until


class Source:
    """Feeds streams, and knows what became of each."""

    def __init__(self) -> None:
        self.sent = 0
        self.opened: list[object] = []
        self.closed: list[object] = []

    async def stream(
        self, request: ResolveCredentialRequest
    ) -> AsyncGenerator[ResolveCredentialResponse, None]:
        self.opened.append(asyncio.current_task())
        try:
            match request.name:
                case "late":
                    await anyio.sleep_forever()
                case "fails":
                    yield ResolveCredentialResponse(token="1")
                    raise NotFound("gone meanwhile")
                case "breaks":
                    raise RuntimeError(FAULT_CANARY)
                case "ends":
                    yield ResolveCredentialResponse(token="1")
                case "floods":
                    while True:
                        yield ResolveCredentialResponse(token="x" * 100_000)
                        self.sent += 1
        finally:
            self.closed.append(asyncio.current_task())


@pytest.fixture
def source() -> Source:
    return Source()


@asynccontextmanager
async def _serving(source: Source, path: Path) -> AsyncIterator[tuple[Traffic, aio.Server]]:
    traffic = Traffic(5, 5, 5)
    method = Stream(name="Watch", request=ResolveCredentialRequest, answer=source.stream)
    server = aio.server()
    service = Service(name="test.Streams", methods=[method])
    server.add_generic_rpc_handlers([generic_handler(service, traffic)])
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield traffic, server
    finally:
        await server.stop(0)


def _open(channel: aio.Channel, name: str) -> Any:
    method: Any = channel.unary_stream("/test.Streams/Watch")
    return method(ResolveCredentialRequest(name=name).SerializeToString())


async def test_metadata_comes_before_the_first_message(short_dir: Path, source: Source) -> None:
    path = short_dir / "s.sock"
    async with _serving(source, path), grpc_calls.channel(path) as channel:
        call = _open(channel, "late")
        with anyio.fail_after(5):
            await call.initial_metadata()
        await until(lambda: source.opened)
        call.cancel()
        await until(lambda: source.closed)

    assert source.closed == source.opened


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ends", grpc.StatusCode.OK),
        ("fails", grpc.StatusCode.NOT_FOUND),
        ("breaks", grpc.StatusCode.INTERNAL),
    ],
)
async def test_stream_ends_with_its_status(
    short_dir: Path, source: Source, name: str, code: grpc.StatusCode
) -> None:
    path = short_dir / "s.sock"
    async with _serving(source, path), grpc_calls.channel(path) as channel:
        call = _open(channel, name)
        try:
            while await call.read():
                pass
        except aio.AioRpcError as error:
            details = error.details() or ""
        else:
            details = ""
        ended = await call.code()

    assert ended == code
    assert FAULT_CANARY not in details
    assert source.closed == source.opened


async def test_stream_whose_reader_stalls_ends_at_once_and_is_closed_in_its_own_task(
    short_dir: Path, source: Source
) -> None:
    path = short_dir / "s.sock"
    async with _serving(source, path) as (traffic, server), grpc_calls.channel(path) as channel:
        call = _open(channel, "floods")
        await call.read()
        await until(lambda: source.sent > 0)
        began = time.monotonic()
        traffic.close()
        await server.stop(0.2)
        took = time.monotonic() - began
        await until(lambda: not traffic.streams)

    assert took < 2
    assert source.closed == source.opened


async def test_reader_that_stalls_stops_the_source(short_dir: Path, source: Source) -> None:
    path = short_dir / "s.sock"
    async with _serving(source, path), grpc_calls.channel(path) as channel:
        call = _open(channel, "floods")
        await call.read()
        with anyio.move_on_after(0.3):
            await anyio.sleep_forever()
        sent = source.sent
        call.cancel()
        await until(lambda: source.closed)

    assert sent < 200  # 20 MB; without a bound it would be thousands


async def test_reader_that_goes_away_closes_the_source(short_dir: Path, source: Source) -> None:
    path = short_dir / "s.sock"
    async with _serving(source, path) as (traffic, _):
        async with grpc_calls.channel(path) as channel:
            await _open(channel, "floods").read()
        await until(lambda: source.closed and not traffic.streams)

    assert source.closed == source.opened
