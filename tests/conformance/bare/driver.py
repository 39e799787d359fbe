"""`Driver`: all parts of the driver, put together. Faults change it before it serves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from tests.conformance.bare.calls import Calls
from tests.conformance.bare.compute import Compute
from tests.conformance.bare.credentials import Credentials
from tests.conformance.bare.errors import CannotServe
from tests.conformance.bare.hub import Hub
from tests.conformance.bare.issuer import Issuer
from tests.conformance.bare.ledger import MEMORY, Ledger
from tests.conformance.bare.logs import Log
from tests.conformance.bare.observer import Observer
from tests.conformance.bare.platform import Platform
from tests.conformance.bare.relay import Relay
from tests.conformance.bare.snapshots import Snapshots
from tests.conformance.bare.sockets import SocketPlace
from tests.conformance.bare.store import Store
from tests.conformance.bare.switch import Switch
from tests.conformance.bare.vault import Vault


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    socket: Path
    state: Path | None = None
    switch: Path | None = None
    services: Sequence[str] = ("compute", "credentials", "store")
    ready_seconds: float = 0.05
    unknown: Sequence[str] = ()
    """Arguments that nobody knows."""


class Driver:
    """The parts, by name, and the life of the process."""

    drain_seconds = 8.0
    """Seconds that calls have to finish after SIGTERM (COMP-SOCK-07)."""

    healthy = True
    """Whether there is a health service."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.log = Log()
        self.switch = Switch(options.switch)
        self.ledger = Ledger(MEMORY if options.state is None else str(options.state.absolute()))
        self.platform = Platform(self.ledger, self.switch)
        self.platform.resources.ready_seconds = options.ready_seconds
        self.snapshots = Snapshots()
        self.hub = Hub()
        self.observer = Observer(self.platform, self.hub, self.snapshots)
        self.compute = Compute(self.observer)
        self.credentials = Credentials(Issuer(self.ledger, self.switch))
        self.store = Store(Vault(self.ledger, self.switch))
        self.calls = Calls(self.log)
        self.socket = SocketPlace(options.socket)
        self.relay = Relay()
        self.stopping = asyncio.Event()
        self.server: aio.Server | None = None

    def judge_options(self) -> None:
        """Refuse what is not known; only options are named, not their values."""
        names = [each.partition("=")[0] for each in self.options.unknown if each.startswith("-")]
        if self.options.unknown:
            raise CannotServe(f"unknown arguments: {' '.join(names)}")

    def listen_to_signals(self) -> None:
        """Let SIGTERM and SIGINT end the process in order."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)

    def bind(self) -> aio.Server:
        """Bind where nobody sees it."""
        address = self.socket.claim()
        server = aio.server(options=[("grpc.so_reuseport", 0)])
        for key in self.options.services:
            implementation = getattr(self, key)
            handler = self.calls.handler(implementation.messages, implementation)
            server.add_generic_rpc_handlers((handler,))
        if self.healthy:
            server.add_generic_rpc_handlers((self.health(),))
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            raise CannotServe(f"cannot bind {self.socket.path}")
        return server

    def health(self) -> grpc.GenericRpcHandler:
        """The standard health service: SERVING until the end."""

        async def check(_raw: bytes, _context: object) -> bytes:
            return b"\x08\x02" if self.stopping.is_set() else b"\x08\x01"

        handlers: dict[str, Any] = {"Check": grpc.unary_unary_rpc_method_handler(check)}
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)

    async def run(self) -> None:
        """Serve until a signal; raises `CannotServe`."""
        self.judge_options()
        self.listen_to_signals()
        try:
            self.server = self.bind()
            work = [asyncio.create_task(each.run()) for each in (self.platform, self.observer)]
            await self.server.start()
            await self.relay.listen(self.socket.before, self.socket.behind)
            self.socket.publish()
            self.log.info("serving", socket=str(self.socket.path))
            await self.until_told(work)
            await self.drain()
            await self.end(work)
        finally:
            self.socket.withdraw()
        self.log.info("ended")

    async def until_told(self, work: list[asyncio.Task[None]]) -> None:
        """Wait for a signal; if the work behind the calls ends, so does the process."""
        told = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({told, *work}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()

    async def drain(self) -> None:
        """Refuse what comes, end the watches, let calls finish."""
        self.log.info("ending")
        self.calls.closing = True
        self.hub.close()
        if self.server is not None:
            await self.server.stop(self.drain_seconds)
        await self.relay.close()

    async def end(self, work: list[asyncio.Task[None]]) -> None:
        """End everything else; an error in it is the process's."""
        await self.credentials.cache.close()
        for each in work:
            if each.done():
                each.result()
            each.cancel()
        for each in work:
            with suppress(asyncio.CancelledError):
                await each
        self.ledger.close()
