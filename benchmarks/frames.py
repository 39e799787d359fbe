"""The little of HTTP/2 that a gRPC client on a Unix socket needs (RFC 9113, RFC 7541).

Headers are compressed as real clients do: literal once, indexed ever after.
"""

from __future__ import annotations

import struct
from typing import Final

HEAD: Final = struct.Struct(">BHBBL")  # length in 24 bits, type, flags, stream
MESSAGE: Final = struct.Struct(">BL")  # compressed or not, length
WINDOW: Final = struct.Struct(">L")
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
DEFAULT_WINDOW: Final = 65_535
CHUNK: Final = 1 << 18

_SETTING: Final = struct.Struct(">HL")
_INITIAL_WINDOW: Final = 4
_FIRST_DYNAMIC: Final = 62


class ConnectionLost(Exception):
    """The server closed the connection."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return HEAD.pack(0, len(payload), kind, flags, stream) + payload


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, WINDOW.pack(size))


def opening(stream_window: int, more: int) -> bytes:
    """What a client says first: how much each stream may send it, and how much more all may."""
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(SETTINGS, 0, 0, _SETTING.pack(_INITIAL_WINDOW, stream_window))
        + window_update(0, more)
    )


def request(stream: int, block: bytes, body: bytes) -> bytes:
    """A call with one message, which is all that its caller sends."""
    message = MESSAGE.pack(0, len(body)) + body
    return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, message)


def reply(kind: int, flags: int, payload: bytes) -> bytes:
    """What has to be said to a frame of the connection; nothing to most."""
    if kind == GOAWAY:
        raise ConnectionLost("the server goes away")
    if flags & ACK or kind not in {SETTINGS, PING}:
        return b""
    return frame(kind, ACK, 0, payload if kind == PING else b"")


def header_blocks(method: str, deadline: str | None = None) -> tuple[bytes, bytes]:
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
