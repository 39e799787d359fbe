"""A reader of one gRPC stream that costs a few microseconds a message, with ordinary windows.

Like a gateway's it gives the server room for 2 MiB, and again whenever half of it is used; one that
does not read gives none. Messages are counted and looked for a mark, not decoded.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
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
    ConnectionLost,
    header_blocks,
    opening,
    reply,
    request,
    window_update,
)

_WINDOW: Final = 2 * 1024 * 1024
_STREAM: Final = 1
_GATHER_SECONDS: Final = 0.001
"""Between two reads: to wake up for every message would cost as much as it costs to send it."""


class Watcher:
    """One connection with one call that streams. Raises `OSError` if it cannot be dialled."""

    def __init__(self, path: Path, method: str) -> None:
        self.messages = 0
        self.bytes = 0
        """Of the messages, without what is around them."""
        self._unread = _WINDOW
        self._frames = b""
        self._data = b""
        self._mark = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(30.0)
            self._socket.connect(str(path))
            self._socket.sendall(opening(_WINDOW, _WINDOW - DEFAULT_WINDOW))
            self._socket.sendall(request(_STREAM, header_blocks(method)[0], b""))
        except OSError:
            self._socket.close()
            raise

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

    def look_for(self, mark: bytes) -> None:
        """Have `read` say when a message with these bytes has come. Counts begin anew."""
        self._mark = mark
        self.messages = self.bytes = 0

    def read(self) -> bool:
        """Take the bytes that are there; True if the mark was among them.

        Raises `ConnectionLost` at the end of the stream.
        """
        chunk = self._socket.recv(CHUNK)
        if not chunk:
            raise ConnectionLost("closed by the server")
        buffer = self._frames + chunk
        at, payloads = 0, [self._data]
        while len(buffer) - at >= HEAD.size:
            high, low, kind, flags, _ = HEAD.unpack_from(buffer, at)
            size = high << 16 | low
            end = at + HEAD.size + size
            if len(buffer) < end:
                break
            if kind == DATA:
                payloads.append(buffer[at + HEAD.size : end])
                self._unread -= size
            else:
                self._serve(kind, flags, buffer[at + HEAD.size : end])
            at = end
        self._frames = buffer[at:]
        if self._unread < _WINDOW // 2:
            more = _WINDOW - self._unread
            self._socket.sendall(window_update(0, more) + window_update(_STREAM, more))
            self._unread = _WINDOW
        return self._count(b"".join(payloads))

    def _count(self, data: bytes) -> bool:
        at = 0
        while len(data) - at >= MESSAGE.size:
            _, size = MESSAGE.unpack_from(data, at)
            if len(data) - at < MESSAGE.size + size:
                break
            at += MESSAGE.size + size
            self.messages += 1
            self.bytes += size
        self._data = data[at:]
        return data.find(self._mark, 0, at) >= 0

    def _serve(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == RESET or (kind == HEADERS and flags & END_STREAM):
            raise ConnectionLost("the server ended the stream")
        if kind != HEADERS and (answer := reply(kind, flags, payload)):
            self._socket.sendall(answer)


def read_all(watchers: Sequence[Watcher], limit: float = 120.0) -> float:
    """Read until each has seen its mark; give the seconds. Raises `TimeoutError`."""
    began = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for watcher in watchers:
            selector.register(watcher, selectors.EVENT_READ, watcher)
        while selector.get_map():
            ready = selector.select(5.0)
            if not ready or time.perf_counter() - began > limit:
                raise TimeoutError("a watcher did not get what it waits for")
            for key, _ in ready:
                if key.data.read():
                    selector.unregister(key.fileobj)
            time.sleep(_GATHER_SECONDS)
    return time.perf_counter() - began
