"""`Relay`: stands before grpcio, which has no accept hook, and asks the kernel who calls."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

_UCRED: Final = struct.Struct("iII")
_CHUNK: Final = 65_536


class Relay:
    """Passes bytes on for peers of the driver's own user (COMP-SOCK-06)."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, at: Path, behind: Path) -> None:
        """Serve at one path for the socket that is at the other one now, and stays there."""
        # Its name may go: a descriptor leads to the socket for as long as it is open.
        handle = os.open(behind, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer: socket.socket = writer.get_extra_info("socket")
            if not self.admits(self.uid(peer)):
                writer.close()
                return
            work = self._join(reader, writer, f"/proc/self/fd/{handle}")
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._server = await asyncio.start_unix_server(accept, at)

    def uid(self, peer: socket.socket) -> int:
        """The user of the process at the other end."""
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return int(_UCRED.unpack(raw)[1])

    def admits(self, uid: int) -> bool:
        return uid == os.geteuid()

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str
    ) -> None:
        try:
            inward, outward = await asyncio.open_unix_connection(path)
        except OSError:
            writer.close()
            return
        try:
            back = asyncio.create_task(self._copy(inward, writer))
            try:
                await self._copy(reader, outward, coming=True)
            finally:
                await asyncio.wait({back}, timeout=1.0)
                back.cancel()
        finally:
            writer.close()
            outward.close()

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, coming: bool = False
    ) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                if coming and not self.passes(data):
                    break
                target.write(data)
                await target.drain()
        with suppress(OSError):
            target.close()

    def passes(self, _data: bytes) -> bool:
        """Whether what a peer sent goes on."""
        return True

    async def close(self) -> None:
        """End it, and every connection."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
