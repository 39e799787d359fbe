"""A driver as the business of a process: signals, reload, watchdog, exit status."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc

from openshell_drivers._faults import describe
from openshell_drivers._logs import quiet_loop, quiet_process
from openshell_drivers._memory import one_arena
from openshell_drivers._serving import LAST_MARGIN, Running, ServerOptions, running
from openshell_drivers._watchdog import Watchdog
from openshell_drivers.driver import Driver
from openshell_drivers.errors import ConfigError, DriverError, Internal, SocketError

_log: Final = logging.getLogger("openshell_drivers.server")
_LOOP_SECONDS: Final = 1.0


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
    bound = 2 * options.drain_timeout + options.stop_timeout + 2 * LAST_MARGIN
    watchdog = Watchdog()

    async def main() -> None:
        quiet_process()
        quiet_loop(asyncio.get_running_loop())
        watchdog.arm(options.start_timeout + 2 * LAST_MARGIN)
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


def _say_why(error: Exception) -> None:
    if isinstance(error, ConfigError | DriverError | SocketError):
        _log.error("cannot serve", extra={"reason": str(error)})
    else:
        _log.critical("the driver failed", extra={"fault": describe(error)})
