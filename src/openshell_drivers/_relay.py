"""The strict-peer relay: accept, ask the kernel who is calling, and only then pass bytes on.

grpcio has no accept hook and tells nobody a peer's credentials, so the check stands in front of it.
Knows nothing of gRPC.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

import anyio

from openshell_drivers._faults import describe

_log: Final = logging.getLogger("openshell_drivers.socket")
_UCRED: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)
_BACKLOG: Final = 128
_LAST_BYTES_SECONDS: Final = 1.0


def peer_uid(connection: socket.socket) -> int:
    """Ask the kernel for the user of the process that connected."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(raw)[1])


class _Half(asyncio.Protocol):
    """One end of a relayed connection: what it reads, the other end writes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Half | None = None
        self._early = b""

    def join(self, other: _Half) -> None:
        """Relay to the other end from now on, beginning with what has come already."""
        self.other = other
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)
        else:
            # The server speaks first, and an older 3.11 reads once more after pause_reading.
            self._early += data

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Outer(_Half):
    """The end that faces the peer. Reads nothing before the peer is known and the way is open."""

    def __init__(self, relay: _Relay) -> None:
        super().__init__()
        self._relay = relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        uid = peer_uid(connection)
        if uid not in self._relay.allowed:
            self._relay.refuse(uid)
            cast("asyncio.Transport", transport).abort()
            return
        cast("asyncio.Transport", transport).pause_reading()
        self._relay.open(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._relay.closed(self)


class _Relay:
    def __init__(self, target: str, allowed: frozenset[int]) -> None:
        self.allowed = allowed
        self.opened: set[_Outer] = set()
        self._refused: set[int] = set()
        self._target = target
        self._dialling: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()

    def refuse(self, uid: int) -> None:
        # Aloud once a user: who is not let in shall not fill the log either.
        level = logging.DEBUG if uid in self._refused else logging.WARNING
        self._refused.add(uid)
        _log.log(level, "peer refused", extra={"peer_uid": uid})

    def open(self, outer: _Outer) -> None:
        self.opened.add(outer)
        task = asyncio.get_running_loop().create_task(self._dial(outer))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    def closed(self, outer: _Outer) -> None:
        self.opened.discard(outer)
        if not self.opened:
            self._empty.set()

    async def _dial(self, outer: _Outer) -> None:
        assert outer.transport is not None  # noqa: S101  # set by connection_made, for the checker
        loop = asyncio.get_running_loop()
        try:
            _, inner = await loop.create_unix_connection(_Half, self._target)
        except OSError as error:
            _log.warning("connection not relayed", extra={"fault": describe(error)})
            outer.transport.abort()
            return
        if outer.transport.is_closing():
            if inner.transport is not None:
                inner.transport.abort()
            return
        outer.join(inner)
        inner.join(outer)
        outer.transport.resume_reading()

    async def close(self) -> None:
        for task in list(self._dialling):
            task.cancel()
        if self.opened:
            # The server has closed its ends: what it sent last is still on its way to the peers.
            self._empty.clear()
            with anyio.move_on_after(_LAST_BYTES_SECONDS, shield=True):
                await self._empty.wait()
        for outer in list(self.opened):
            if outer.transport is not None:
                outer.transport.abort()
        await asyncio.gather(*self._dialling, return_exceptions=True)


@asynccontextmanager
async def relaying(bind_path: str, target: str, allowed: frozenset[int]) -> AsyncIterator[None]:
    """Listen at `bind_path` and relay the connections of the allowed users to `target`.

    A connection of anybody else is closed before one byte of it is read.
    """
    relay = _Relay(target, allowed)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind(bind_path)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: _Outer(relay), sock=listener, backlog=_BACKLOG)
    try:
        yield
    finally:
        server.close()
        await relay.close()
