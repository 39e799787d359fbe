"""Turn a coroutine over messages into a gRPC handler, with everything that every call needs.

One wrapper per method, composed at registration: decoding, deadline, limits, status mapping, log
line. Knows nothing of any service.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import anyio
import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from openshell_drivers._faults import describe, task_cancelled
from openshell_drivers._logs import line_record, printable
from openshell_drivers._timelimit import TimeLimit
from openshell_drivers.errors import (
    DeadlineExceeded,
    DriverError,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)

_log: Final = logging.getLogger("openshell_drivers.rpc")
#: grpcio fails the whole call when a status message passes about 8 KiB in its percent-encoded
#: form, in which a byte may take three.
_LONGEST_STATUS: Final = 2048
_LONGEST_METHOD: Final = 200
_MOST_METHODS: Final = 32
_INTERNAL: Final = "internal error; the driver's log says where"
_CODES: Final = {code.name: code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary(Generic[RequestT, ResponseT]):
    """One method that answers a request with a response."""

    name: str
    request: type[RequestT]
    answer: Callable[[RequestT], Awaitable[ResponseT | bytes]]
    """Gives a message, or what it is on the wire."""
    about: Callable[[RequestT], str] | None = None
    """The name of what the call is about, for the log line. Never a value."""
    quiet: bool = False
    """Called all the time by machines: logged at DEBUG, and outside the limits on calls."""
    timeout: float | None = None
    """Seconds, if its caller sets no deadline; None for the server's own limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream(Generic[RequestT, ResponseT]):
    """One method that answers a request with responses until either side ends."""

    name: str
    request: type[RequestT]
    answer: Callable[[RequestT], AsyncGenerator[ResponseT | bytes, None]]
    """A generator, since it is closed in the same task when the stream ends in any way. Of
    messages, or of what they are on the wire."""
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A gRPC service under its real name."""

    name: str
    methods: Sequence[Unary[Any, Any] | Stream[Any, Any]]
    life: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    """Entered before the first call, left after the last."""


@dataclass(slots=True)
class Traffic:
    """The calls of one server: how many may be under way, and how they come to an end."""

    call_timeout: float
    max_calls: int
    max_streams: int
    calls: int = 0
    closing: bool = False
    limit: TimeLimit = field(init=False)
    streams: set[anyio.CancelScope] = field(default_factory=set)
    idle: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        self.limit = TimeLimit(self.call_timeout)

    def admit(self) -> None:
        """Count a unary call in, or refuse it."""
        if self.closing:
            raise Unavailable("the driver is shutting down")
        if self.calls >= self.max_calls:
            raise ResourceExhausted("too many calls at once")
        self.calls += 1

    def release(self) -> None:
        """Count a unary call out."""
        self.calls -= 1
        if self.closing and self.calls == 0:
            self.idle.set()

    def close(self) -> None:
        """Refuse new calls from now on and end all streams; `idle` is set when calls are done."""
        self.closing = True
        for scope in list(self.streams):
            scope.cancel()
        if self.calls == 0:
            self.idle.set()


def generic_handler(service: Service, traffic: Traffic) -> grpc.GenericRpcHandler:
    """Bind all methods of a service under its real name."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        method.name: (
            grpc.unary_unary_rpc_method_handler(_unary(service.name, method, traffic))
            if isinstance(method, Unary)
            else grpc.unary_stream_rpc_method_handler(_stream(service.name, method, traffic))
        )
        for method in service.methods
    }
    return grpc.method_handlers_generic_handler(service.name, handlers)


class NotOffered(grpc.GenericRpcHandler):
    """The handler of last resort: answers nothing, and says in the log what was asked for.

    A gateway of another line than the driver serves calls a service that is not there.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._offered = " ".join(services)
        self._told: set[str] = set()

    def service(self, details: grpc.HandlerCallDetails) -> None:
        method = printable(details.method, _LONGEST_METHOD)
        # Aloud once a method, and of so many methods: a caller shall not fill the log.
        news = method not in self._told and len(self._told) < _MOST_METHODS
        if news:
            self._told.add(method)
        level = logging.WARNING if news else logging.DEBUG
        _log.log(level, "not offered", extra={"asked": method, "offered": self._offered})


_Context = aio.ServicerContext[bytes, bytes]


def _unary(
    service: str, method: Unary[Any, Any], traffic: Traffic
) -> Callable[[bytes, _Context], Awaitable[bytes]]:
    answer, parse, about = method.answer, method.request.FromString, method.about
    line = _CallLine(service, method.name, logging.DEBUG if method.quiet else logging.INFO)
    limit = traffic.limit if method.timeout is None else TimeLimit(method.timeout)

    async def handle(raw: bytes, context: _Context) -> bytes:
        started = time.perf_counter()
        code, subject, admitted, reason = "CANCELLED", None, False, ""
        try:
            try:
                if not method.quiet:
                    traffic.admit()
                    admitted = True
                request = parse(raw)
                subject = about(request) if about is not None else None
                if context.time_remaining() is None:
                    response = await limit.on(answer(request))
                else:
                    response = await answer(request)
                data = _encoded(response)
                code = "OK"
                return data
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the border
                status = _status(error)
            # Out here the error is forgotten: grpcio logs all that an exception hangs on.
            code, reason = status.code, bounded(status.message)
            await context.abort(_CODES[code], reason)
        finally:
            if admitted:
                traffic.release()
            line.write(code, subject, started, reason)

    return handle


def _stream(
    service: str, method: Stream[Any, Any], traffic: Traffic
) -> Callable[[bytes, _Context], Awaitable[None]]:
    line = _CallLine(service, method.name, logging.DEBUG if method.quiet else logging.INFO)
    open_here: set[anyio.CancelScope] = set()  # so that one method cannot starve another

    async def handle(raw: bytes, context: _Context) -> None:
        started = time.perf_counter()
        code, reason = "CANCELLED", ""
        scope = anyio.CancelScope()
        try:
            try:
                if traffic.closing:
                    raise Unavailable("the driver is shutting down")
                if len(open_here) >= traffic.max_streams:
                    raise ResourceExhausted("too many streams at once")
                traffic.streams.add(scope)
                open_here.add(scope)
                # At once: grpcio sends none before the first message, and a gateway waits for them
                # with its lease in hand (COMP-WATCH-04).
                await context.send_initial_metadata(())
                request = method.request.FromString(raw)
                with scope:
                    async with aclosing(method.answer(request)) as responses:
                        async for response in responses:
                            await context.write(_encoded(response))
                if scope.cancelled_caught:
                    raise Unavailable("the driver is shutting down")
                code = "OK"
                return
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the border
                status = _status(error)
            code, reason = status.code, bounded(status.message)
            await context.abort(_CODES[code], reason)
        finally:
            traffic.streams.discard(scope)
            open_here.discard(scope)
            line.write(code, None, started, reason)

    return handle


def _encoded(response: Message | bytes) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()


def _status(error: Exception | asyncio.CancelledError) -> DriverError:
    match error:
        case asyncio.CancelledError() if task_cancelled():
            raise error  # by its caller or the server's end; else grpcio would not answer at all
        case DriverError():
            return error if error.code in _CODES else DriverError(error.message)
        case TimeoutError():
            return DeadlineExceeded("the driver did not finish in time")
        case DecodeError():
            return InvalidArgument("the request is not a message of this method")
        case _:
            fault = describe(error)  # in the message too: pytest shows no extra fields
            _log.error("unexpected error in a call: %s", fault, extra={"fault": fault})
            return Internal(_INTERNAL)


def bounded(message: str) -> str:
    """Cut a status message to what every client can receive, without control characters."""
    text = printable(message, _LONGEST_STATUS)
    raw = text.encode("utf-8", "replace")
    if len(raw) <= _LONGEST_STATUS:
        return text
    return raw[: _LONGEST_STATUS - 3].decode("utf-8", "ignore") + "..."


class _CallLine:
    """The one log line of a call: method, what it is about, status, reason, milliseconds."""

    def __init__(self, service: str, method: str, level: int) -> None:
        self._level = level
        self._extra = {"service": service, "method": method}

    def write(self, code: str, subject: str | None, started: float, reason: str) -> None:
        if _log.isEnabledFor(self._level):
            extra: dict[str, object] = {**self._extra, "code": code}
            if subject is not None:
                extra["subject"] = subject
            if reason:
                extra["reason"] = reason
            extra["ms"] = round((time.perf_counter() - started) * 1000, 3)
            record = line_record(_log, self._level, extra)
            _log.handle(record)
