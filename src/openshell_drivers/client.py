"""Dial a driver: wait until it is there, then call it with domain types.

For gateways, probes, tests and tools, in asyncio (`connect`) or without (`connect_blocking`).
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, ParamSpec, TypeVar
from urllib.parse import quote

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from grpc import aio

from openshell_drivers._clients import Caller, CredentialsClient, CredentialStoreClient, StoredRef
from openshell_drivers._compute_client import ComputeClient
from openshell_drivers._probe import NOT_THERE_YET
from openshell_drivers._services.names import HEALTH
from openshell_drivers._wire.health_pb2 import HealthCheckRequest, HealthCheckResponse
from openshell_drivers.backoff import Backoff
from openshell_drivers.errors import DriverError, NotFound, Unavailable, Unimplemented

__all__ = [
    "BlockingConnection",
    "ComputeClient",
    "Connection",
    "CredentialStoreClient",
    "CredentialsClient",
    "StoredRef",
    "connect",
    "connect_blocking",
]

P = ParamSpec("P")
T = TypeVar("T")

_log: Final = logging.getLogger("openshell_drivers.client")
_WATCH_SECONDS: Final = 0.005
_SAY_EVERY: Final = 5.0
_ANSWER_SECONDS: Final = 1.0


class Connection:
    """A channel to a driver that has answered. Made by `connect`."""

    def __init__(self, channel: aio.Channel, *, timeout: float) -> None:
        self._caller = Caller(channel, timeout)
        self.compute = ComputeClient(self._caller)
        self.credentials = CredentialsClient(self._caller)
        self.credential_store = CredentialStoreClient(self._caller)

    async def is_serving(self, service: str = "") -> bool:
        """Ask the health service. A driver without one, but answering, counts as serving.

        Raises `NotFound` for a service it does not serve, or the `DriverError` of any other
        status.
        """
        try:
            response = await self._caller.unary(
                HEALTH, "Check", HealthCheckRequest(service=service), HealthCheckResponse
            )
        except Unimplemented:
            return True
        return response.status == HealthCheckResponse.SERVING


@asynccontextmanager
async def connect(
    path: Path | str,
    *,
    backoff: Backoff | None = None,
    timeout: float = 30.0,
    authority: str = "localhost",
) -> AsyncIterator[Connection]:
    """Connect to the driver at a socket, waiting for it to come up.

    Only "not there yet" is waited for: no socket, nobody listening, `UNAVAILABLE` or not serving.
    Anything else is raised at once: `OSError` for a path that cannot be dialled (no permission, not
    a socket, too long), the `DriverError` of any other answer. When the attempts of `backoff` (by
    default the gateways' 100, 100 ms apart) are used up, `Unavailable` says what was missing.
    While waiting, the path is watched, so a socket that appears is dialled within milliseconds.

    `timeout` is for each call, in seconds. `authority` goes into every request: the default that
    grpcio makes of a socket path is refused by servers written in Rust.
    """
    target = Path(path)
    channel = await _first_answer(target, backoff or Backoff(), authority)
    try:
        yield Connection(channel, timeout=timeout)
    finally:
        await channel.close()


async def _first_answer(path: Path, backoff: Backoff, authority: str) -> aio.Channel:
    started = said = time.monotonic()
    delays = _Delays(backoff)
    while True:
        seen = _identity(path)
        began = time.monotonic()
        channel, reason = await _attempt(path, authority)
        if channel is not None:
            return channel
        delay = delays.after(time.monotonic() - began)
        if delay is None:
            waited = time.monotonic() - started
            raise Unavailable(f"no driver at {str(path)!r} after {waited:.1f} s: {reason}")
        if time.monotonic() - said >= _SAY_EVERY or said == started:
            said = time.monotonic()
            _log.info("waiting for a driver", extra={"socket": str(path), "reason": reason})
        await _until_changed(path, seen, delay)


class _Delays:
    """The delays of a policy, from which the time that an attempt itself took is taken off."""

    def __init__(self, backoff: Backoff) -> None:
        self._delays = iter(backoff)

    def after(self, spent: float) -> float | None:
        """What is left to wait before the next attempt; None if there is none."""
        delay = next(self._delays, None)
        while delay is not None and 0 < delay <= spent:
            spent -= delay
            delay = next(self._delays, None)
        return delay


async def _until_changed(path: Path, seen: tuple[int, int] | None, limit: float) -> None:
    """Wait for the delay, or until another socket stands at the path."""
    with anyio.move_on_after(limit):
        # Polled, since inotify tells nothing about a mount of another kernel or a stale socket.
        while _identity(path) in {seen, None}:  # noqa: ASYNC110
            await anyio.sleep(_WATCH_SECONDS)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns


def _channel(path: Path, authority: str) -> aio.Channel:
    options = [
        ("grpc.default_authority", authority),
        # The floor that grpcio clamps to: it redials a restarted driver every 100 ms.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 20_000),  # no pause: the limit of one attempt
        ("grpc.max_reconnect_backoff_ms", 100),
        # Channels of one process to one path would share their connection and its back-off.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return aio.insecure_channel(f"unix:{quote(str(path.absolute()))}", options=options)


async def _attempt(path: Path, authority: str) -> tuple[aio.Channel | None, str]:
    reason = _dial(path)
    if reason is not None:
        return None, reason
    channel = _channel(path, authority)
    answered = False
    try:
        reason = await _ask_health(channel)
        answered = reason is None
    finally:
        if not answered:
            await channel.close()
    return (channel, "") if answered else (None, reason or "")


async def _ask_health(channel: aio.Channel) -> str | None:
    """Say why the driver is not there yet; None if it is."""
    try:
        serving = await Connection(channel, timeout=_ANSWER_SECONDS).is_serving()
    except NotFound:
        return None  # a health service that knows no whole: it has answered
    except DriverError as error:
        if error.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
            return f"it accepts the connection, but answers {error.code}"
        raise
    return None if serving else "it is not serving"


def _dial(path: Path) -> str | None:
    """Try a plain connection: None if it is accepted, why not if that may change."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno == errno.ECONNREFUSED and _is_no_socket(path):
                raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK), str(path)) from None
            if error.errno in NOT_THERE_YET:
                return NOT_THERE_YET[error.errno]
            if error.errno is None:  # Python's own, of a path that is too long
                raise
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
    return None


def _is_no_socket(path: Path) -> bool:
    # Linux refuses a connection to a regular file in the same words as one to a dead socket.
    try:
        return not stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:
        return False


class BlockingConnection:
    """A connection for code without an event loop. Made by `connect_blocking`."""

    def __init__(self, portal: BlockingPortal, connection: Connection) -> None:
        self._portal = portal
        self.compute = connection.compute
        self.credentials = connection.credentials
        self.credential_store = connection.credential_store
        self.is_serving = connection.is_serving

    def call(self, method: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a client's method and wait: ``c.call(c.credentials.resolve_credential, "x")``."""

        async def run() -> T:
            return await method(*args, **kwargs)

        return self._portal.call(run)


@contextmanager
def connect_blocking(
    path: Path | str,
    *,
    backoff: Backoff | None = None,
    timeout: float = 30.0,
    authority: str = "localhost",
) -> Iterator[BlockingConnection]:
    """Do what `connect` does, in a thread of its own."""
    opening = connect(path, backoff=backoff, timeout=timeout, authority=authority)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(opening) as connection,
    ):
        yield BlockingConnection(portal, connection)
