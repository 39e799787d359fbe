"""Serve `Named` as a process: ``serve.py SOCKET SETTINGS``, with the settings in JSON.

What happens is said on standard output, a line each; the log is JSON on standard error. A line on
standard input opens the gate that the lifespan or a call waits at.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread

from openshell_drivers import ConfigError, Unavailable
from openshell_drivers._logs import configure
from openshell_drivers.server import ServerOptions, SocketPolicy, run
from tests.fakes.driver import FAULT_CANARY, Named, never_ending


def say(text: str) -> None:
    print(text, flush=True)


class Living(Named):
    """`Named` with a life: ``life`` in the settings says how its lifespan behaves."""

    def __init__(self, life: str) -> None:
        super().__init__(say)
        self._life = life

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        say("entering")
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, args=(loop,), daemon=True).start()
        async with anyio.create_task_group() as tasks:
            await self._enter(tasks)
            say("entered")
            yield
            say("leaving")
            if self._life == "slow leaving":
                await anyio.sleep_forever()
            tasks.cancel_scope.cancel()
        say("left")

    async def _enter(self, tasks: anyio.abc.TaskGroup) -> None:
        match self._life:
            case "gated entering":
                await self.gate.wait()
            case "slow entering":
                await anyio.sleep_forever()
            case "blocked entering":
                time.sleep(3600)  # noqa: ASYNC251  # the mistake under test
            case "failing":
                raise RuntimeError(FAULT_CANARY)
            case "refusing":
                raise ConfigError("key 'realm' is missing")
            case _:
                self._start_tasks(tasks)

    def _start_tasks(self, tasks: anyio.abc.TaskGroup) -> None:
        if self._life == "losing its backend":
            tasks.start_soon(self._lose_backend)
        if self._life == "cancelling itself":
            tasks.start_soon(self._cancel, tasks)
        if self._life == "losing threads":
            threading.Thread(target=self._lose).start()
        if self._life.startswith("dying task"):
            tasks.start_soon(self._die)
        if self._life.endswith("beside a stubborn one"):
            tasks.start_soon(never_ending)
        if self._life.endswith("beside a blocked thread"):
            tasks.start_soon(anyio.to_thread.run_sync, time.sleep, 3600)

    def _lose(self) -> None:
        raise RuntimeError(FAULT_CANARY)

    async def _die(self) -> None:
        await self.gate.wait()
        raise RuntimeError(FAULT_CANARY)

    async def _cancel(self, tasks: anyio.abc.TaskGroup) -> None:
        await self.gate.wait()
        tasks.cancel_scope.cancel()

    async def _lose_backend(self) -> None:
        await self.gate.wait()
        raise Unavailable("the backend is gone for good")

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        if sys.stdin.readline():
            loop.call_soon_threadsafe(self.gate.set)


class Reload:
    """A reload that behaves as the setting says, and says that it was called."""

    def __init__(self, how: str) -> None:
        self._how = how

    async def __call__(self) -> None:
        say("reloading")
        if self._how == "fails":
            raise RuntimeError(FAULT_CANARY)
        if self._how == "refuses":
            raise ConfigError("key 'realm' is missing")
        if self._how == "hangs":
            await anyio.sleep_forever()


def _become(user: int | None) -> None:
    """Go on as another user; what is imported later is imported now, since it may be root's."""
    if user is not None:
        import anyio._backends._asyncio  # noqa: F401  # as said

        import openshell_drivers._services.credentials  # noqa: F401  # as said

        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def main() -> int:
    settings: dict[str, Any] = json.loads(sys.argv[2])
    configure(settings.pop("level", "info"), "json")
    uids = settings.pop("allowed_uids", None)
    policy = SocketPolicy(
        group=settings.pop("group", None),
        allowed_uids=None if uids is None else frozenset(uids),
    )
    _become(settings.pop("become", None))
    life, reload = settings.pop("life", ""), settings.pop("reload", None)
    if settings.pop("wait_for_start", False):
        say("ready")
        sys.stdin.readline()
    return run(
        Living(life),
        socket=sys.argv[1],
        options=ServerOptions(socket=policy, **settings),
        reload=None if reload is None else Reload(reload),
    )


if __name__ == "__main__":
    sys.exit(main())
