"""Whether a driver serves, asked with nothing but a socket.

An exec probe runs within the memory limit of the driver that it asks, and gRPC would take more
than some drivers do. So the one call that probes make is written out here, as RFC 9113 and the gRPC
protocol have it; whatever is not plainly "serving" is left to the real client, and its words.
"""

from __future__ import annotations

import errno
import socket
import time

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NOT_THERE_YET = {
    errno.ENOENT: "no socket yet",
    errno.ECONNREFUSED: "nobody listens on the socket yet",
    errno.EAGAIN: "the server does not accept yet",
}
"""Why nobody is at a socket, by the error number of a connection."""

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED = 0x4, 0x8
_SERVING = b"\x00\x00\x00\x00\x02\x08\x01"
_LARGEST = 16_384
_FRAMES = 100
_LOOK_AGAIN_SECONDS = 0.1
_ANSWER_SECONDS = 5.0
_SHORTEST = 127  # of a length in one byte, without Huffman


def serves(path: str, service: str = "", *, wait: float = 0.0) -> bool:
    """Whether the driver at a socket says that it serves. False for anything else, also for what
    only a real client can read.

    While there is nobody at the socket it waits, at most `wait` seconds. Raises `OSError` if there
    is nobody then, or the path cannot be dialled.
    """
    if len(service) > _SHORTEST:
        return False
    until = time.monotonic() + wait
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(_ANSWER_SECONDS)
            try:
                line.connect(path)
            except OSError as error:
                if error.errno not in NOT_THERE_YET or time.monotonic() >= until:
                    raise
            else:
                return _says_so(line, service.encode())
        time.sleep(_LOOK_AGAIN_SECONDS)


def _says_so(line: socket.socket, service: bytes) -> bool:
    try:
        line.sendall(_question(service))
        return _answer(line) == _SERVING
    except (OSError, ValueError):
        return False


def _question(service: bytes) -> bytes:
    """Write ``grpc.health.v1.Health/Check`` as stream 1."""
    message = b"\x0a" + bytes([len(service)]) + service if service else b""
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    headers = (
        b"\x83\x86"  # :method POST, :scheme http
        + b"\x04" + _text(b"/grpc.health.v1.Health/Check")
        + b"\x01" + _text(b"localhost")
        + b"\x0f\x10" + _text(b"application/grpc")
        + b"\x00" + _text(b"te") + _text(b"trailers")
    )  # fmt: skip
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, b"", stream=0)
        + _frame(_HEADERS, _END_HEADERS, headers)
        + _frame(_DATA, _END_STREAM, body)
    )


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value


def _frame(kind: int, flags: int, payload: bytes, *, stream: int = 1) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def _answer(line: socket.socket) -> bytes:
    """Read to the end of the stream; give the message, empty if there is none."""
    message, until = b"", time.monotonic() + _ANSWER_SECONDS
    for _ in range(_FRAMES):
        line.settimeout(max(0.001, until - time.monotonic()))
        head = _read(line, 9)
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        if size > _LARGEST:
            raise ValueError("not what was asked for")
        payload = _read(line, size)
        if kind in {_RST_STREAM, _GOAWAY}:
            break
        if kind in {_SETTINGS, _PING} and not flags & _ACK:
            line.sendall(_frame(kind, _ACK, payload if kind == _PING else b"", stream=0))
        elif kind == _DATA:
            message += _unpadded(payload) if flags & _PADDED else payload
        if kind in {_DATA, _HEADERS} and flags & _END_STREAM:
            return message
    return b""


def _unpadded(payload: bytes) -> bytes:
    if not payload:
        raise ValueError("no length of the padding")
    return payload[1 : len(payload) - payload[0]]


def _read(line: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = line.recv(size - len(parts))
        if not part:
            raise OSError("it hung up")
        parts += part
    return parts
