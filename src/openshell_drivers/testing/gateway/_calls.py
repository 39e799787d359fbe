"""`Calls`: one service of a driver, called as a gateway calls it.

Requests and answers are cut down to the line's revision, an answer that it could not read is
INTERNAL, and there is a deadline only where the line has one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, TypeVar

import anyio
import grpc
from anyio.lowlevel import checkpoint_if_cancelled
from google.protobuf.message import DecodeError, Message
from grpc import aio

from openshell_drivers.errors import DeadlineExceeded, DriverError, Internal, error_for
from openshell_drivers.testing.gateway._preset import Preset
from openshell_drivers.testing.gateway._tongue import Tongue

_BEHIND: Final = 0.5

AnswerT = TypeVar("AnswerT", bound=Message)
_Unary: TypeAlias = "aio.UnaryUnaryMultiCallable[bytes, bytes]"
_Stream: TypeAlias = "aio.UnaryStreamMultiCallable[bytes, bytes]"
_Metadata: TypeAlias = tuple[tuple[str, str], ...] | None

_NOT_THERE: Final = "failed to connect to all addresses"


class Calls:
    """Calls the methods of one service over a channel."""

    def __init__(
        self,
        channel: aio.Channel,
        service: str,
        preset: Preset,
        *,
        timeout: float | None = None,
        trace: bool = False,
    ) -> None:
        self._channel = channel
        self._service = service
        self._tongue = Tongue(preset.revision)
        self._timeout = timeout
        # Beside the deadline that travels, and behind it: cancelled at the same moment, grpcio
        # raises a cancellation of its own that nobody has asked for.
        self._patience = None if timeout is None else timeout + _BEHIND
        self._trace = trace and preset.traces

    async def ask(self, method: str, request: Message, answer: type[AnswerT]) -> AnswerT:
        """Call a method. Raises the `DriverError` of the answer's status."""
        call: _Unary = self._channel.unary_unary(f"/{self._service}/{method}")
        raw = self._tongue.say(request).SerializeToString()
        try:
            with anyio.fail_after(self._patience):
                data = await call(raw, timeout=self._timeout, metadata=self._metadata())
        except grpc.RpcError as error:
            raise _translate(error) from None  # its text repeats metadata and peer
        except TimeoutError:
            raise DeadlineExceeded("the driver did not answer in time") from None
        except asyncio.CancelledError:
            await checkpoint_if_cancelled()  # grpcio's own is not known to anyio's scopes
            raise
        return self._read(data, answer)

    @asynccontextmanager
    async def opened(
        self, method: str, request: Message, answer: type[AnswerT]
    ) -> AsyncIterator[Callable[[], Awaitable[AnswerT | None]]]:
        """Open a stream, once its headers have come; closed at once on leaving.

        What it gives reads the next answer, or None when the driver has ended the stream.
        """
        multi: _Stream = self._channel.unary_stream(f"/{self._service}/{method}")
        call = multi(self._tongue.say(request).SerializeToString(), metadata=self._metadata())

        async def read() -> AnswerT | None:
            try:
                data = await call.read()
            except asyncio.CancelledError:
                await checkpoint_if_cancelled()
                raise
            return self._read(data, answer) if isinstance(data, bytes) else None

        try:
            await call.initial_metadata()
            yield read
        except grpc.RpcError as error:
            raise _translate(error) from None
        finally:
            call.cancel()

    def _read(self, data: bytes, answer: type[AnswerT]) -> AnswerT:
        try:
            return self._tongue.hear(answer.FromString(data))
        except DecodeError:
            raise Internal("the driver's answer cannot be read") from None

    def _metadata(self) -> _Metadata:
        if not self._trace:
            return None
        return (("traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"),)


def _translate(error: grpc.RpcError) -> DriverError:
    if not isinstance(error, aio.AioRpcError):
        return error_for("UNKNOWN", "the call failed")
    told = error.details() or error.code().name
    if told.startswith(_NOT_THERE):  # what follows says the same again, with the path twice
        told = "the driver cannot be reached"
    return error_for(error.code().name, told)
