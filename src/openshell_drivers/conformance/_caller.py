"""`Caller`: one service of a driver, called as a gateway of one line calls it; every call is kept.

Unlike the gateway model it keeps whatever came: the code, the bytes, the time it took.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from grpc import aio

from openshell_drivers.conformance.report.model import Exchange
from openshell_drivers.testing.gateway import Preset
from openshell_drivers.testing.gateway._tongue import Tongue

AnswerT = TypeVar("AnswerT", bound=Message)
_Unary: TypeAlias = "aio.UnaryUnaryMultiCallable[bytes, bytes]"
_Stream: TypeAlias = "aio.UnaryStreamMultiCallable[bytes, bytes]"
_Open: TypeAlias = "aio.UnaryStreamCall[bytes, bytes]"

#: Seconds after which an answer is no longer waited for. No gateway has such a limit for compute.
PATIENCE: Final = 30.0
#: Codes of our own: no answer in time, and one that is no message of the kind.
SILENT: Final = "NO_ANSWER"
UNREADABLE: Final = "UNREADABLE"
_LONGEST: Final = 600
_KEPT: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Generic[AnswerT]):
    """How one call ended."""

    rpc: str
    code: str
    """The status code by name, `SILENT` or `UNREADABLE`."""
    text: str
    """The status message."""
    answer: AnswerT
    """Empty unless the code is OK. All of the superset: `heard` is what the line reads."""
    raw: bytes
    seconds: float
    trailers: str = ""
    """What came with an error beyond its message."""

    @property
    def ok(self) -> bool:
        """Whether the driver answered OK."""
        return self.code == "OK"

    def __str__(self) -> str:
        said = f" {self.text[:200]!r}" if self.text else ""
        return f"{self.rpc}: {self.code}{said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call as it was; written out only where a report needs it."""

    rpc: str
    request: Message | bytes
    code: str
    said: Message | str
    milliseconds: float
    at: float

    def same(self, other: Call) -> bool:
        """Whether the same was asked and answered."""
        return (self.rpc, self.code) == (other.rpc, other.code) and (
            self.request == other.request and self.said == other.said
        )


@dataclass(slots=True)
class Transcript:
    """The newest calls of one check. Of many that are the same in a row, the first and the last."""

    clean: Callable[[str], str]
    began: float = field(default_factory=time.monotonic)
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=_KEPT))
    ended: bool = False

    def add(
        self, rpc: str, request: Message | bytes, code: str, said: Message | str, seconds: float
    ) -> None:
        """Keep a call."""
        if self.ended:
            return
        call = Call(
            rpc=rpc,
            request=request,
            code=code,
            said=said,
            milliseconds=round(seconds * 1000, 1),
            at=round(time.monotonic() - self.began - seconds, 3),
        )
        if len(self.calls) > 1 and call.same(self.calls[-1]) and call.same(self.calls[-2]):
            self.calls[-1] = call
        else:
            self.calls.append(call)

    def end(self) -> None:
        """Keep no more: the check is over, and what it made is removed."""
        self.ended = True

    def note(self, rpc: str, what: Message | str) -> None:
        """Keep something that is no call: a kill, a restart, an outage, an event."""
        self.add(rpc, b"", "", what, 0)

    def exchanges(self) -> list[Exchange]:
        """Write them out, without their secrets."""
        return [
            Exchange(
                rpc=call.rpc,
                request=self._shown(call.request),
                code=call.code,
                message=self._shown(call.said),
                milliseconds=call.milliseconds,
                at=call.at,
            )
            for call in self.calls
        ]

    def _shown(self, said: Message | bytes | str) -> str:
        if isinstance(said, bytes):
            return f"{len(said)} bytes" if said else ""
        text = said if isinstance(said, str) else _as_json(said)
        text = self.clean(text)
        return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _as_json(message: Message) -> str:
    try:
        shown = json_format.MessageToDict(message, preserving_proto_field_name=True)
        _count_bytes(message, shown)
        return json.dumps(shown, ensure_ascii=False)
    except Exception:  # noqa: BLE001  # an odd message must not end the check
        return f"{len(message.SerializeToString())} bytes"


def _count_bytes(message: Message, shown: Any) -> None:
    """Write how many there are in place of bytes: nobody reads Base64, and secrets are in it."""
    for part, value in message.ListFields():
        there = shown.get(part.name)
        if part.type == part.TYPE_BYTES:
            shown[part.name] = f"{len(value)} bytes"
        elif isinstance(value, Message) and isinstance(there, dict):
            _count_bytes(value, there)
        elif isinstance(there, list) and part.message_type is not None:
            for each, said in zip(value, there, strict=True):
                _count_bytes(each, said)


def channel_to(socket: Path, authority: str) -> aio.Channel:
    """Make a channel like a gateway's: one connection of its own, no retries, 4 MiB answers."""
    return aio.insecure_channel(
        f"unix:{quote(str(socket.absolute()))}",
        options=[
            ("grpc.default_authority", authority),
            ("grpc.max_receive_message_length", 4 * 1024 * 1024),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 20_000),
            ("grpc.max_reconnect_backoff_ms", 100),
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )


class Caller:
    """Calls the methods of one service over one channel."""

    def __init__(
        self, channel: aio.Channel, service: str, preset: Preset, transcript: Transcript
    ) -> None:
        self._channel = channel
        self._service = service
        self._tongue = Tongue(preset.revision)
        self._preset = preset
        self.transcript = transcript

    def cut(self, message: Message) -> None:
        """Cut a message down to what the line has, in place."""
        self._tongue.say(message)

    async def ask(
        self,
        method: str,
        request: Message,
        answer: type[AnswerT],
        *,
        deadline: float | None = None,
        patience: float = PATIENCE,
        whole: bool = False,
    ) -> Reply[AnswerT]:
        """Call a method with what the line has of the request (`whole`: with all of it).

        `deadline`, in seconds, travels to the driver; `patience` does not. Cancelling this cancels
        the call; a channel that closes under it is an answer with the code CANCELLED.
        """
        said = type(request)()
        said.CopyFrom(request)
        sent = said if whole else self._tongue.say(said)
        return await self._send(method, sent, sent.SerializeToString(), answer, deadline, patience)

    async def ask_raw(
        self, method: str, data: bytes, answer: type[AnswerT], *, patience: float = PATIENCE
    ) -> Reply[AnswerT]:
        """Call a method with bytes as they are."""
        return await self._send(method, data, data, answer, None, patience)

    async def _send(
        self,
        method: str,
        shown: Message | bytes,
        data: bytes,
        answer: type[AnswerT],
        deadline: float | None,
        patience: float,
    ) -> Reply[AnswerT]:
        multi: _Unary = self._channel.unary_unary(f"/{self._service}/{method}")
        began = time.monotonic()
        call = multi(data, timeout=deadline, metadata=self._metadata())
        raw, code, text, read, trailers = b"", "OK", "", answer(), ""
        try:
            raw = await _within(patience, call)
            read = answer.FromString(raw)
        except TimeoutError:
            code, text = SILENT, f"no answer in {patience:g} s"
        except _ClosedError:
            code, text = "CANCELLED", "the suite closed the channel"
        except DecodeError:
            code, text = UNREADABLE, f"{len(raw)} bytes that are no {answer.DESCRIPTOR.name}"
        except grpc.RpcError as error:
            code, text = _status(error)
            trailers = repr(error.trailing_metadata() if isinstance(error, aio.AioRpcError) else "")
        except asyncio.CancelledError:
            call.cancel()
            self.transcript.add(
                method, shown, "CANCELLED", "the suite went away", time.monotonic() - began
            )
            raise
        seconds = time.monotonic() - began
        self.transcript.add(method, shown, code, read if code == "OK" else text, seconds)
        return Reply(
            rpc=method,
            code=code,
            text=text,
            answer=read,
            raw=raw,
            seconds=seconds,
            trailers=trailers,
        )

    @asynccontextmanager
    async def stream(self, method: str, request: Message) -> AsyncIterator[_Open]:
        """Open a stream of raw answers; cancelled on leaving."""
        multi: _Stream = self._channel.unary_stream(f"/{self._service}/{method}")
        call = multi(self._tongue.say(request).SerializeToString(), metadata=self._metadata())
        self.transcript.note(method, "opened")
        try:
            yield call
        finally:
            call.cancel()

    def _metadata(self) -> tuple[tuple[str, str], ...] | None:
        if not self._preset.traces:
            return None
        return (("traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"),)


class _ClosedError(Exception):
    """A call was cancelled with its channel."""


async def _within(seconds: float, call: Awaitable[bytes]) -> bytes:
    """Await a call. Raises `TimeoutError`, and `_ClosedError` for a cancellation of grpcio's own:
    as a `CancelledError` it would end the caller as if somebody had cancelled that."""
    answer = asyncio.ensure_future(call)
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is looked at
    try:
        await asyncio.wait({answer}, timeout=seconds)
        late = not answer.done()
    finally:
        answer.cancel()
    await asyncio.wait({answer})
    if answer.cancelled():
        raise TimeoutError if late else _ClosedError
    return answer.result()


def _status(error: grpc.RpcError) -> tuple[str, str]:
    if isinstance(error, aio.AioRpcError):
        return error.code().name, error.details() or ""
    return "UNKNOWN", "the call failed"
