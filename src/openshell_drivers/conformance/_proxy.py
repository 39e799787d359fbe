"""`proxied`: a socket before a driver's socket, on which a `Spoil` changes what is said."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import grpc
from grpc import aio

from openshell_drivers.conformance._caller import channel_to
from openshell_drivers.conformance._instances import Instance
from openshell_drivers.conformance._spoils import Spoil, Spoilt

_STREAMS: Final = frozenset({"WatchSandboxes"})
_AUTHORITY: Final = "localhost"
_Unary: TypeAlias = "aio.UnaryUnaryMultiCallable[bytes, bytes]"
_Stream: TypeAlias = "aio.UnaryStreamMultiCallable[bytes, bytes]"


@asynccontextmanager
async def proxied(instance: Instance, spoil: Spoil, folder: Path) -> AsyncIterator[Instance]:
    """Give an instance that is the same in everything but its socket."""
    folder.mkdir(mode=0o700, exist_ok=True)  # noqa: ASYNC240  # a moment, between two checks
    channel = channel_to(instance.socket, _AUTHORITY)
    server = aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((_Forward(channel, spoil),))
    front = copy.copy(instance)
    front.socket = folder / "p.sock"
    server.add_insecure_port(f"unix:{quote(str(front.socket))}")
    await server.start()
    try:
        yield front
    finally:
        await server.stop(None)
        await channel.close(None)


class _Forward(grpc.GenericRpcHandler):
    """Hands every call on as bytes, through the spoil."""

    def __init__(self, channel: aio.Channel, spoil: Spoil) -> None:
        self._channel = channel
        self._spoil = spoil

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        path = str(details.method)
        method = path.rpartition("/")[2]
        if method in _STREAMS:
            return grpc.unary_stream_rpc_method_handler(self._stream(path))
        return grpc.unary_unary_rpc_method_handler(self._unary(path))

    def _unary(self, path: str) -> Any:
        async def answer(data: bytes, context: Any) -> bytes:
            try:
                return await self._spoil.unary(path, data, lambda sent: self._ask(path, sent))
            except Spoilt as status:
                await context.abort(grpc.StatusCode[status.code], status.text)
                raise

        return answer

    def _stream(self, path: str) -> Any:
        async def answer(data: bytes, context: Any) -> AsyncIterator[bytes]:
            async with contextlib.aclosing(self._open(path, data)) as source:
                if self._spoil.headers:
                    await anext(source, None)
                    await context.send_initial_metadata(())
                try:
                    async with contextlib.aclosing(self._spoil.stream(path, source)) as events:
                        async for event in events:
                            if event:
                                yield event
                except Spoilt as status:
                    await context.abort(grpc.StatusCode[status.code], status.text)

        return answer

    async def _ask(self, path: str, data: bytes) -> bytes:
        method: _Unary = self._channel.unary_unary(path)
        call = method(data)
        try:
            return await call
        except aio.AioRpcError as error:
            raise Spoilt(error.code().name, error.details() or "") from None
        finally:
            call.cancel()

    async def _open(self, path: str, data: bytes) -> AsyncGenerator[bytes, None]:
        """The stream's events, after an empty one when its headers came."""
        method: _Stream = self._channel.unary_stream(path)
        call = method(data)
        try:
            await call.initial_metadata()
            yield b""
            async for message in call:
                yield message
        except aio.AioRpcError as error:
            raise Spoilt(error.code().name, error.details() or "") from None
        finally:
            call.cancel()
