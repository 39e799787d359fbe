"""A driver behind a socket: claim the path, enter its life, bind, publish, drain, leave.

Touches no signal and nothing else of the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
from grpc import aio

from openshell_drivers._faults import WrongType
from openshell_drivers._relay import relaying
from openshell_drivers._rpc import NotOffered, Service, Traffic, generic_handler
from openshell_drivers._services.health import Health
from openshell_drivers._socket import Claim, SocketPolicy, claim
from openshell_drivers._version import driver_version
from openshell_drivers.compute import ComputeDriver
from openshell_drivers.credential_store import CredentialStore
from openshell_drivers.credentials import CredentialsDriver
from openshell_drivers.driver import Driver
from openshell_drivers.errors import Unavailable

_log: Final = logging.getLogger("openshell_drivers.server")
_STREAM_GRACE: Final = 0.5
LAST_MARGIN: Final = 2.0
"""Seconds that stopping takes at most when nothing is under way any more."""
_LISTENER: Final = "s"
_RELAY: Final = "r"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """The limits of a server. Durations in seconds, sizes in bytes."""

    socket: SocketPolicy = field(default_factory=SocketPolicy)
    start_timeout: float = 10.0
    """To enter the driver's `lifespan`; a gateway of the kagenti line gives up dialling after 10 s
    (COMP-SOCK-03)."""
    call_timeout: float = 30.0
    """For a call whose caller set no deadline, as no gateway does on compute calls."""
    drain_timeout: float = 6.0
    """For calls under way after SIGTERM, and again for sending their answers. Where calls hang
    at a platform, the process ends within 10 s, undoing a create included (PROC-EXIT-02)."""
    stop_timeout: float = 2.5
    """To leave the driver's `lifespan`; one that hangs adds this to the 10 s."""
    max_calls: int = 1024
    """Calls under way; one more is refused with `RESOURCE_EXHAUSTED`. Streams do not count."""
    max_streams: int = 128
    """Streams open at a time."""
    max_message_bytes: int = 4 * 1024 * 1024
    """Of a message received or sent; 4 MiB is what gateways receive (COMP-SOCK-10)."""
    require_handshake: bool = False
    """Refuse gateways that send no metadata, as upstream's own drivers do (COMPAT01-05)."""
    reflection: bool = False
    """Serve gRPC reflection; needs the ``reflection`` extra."""

    def __post_init__(self) -> None:
        numbers = (
            *(self.start_timeout, self.call_timeout, self.drain_timeout, self.stop_timeout),
            *(self.max_calls, self.max_streams, self.max_message_bytes),
        )
        if not all(number > 0 for number in numbers):  # NaN is not above 0
            raise ValueError("limits must be positive")


def services_of(driver: Driver[Any], *, require_handshake: bool = False) -> list[Service]:
    """List the gRPC services that a driver's class implements. Raises `TypeError` for none."""
    services = []
    if isinstance(driver, CredentialsDriver):
        from openshell_drivers._services import credentials

        services.append(credentials.service(driver))
    if isinstance(driver, CredentialStore):
        from openshell_drivers._services import credential_store

        services.append(credential_store.service(driver, require_handshake=require_handshake))
    if isinstance(driver, ComputeDriver):
        from openshell_drivers._services import compute

        services.append(compute.service(driver, require_handshake=require_handshake))
    if not services:
        raise TypeError(f"{type(driver).__name__} implements no driver service")
    if not driver.name:
        raise TypeError(f"{type(driver).__name__} has no name")
    return services


class Running:
    """A server that is serving."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def hurry(self) -> None:
        """When it stops, do not wait for calls under way."""
        self._traffic.idle.set()


@asynccontextmanager
async def running(
    driver: Driver[Any], *, socket: Path | str, options: ServerOptions | None = None
) -> AsyncIterator[Running]:
    """Serve while the context is open, without touching signals. For tests and embedding.

    When it is entered, the socket is published and the driver answers. Raises `SocketError` if the
    path cannot be claimed, `Unavailable` if `lifespan` took too long, and whatever `lifespan`
    raised, and what was raised inside, a background task of the driver included: taken out of the
    group that a task group in `lifespan` makes of it, if it is alone in there.
    """
    try:
        async with _running(driver, Path(socket), options or ServerOptions()) as server:
            yield server
    except ExceptionGroup as group:
        raise _alone(group) from None


@asynccontextmanager
async def _running(
    driver: Driver[Any], socket: Path, options: ServerOptions
) -> AsyncIterator[Running]:
    services = services_of(driver, require_handshake=options.require_handshake)
    with claim(socket, options.socket) as place:
        async with _lifespan(driver, options):
            health = Health(service.name for service in services)
            traffic = Traffic(options.call_timeout, options.max_calls, options.max_streams)
            server = _bind(place, [*services, health.service()], traffic, options)
            async with AsyncExitStack() as stack:
                for service in services:
                    await stack.enter_async_context(service.life())
                if options.socket.allowed_uids is not None:  # left last: calls drain through it
                    ways = place.bind_path(_RELAY), place.bind_path(_LISTENER)
                    await stack.enter_async_context(relaying(*ways, options.socket.allowed_uids))
                stack.push_async_callback(_stop, server, traffic, health, options.drain_timeout)
                await server.start()
                place.publish(_LISTENER if options.socket.allowed_uids is None else _RELAY)
                health.set(True)
                _log.info(
                    "serving",
                    extra={
                        "driver": driver.name,
                        "version": driver_version(driver),
                        "socket": str(socket),
                        "services": " ".join(service.name for service in services),
                    },
                )
                yield Running(traffic)


@asynccontextmanager
async def _lifespan(driver: Driver[Any], options: ServerOptions) -> AsyncIterator[None]:
    # asyncio.timeout and not an anyio scope: task groups that the driver opens here outlive it.
    stack = AsyncExitStack()
    try:
        async with asyncio.timeout(options.start_timeout) as limit:
            await stack.enter_async_context(_entered(driver))
    except TimeoutError:
        if not limit.expired():
            raise
        raise Unavailable(f"lifespan took longer than {options.start_timeout:g} s") from None
    async with AsyncExitStack() as bounded:
        bounded.push_async_exit(_leaving(stack, options.stop_timeout))
        yield


def _entered(driver: Driver[Any]) -> AbstractAsyncContextManager[None]:
    life = driver.lifespan()
    if not hasattr(life, "__aenter__"):
        name = f"{type(driver).__qualname__}.lifespan"
        raise WrongType(f"{name} must be an async generator under @asynccontextmanager")
    return life


def _leaving(stack: AsyncExitStack, limit: float) -> Callable[..., Awaitable[bool | None]]:
    async def leave(*error: Any) -> bool | None:
        try:
            async with asyncio.timeout(limit):
                return await stack.__aexit__(*error)
        except TimeoutError:
            _log.warning("lifespan did not end in time", extra={"limit": limit})
            return None

    return leave


def _bind(
    place: Claim, services: Sequence[Service], traffic: Traffic, options: ServerOptions
) -> aio.Server:
    server = aio.server(
        options=[
            ("grpc.max_receive_message_length", options.max_message_bytes),
            ("grpc.max_send_message_length", options.max_message_bytes),
            ("grpc.so_reuseport", 0),
        ]
    )
    names = [each.name for each in services]
    server.add_generic_rpc_handlers([generic_handler(each, traffic) for each in services])
    if options.reflection:
        from openshell_drivers._services.reflection import add_reflection

        add_reflection(server, names)
    server.add_generic_rpc_handlers([NotOffered(names)])
    server.add_insecure_port(f"unix:{place.bind_path(_LISTENER)}")
    return server


async def _stop(server: aio.Server, traffic: Traffic, health: Health, limit: float) -> None:
    """End streams, let calls finish, cancel the rest. Runs to its end even when cancelled."""
    with anyio.CancelScope(shield=True):
        health.set(False)
        # A reader that has stalled would hold up the end; answers only need time to be sent.
        grace = _STREAM_GRACE if traffic.streams else max(limit, _STREAM_GRACE)
        traffic.close()
        with anyio.move_on_after(limit):
            await traffic.idle.wait()
        if traffic.calls:
            _log.warning("calls cancelled", extra={"calls": traffic.calls})
            grace = _STREAM_GRACE  # they have had their time
        with anyio.move_on_after(grace + LAST_MARGIN):
            await server.stop(grace)


def _alone(error: Exception) -> Exception:
    """Take the groups off an error that is alone in them: a lifespan often has a task group."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
