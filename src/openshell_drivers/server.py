"""Serve a driver on a Unix socket: start, publish, answer, drain, stop.

The order of a sidecar's life: the path is checked and a private place made beside it; the driver's
`lifespan` is entered; the server binds in the private place; when it can answer, the socket is
renamed to its path and health turns to serving. On SIGTERM or SIGINT: not serving, streams end,
calls under way may finish within a limit, the rest is cancelled, `lifespan` is left, the socket is
removed if it is still ours.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
from grpc import aio

from openshell_drivers._faults import WrongType, describe
from openshell_drivers._logs import quiet_loop, quiet_process
from openshell_drivers._memory import one_arena
from openshell_drivers._relay import relaying
from openshell_drivers._rpc import NotOffered, Service, Traffic, generic_handler
from openshell_drivers._services.health import Health
from openshell_drivers._socket import Claim, SocketPolicy, claim
from openshell_drivers._version import driver_version
from openshell_drivers._watchdog import Watchdog
from openshell_drivers.credential_store import CredentialStore
from openshell_drivers.credentials import CredentialsDriver
from openshell_drivers.driver import Driver
from openshell_drivers.errors import ConfigError, DriverError, Internal, SocketError, Unavailable

__all__ = ["Running", "ServerOptions", "SocketPolicy", "run", "running", "serve"]

_log: Final = logging.getLogger("openshell_drivers.server")
_LAST_GRACE: Final = 0.2
_LAST_MARGIN: Final = 2.0
_LOOP_SECONDS: Final = 1.0
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
    drain_timeout: float = 10.0
    """For calls under way after SIGTERM; with `stop_timeout` below a pod's 30 s of grace."""
    stop_timeout: float = 5.0
    """To leave the driver's `lifespan`."""
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
        traffic.close()
        with anyio.move_on_after(limit):
            await traffic.idle.wait()
        if traffic.calls:
            _log.warning("calls cancelled", extra={"calls": traffic.calls})
        with anyio.move_on_after(_LAST_MARGIN):
            await server.stop(_LAST_GRACE)


async def serve(
    driver: Driver[Any],
    *,
    socket: Path | str,
    options: ServerOptions | None = None,
    reload: Callable[[], Awaitable[None]] | None = None,
    stopping: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. Call it from the main thread.

    A second signal cuts the drain short. SIGHUP calls `reload`; what it raises is logged and
    changes nothing. `stopping` is called once, at the first signal or when something fails. Raises
    like `running`.
    """
    await _serve(driver, socket, options, reload, _Ending(stopping=stopping))


async def _serve(
    driver: Driver[Any],
    socket: Path | str,
    options: ServerOptions | None,
    reload: Callable[[], Awaitable[None]] | None,
    ending: _Ending,
) -> None:
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(_attend_signals, ending, reload)
        tasks.start_soon(_mind_the_loop)
        try:
            with ending.starting:
                async with running(driver, socket=socket, options=options) as server:
                    ending.begin_serving(server)
                    try:
                        await ending.asked.wait()
                    finally:
                        ending.begin()  # a dead background task ends it as well
        except Exception as error:  # noqa: BLE001  # raised below, outside this group
            failure = error
        finally:
            ending.begin()
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not ending.signalled:
        raise Internal("the driver's lifespan ended by itself")
    _log.info("stopped")


async def _mind_the_loop() -> None:
    """Say in the log when something has held up the event loop, and every call with it."""
    while True:
        began = time.monotonic()
        await anyio.sleep(_LOOP_SECONDS)
        late = time.monotonic() - began - _LOOP_SECONDS
        if late > _LOOP_SECONDS:
            _log.warning("the event loop was blocked", extra={"seconds": round(late, 1)})


@dataclass(slots=True)
class _Ending:
    """What the signals have to reach."""

    stopping: Callable[[], None] | None = None
    started: Callable[[], None] | None = None
    asked: anyio.Event = field(default_factory=anyio.Event)
    starting: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    server: Running | None = None
    signalled: bool = False

    def begin_serving(self, server: Running) -> None:
        self.server = server
        if self.started is not None:
            self.started()

    def begin(self) -> bool:
        """Begin the end; False if it had begun."""
        if self.asked.is_set():
            return False
        self.asked.set()
        if self.stopping is not None:
            self.stopping()
        return True

    def ask(self) -> None:
        self.signalled = True
        if not self.begin():
            if self.server is not None:
                self.server.hurry()
        elif self.server is None:  # nobody is served yet: no need to finish starting
            self.starting.cancel()


async def _attend_signals(
    ending: _Ending,
    reload: Callable[[], Awaitable[None]] | None,
    *,
    task_status: anyio.abc.TaskStatus[None],
) -> None:
    one_at_a_time = anyio.Lock()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        async with anyio.create_task_group() as reloads:  # a reload that hangs delays no SIGTERM
            task_status.started()
            async for number in received:
                if number == signal.SIGHUP:
                    reloads.start_soon(_reload, reload, one_at_a_time)
                else:
                    _log.info("stopping", extra={"signal": signal.Signals(number).name})
                    ending.ask()


async def _reload(reload: Callable[[], Awaitable[None]] | None, one_at_a_time: anyio.Lock) -> None:
    if reload is None:
        _log.warning("no configuration to reload")
        return
    try:
        async with one_at_a_time:
            await reload()
    except (ConfigError, DriverError) as error:
        _log.error("the old configuration stays", extra={"reason": str(error)})
    except Exception as error:  # noqa: BLE001  # an author's reload may raise anything
        _log.error("the old configuration stays", extra={"fault": describe(error)})
    else:
        _log.info("configuration reloaded")


def run(
    driver: Driver[Any],
    *,
    socket: Path | str,
    options: ServerOptions | None = None,
    reload: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Serve as the main business of this process and give its exit status.

    0 after a signal, even if one came while starting; 1 with one line in the log that says why
    when the driver could not start, or a background task of it died, or it would not end.
    """
    one_arena()
    options = options or ServerOptions()
    bound = options.drain_timeout + options.stop_timeout + 2 * _LAST_MARGIN
    watchdog = Watchdog()

    async def main() -> None:
        quiet_process()
        quiet_loop(asyncio.get_running_loop())
        watchdog.arm(options.start_timeout + 2 * _LAST_MARGIN)
        ending = _Ending(stopping=lambda: watchdog.arm(bound), started=watchdog.disarm)
        await _serve(driver, socket, options, reload, ending)

    threads = threading.enumerate()
    try:
        anyio.run(main)
    except Exception as error:  # noqa: BLE001  # the last line of defence says why and ends
        _say_why(error)
        return 1
    finally:
        watchdog.watch_only(each for each in threading.enumerate() if each not in threads)
    return 0


def _alone(error: Exception) -> Exception:
    """Take the groups off an error that is alone in them: a lifespan often has a task group."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _say_why(error: Exception) -> None:
    if isinstance(error, ConfigError | DriverError | SocketError):
        _log.error("cannot serve", extra={"reason": str(error)})
    else:
        _log.critical("the driver failed", extra={"fault": describe(error)})
