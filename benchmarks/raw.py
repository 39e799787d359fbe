"""A gRPC client of its own: HTTP/2 frames on a Unix socket, one connection, one method.

It costs a few microseconds a call, where grpcio's costs more than the servers it would measure, and
it needs no grpcio to be imported. Answers are told from errors by having a message; statuses are
not read.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.frames import (
    CHUNK,
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    HEAD,
    HEADERS,
    MESSAGE,
    RESET,
    WINDOW,
    WINDOW_UPDATE,
    ConnectionLost,
    header_blocks,
    opening,
    reply,
    request,
    window_update,
)

RESOLVE: Final = "/openshell.credentials.v1.CredentialsDriver/ResolveCredential"
LIST: Final = "/openshell.credentials.v1.CredentialsDriver/ListCredentials"

_WIDEST: Final = 2**31 - 1
_TOPPED_UP: Final = 2**30


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
        self._first, self._again = header_blocks(method, deadline)
        self._stream = -1
        self._received = b""
        self._messages: dict[int, bytes | bytearray] = {}
        self._may_send = DEFAULT_WINDOW
        self._may_receive = _TOPPED_UP
        self._socket.sendall(opening(_WIDEST, _TOPPED_UP))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def call(self, body: bytes, *, timeout: float = 10.0) -> bytes | None:
        """Make one call and give the answer's message; None if it was only a status."""
        self._socket.settimeout(timeout)
        self.send([body])
        while not (answers := self.receive()):
            pass
        return answers[0].message

    def load(self, bodies: Iterator[bytes], *, in_flight: int, seconds: float) -> Load:
        """Keep calls under way for some seconds, and wait for the last of them."""
        self._socket.settimeout(10.0)
        latencies: list[float] = []
        failed = 0
        began = time.perf_counter()
        started = dict.fromkeys(self.send([*islice(bodies, in_flight)]), began)
        while started:
            answers = self.receive()
            now = time.perf_counter()
            for answer in answers:
                latencies.append(now - started.pop(answer.stream))
                failed += answer.message is None
            if answers and now - began < seconds:
                started.update(dict.fromkeys(self.send([*islice(bodies, len(answers))]), now))
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
            self._may_send -= MESSAGE.size + len(body)
            out.append(request(self._stream, block, body))
            streams.append(self._stream)
        if self._may_send < 0:
            raise ConnectionLost("the server's window is full")
        self._socket.sendall(b"".join(out))
        return streams

    def receive(self) -> list[Answer]:
        """Wait for some bytes and give the calls that they end. Raises `TimeoutError`."""
        chunk = self._socket.recv(CHUNK)
        if not chunk:
            raise ConnectionLost("closed by the server")
        buffer = self._received + chunk
        at, ended = 0, []
        while len(buffer) - at >= HEAD.size:
            high, low, kind, flags, stream = HEAD.unpack_from(buffer, at)
            end = at + HEAD.size + (high << 16 | low)
            if len(buffer) < end:
                break
            payload = buffer[at + HEAD.size : end]
            at = end
            if kind == DATA:
                self._take(stream, payload)
            elif kind not in {HEADERS, RESET}:
                self._serve(kind, flags, stream, payload)
            if stream and (kind == RESET or (kind in {DATA, HEADERS} and flags & END_STREAM)):
                ended.append(Answer(stream, self._message(stream)))
        self._received = buffer[at:]
        return ended

    def _message(self, stream: int) -> bytes | None:
        message = self._messages.pop(stream, None)
        return bytes(message) if isinstance(message, bytearray) else message

    def _take(self, stream: int, payload: bytes) -> None:
        before = self._messages.get(stream)
        if before is None:
            self._messages[stream] = payload[MESSAGE.size :]
        elif isinstance(before, bytearray):
            before += payload
        else:
            self._messages[stream] = bytearray(before + payload)
        self._may_receive -= len(payload)
        if self._may_receive < _TOPPED_UP // 2:
            self._socket.sendall(window_update(0, _TOPPED_UP - self._may_receive))
            self._may_receive = _TOPPED_UP

    def _serve(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._may_send += WINDOW.unpack(payload)[0] if stream == 0 else 0
        elif answer := reply(kind, flags, payload):
            self._socket.sendall(answer)
