"""A gRPC client of its own: HTTP/2 frames on a Unix socket, one connection, one method.

It costs a few microseconds a call, where grpcio's costs more than the servers it would measure, and
it needs no grpcio to be imported. Headers are compressed as real clients do: literal once, indexed
ever after. Answers are told from errors by having a message; statuses are not read.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

RESOLVE: Final = "/openshell.credentials.v1.CredentialsDriver/ResolveCredential"
LIST: Final = "/openshell.credentials.v1.CredentialsDriver/ListCredentials"

_HEAD: Final = struct.Struct(">BHBBL")  # length in 24 bits, type, flags, stream
_MESSAGE: Final = struct.Struct(">BL")  # compressed or not, length
_SETTING: Final = struct.Struct(">HL")
_WINDOW: Final = struct.Struct(">L")
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW: Final = 4
_WIDEST: Final = 2**31 - 1
_TOPPED_UP: Final = 2**30
_FIRST_DYNAMIC: Final = 62
_CHUNK: Final = 1 << 18


class ConnectionLost(Exception):
    """The server closed the connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back on a stream; `message` is None if it was only a status."""

    stream: int
    message: bytes | None


@dataclass(frozen=True, slots=True)
class Load:
    """What a closed loop saw: every call's seconds, and how long it all took."""

    latencies: list[float]
    seconds: float
    failed: int

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


class RawClient:
    """One connection to a driver, calling one method. Raises `OSError` if it cannot be dialled."""

    def __init__(self, path: Path, method: str, *, deadline: str | None = None) -> None:
        """`deadline` is sent as ``grpc-timeout``, for instance ``30S``."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._first, self._again = _header_blocks(method, deadline)
        self._stream = -1
        self._received = b""
        self._messages: dict[int, bytes] = {}
        self._may_send = 65_535
        self._may_receive = _TOPPED_UP
        settings = _SETTING.pack(_INITIAL_WINDOW, _WIDEST)
        self._socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, settings)
            + _frame(_WINDOW_UPDATE, 0, 0, _WINDOW.pack(_TOPPED_UP))
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def call(self, body: bytes, *, timeout: float = 10.0) -> bytes | None:
        """Make one call and give the answer's message; None if it was only a status."""
        self._socket.settimeout(timeout)
        self.send([body])
        while not (answers := self.receive()):
            pass
        return answers[0].message

    def load(self, body: bytes, *, in_flight: int, seconds: float) -> Load:
        """Keep calls under way for some seconds, and wait for the last of them."""
        self._socket.settimeout(10.0)
        latencies: list[float] = []
        failed = 0
        began = time.perf_counter()
        started = dict.fromkeys(self.send([body] * in_flight), began)
        while started:
            answers = self.receive()
            now = time.perf_counter()
            for answer in answers:
                latencies.append(now - started.pop(answer.stream))
                failed += answer.message is None
            if answers and now - began < seconds:
                started.update(dict.fromkeys(self.send([body] * len(answers)), now))
        return Load(latencies, time.perf_counter() - began, failed)

    def burst(self, bodies: Sequence[bytes], *, wait_for: set[int]) -> dict[int, float]:
        """Make all calls at once; give the seconds of those with an index in `wait_for`."""
        self._socket.settimeout(30.0)
        began = time.perf_counter()
        index_of = dict(zip(self.send(bodies), range(len(bodies)), strict=True))
        seconds: dict[int, float] = {}
        while len(seconds) < len(wait_for):
            answers = self.receive()
            now = time.perf_counter()
            for answer in answers:
                index = index_of[answer.stream]
                if index in wait_for:
                    seconds[index] = now - began if answer.message is not None else float("inf")
        return seconds

    def send(self, bodies: Sequence[bytes]) -> list[int]:
        """Send requests in one write; give their streams."""
        out: list[bytes] = []
        streams: list[int] = []
        for body in bodies:
            self._stream += 2
            block = self._first if self._stream == 1 else self._again
            message = _MESSAGE.pack(0, len(body)) + body
            self._may_send -= len(message)
            out.append(_frame(_HEADERS, _END_HEADERS, self._stream, block))
            out.append(_frame(_DATA, _END_STREAM, self._stream, message))
            streams.append(self._stream)
        if self._may_send < 0:
            raise ConnectionLost("the server's window is full")
        self._socket.sendall(b"".join(out))
        return streams

    def receive(self) -> list[Answer]:
        """Wait for some bytes and give the calls that they end. Raises `TimeoutError`."""
        chunk = self._socket.recv(_CHUNK)
        if not chunk:
            raise ConnectionLost("closed by the server")
        buffer = self._received + chunk
        at, ended = 0, []
        while len(buffer) - at >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(buffer, at)
            end = at + _HEAD.size + (high << 16 | low)
            if len(buffer) < end:
                break
            payload = buffer[at + _HEAD.size : end]
            at = end
            if kind == _DATA:
                self._take(stream, payload)
            elif kind not in {_HEADERS, _RESET}:
                self._serve(kind, flags, stream, payload)
            if stream and (kind == _RESET or (kind in {_DATA, _HEADERS} and flags & _END_STREAM)):
                ended.append(Answer(stream, self._messages.pop(stream, None)))
        self._received = buffer[at:]
        return ended

    def _take(self, stream: int, payload: bytes) -> None:
        before = self._messages.get(stream)
        self._messages[stream] = payload[_MESSAGE.size :] if before is None else before + payload
        self._may_receive -= len(payload)
        if self._may_receive < _TOPPED_UP // 2:
            used = _TOPPED_UP - self._may_receive
            self._may_receive = _TOPPED_UP
            self._socket.sendall(_frame(_WINDOW_UPDATE, 0, 0, _WINDOW.pack(used)))

    def _serve(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._may_send += _WINDOW.unpack(payload)[0]
        elif kind == _GOAWAY:
            raise ConnectionLost("the server goes away")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(0, len(payload), kind, flags, stream) + payload


def _header_blocks(method: str, deadline: str | None) -> tuple[bytes, bytes]:
    """Encode the headers for the first call and for those after it (RFC 7541 6.1, 6.2.1)."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "benchmarks",
    }
    if deadline is not None:
        headers["grpc-timeout"] = deadline
    first = b"".join(b"\x40" + _text(name) + _text(value) for name, value in headers.items())
    again = bytes(0x80 | _FIRST_DYNAMIC + age for age in reversed(range(len(headers))))
    return first, again


def _text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode("ascii")
