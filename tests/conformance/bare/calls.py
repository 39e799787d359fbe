"""`Calls`: what happens around every call: decoding, limit, status, log line."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from tests.conformance.bare.errors import (
    DeadlineExceeded,
    InvalidArgument,
    Refusal,
    Unavailable,
    Unimplemented,
)
from tests.conformance.bare.logs import Log
from tests.conformance.bare.protos import Schema

_CODES: Final = {code.name: code for code in grpc.StatusCode}
_Context = aio.ServicerContext[bytes, bytes]


def method_name(rpc: str) -> str:
    """The method behind an RPC: ``GetSandbox`` is ``get_sandbox``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", rpc).lower()


class Calls:
    """Every method here is one decision about all calls. `implementation` is asked call by call."""

    limit = 30.0
    """Seconds for a call; gateways set no deadline of their own."""
    longest_message = 1024

    def __init__(self, log: Log) -> None:
        self.log = log
        self.closing = False

    def handler(self, schema: Schema, implementation: object) -> grpc.GenericRpcHandler:
        """Bind every RPC of a contract to the method of its name."""
        handlers: dict[str, Any] = {}
        for rpc in schema.service.methods:
            request = schema.named(rpc.input_type.full_name)
            if rpc.server_streaming:
                handle = self._stream(rpc.name, request, implementation)
                handlers[rpc.name] = grpc.unary_stream_rpc_method_handler(handle)
            else:
                handle = self._unary(rpc.name, request, implementation)
                handlers[rpc.name] = grpc.unary_unary_rpc_method_handler(handle)
        return grpc.method_handlers_generic_handler(schema.service_name, handlers)

    def _unary(self, rpc: str, request_class: Any, implementation: object) -> Any:
        async def handle(raw: bytes, context: _Context) -> bytes:
            started = time.perf_counter()
            code, message, data = "CANCELLED", "", b""
            try:
                async with asyncio.timeout(self.limit):
                    request = self.parse(request_class, raw)
                    await self.before(rpc, request)
                    answer = await self.method(implementation, rpc)(request)
                    data = self.encode(rpc, answer)
                code = "OK"
            except Exception as error:
                code, message = self.status(error)
            finally:
                self.record(rpc, code, message, started)
            if code != "OK":
                await context.abort(_CODES[code], message)
            return data

        return handle

    def _stream(self, rpc: str, request_class: Any, implementation: object) -> Any:
        async def handle(raw: bytes, context: _Context) -> None:
            started = time.perf_counter()
            code, message = "CANCELLED", ""
            try:
                await self.headers(context)
                request = self.parse(request_class, raw)
                await self.before(rpc, request)
                answers: AsyncGenerator[Any, None]
                async with aclosing(self.method(implementation, rpc)(request)) as answers:
                    async for answer in answers:
                        await self.send(context, self.encode(rpc, answer))
                code = "OK"
            except Exception as error:
                code, message = self.status(error)
            finally:
                self.record(rpc, code, message, started)
            if code != "OK":
                await context.abort(_CODES[code], message)

        return handle

    def method(self, implementation: object, rpc: str) -> Any:
        """Find the method of an RPC; None there means that it is not offered."""
        found = getattr(implementation, method_name(rpc), None)
        if found is None:
            raise Unimplemented("this method is not offered")
        return found

    async def headers(self, context: _Context) -> None:
        """Send them at once: gateways wait for them with their lease in hand (COMP-WATCH-04)."""
        await context.send_initial_metadata(())

    async def send(self, context: _Context, data: bytes) -> None:
        """Send one message of a stream; waits for a reader who does not read."""
        await context.write(data)

    def parse(self, request_class: Any, raw: bytes) -> Any:
        try:
            return request_class.FromString(raw)
        except DecodeError:
            raise InvalidArgument("the request is not a message of this method") from None

    async def before(self, _rpc: str, _request: Any) -> None:
        """Admit the call, or refuse it."""
        if self.closing:
            raise Unavailable("the driver is shutting down")

    def encode(self, _rpc: str, answer: Any) -> bytes:
        data: bytes = answer.SerializeToString()
        return data

    def status(self, error: Exception) -> tuple[str, str]:
        """Give the status and the message of what went wrong."""
        if isinstance(error, TimeoutError):
            error = DeadlineExceeded("the driver did not finish in time")
        if isinstance(error, Refusal):
            return error.code, self.bounded(error.message)
        # By type and place alone: its text may hold what a caller sent.
        self.log.error("unexpected error", fault=type(error).__name__, place=_place(error))
        return "INTERNAL", "internal error; the driver's log says where"

    def bounded(self, message: str) -> str:
        """Keep a message below what clients can receive."""
        return message[: self.longest_message]

    def record(self, rpc: str, code: str, message: str, started: float) -> None:
        """Write the one log line of a call; never with a message of the contract in it."""
        ms = round((time.perf_counter() - started) * 1000, 1)
        self.log.debug("call", rpc=rpc, code=code, reason=message, ms=ms)


def _place(error: BaseException) -> str:
    found = error.__traceback__
    while found is not None and found.tb_next is not None:
        found = found.tb_next
    if found is None:
        return ""
    return f"{found.tb_frame.f_code.co_filename.rpartition('/')[2]}:{found.tb_lineno}"
