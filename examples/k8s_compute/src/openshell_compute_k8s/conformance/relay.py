"""A relay before the API server, for one process of the driver: shut, slow, or open.

``python -m openshell_compute_k8s.conformance.relay FOLDER HOST PORT`` writes its own port to
``FOLDER/relay.port`` and obeys ``FOLDER/relay.json``: ``{"shut": bool, "delay": seconds, "end":
bool}``. It ends when it is told to, or the folder is gone. Shut, it refuses and breaks every
connection, so it is an outage of the network; nothing is known of what was sent. The delay is for
each request, not for TLS's greeting.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any, Final

_LOOK: Final = 0.03
_CHUNK: Final = 2**16


class Relay:
    """Passes bytes on, as long as it may."""

    def __init__(self, folder: Path, host: str, port: int) -> None:
        self._folder = folder
        self._target = (host, port)
        self._order: dict[str, Any] = {}
        self._open: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Relay until the folder is gone."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        part = self._folder / "relay.port.part"
        part.write_text(str(port))
        part.rename(self._folder / "relay.port")
        async with server:
            while self._folder.is_dir() and not self._order.get("end"):
                self._look()
                await asyncio.sleep(_LOOK)

    def _look(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            order = json.loads((self._folder / "relay.json").read_text())
            if order != self._order:
                self._order = order
                (self._folder / "relay.seen").write_text(json.dumps(order))
        if self._order.get("shut"):
            for writer in list(self._open):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._order.get("shut"):
            writer.transport.abort()
            return
        try:
            there = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, there[1]}
        turns = _Turns()
        try:
            await asyncio.gather(
                self._pass_on(reader, there[1], turns), self._pass_back(there[0], writer, turns)
            )
        finally:
            for each in (writer, there[1]):
                self._open.discard(each)
                each.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, turns: _Turns
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if turns.asks() and self._order.get("delay"):
                    await asyncio.sleep(self._order["delay"])
                writer.write(data)
                await writer.drain()
            writer.transport.abort()

    async def _pass_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, turns: _Turns
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                turns.answers()
                writer.write(data)
                await writer.drain()
            writer.transport.abort()


class _Turns:
    """Whose turn it is on a connection: the first to speak only greets."""

    def __init__(self) -> None:
        self._answered = False

    def asks(self) -> bool:
        """Whether what comes now begins a request."""
        begins, self._answered = self._answered, False
        return begins

    def answers(self) -> None:
        """Take that the server speaks."""
        self._answered = True


if __name__ == "__main__":
    asyncio.run(Relay(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])).run())
