"""`Session`: what the commands of `openshell-drivers gateway` do, one of them or at a prompt."""

from __future__ import annotations

import asyncio
import shlex
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread

from openshell_drivers._gateway_commands import COMMANDS, HELP, PROG, parse
from openshell_drivers._gateway_settings import GatewaySettings
from openshell_drivers._gateway_show import Show
from openshell_drivers._logs import printable
from openshell_drivers.compute import SandboxSpec
from openshell_drivers.errors import ConfigError, DriverError
from openshell_drivers.testing.gateway import Gateway, NotReached, Record
from openshell_drivers.testing.gateway._state import save


class Failed(DriverError):
    """A command came to another end than it was for. The message is what the user sees."""

    code = "FAILED"


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


@dataclass(slots=True, kw_only=True)
class Session:
    """One gateway in the hands of somebody at a command line."""

    gateway: Gateway
    settings: GatewaySettings
    show: Show
    live: bool = False
    """Whether what happens is shown as it does."""
    interactive: bool = field(default_factory=_is_terminal)

    def keep(self) -> None:
        """Write the records to the state file."""
        lost = [entry.id for entry in self.gateway.journal if entry.kind == "gone"]
        save(self.settings.state, self.gateway.records, lost)

    # The prompt

    async def prompt(self) -> int:
        """Show what happens and do what the lines say; 1 if a command of a script failed."""
        self.live = True
        about = self.gateway.capabilities
        self.show.said(
            f"gateway {self.gateway.preset.name} at {self.settings.socket}: driver "
            f"{about.driver_name} {about.driver_version}; commands: {COMMANDS}"
        )
        failed = False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow)
            async for line in _lines():
                words = self._words(line)
                if words and words[0] in {"quit", "exit"}:
                    break
                failed = not await self._try(words) or failed
            tasks.cancel_scope.cancel()
        self._catch_up()
        return int(failed and not self.interactive)

    async def _follow(self) -> None:
        async for entry in self.gateway.follow():
            self.show.entry(entry)
            if entry.kind in {"phase", "gone"}:
                await anyio.to_thread.run_sync(self.keep)

    def _catch_up(self) -> None:
        for entry in self.gateway.journal:
            self.show.entry(entry)

    def _words(self, line: str) -> list[str]:
        try:
            return shlex.split(line, comments=True)
        except ValueError:
            return ["'"]  # an open quotation: no command

    async def _try(self, words: list[str]) -> bool:
        if not words:
            return True
        try:
            await self.do(words, one_shot=False)
        except ConfigError as error:
            self.show.failed("USAGE", str(error).partition("\n")[0])
        except DriverError as error:
            self._catch_up()
            self.show.failed(error.code, error.message)
        except NotReached as error:
            self.show.failed("TIMEOUT", str(error).partition(";")[0])
        else:
            return True
        return False

    # Commands

    async def do(self, words: list[str], *, one_shot: bool) -> None:
        """Do one command. Raises what the user sees instead of a result."""
        options = parse(words, one_shot=one_shot)
        wait = not options.no_wait and (one_shot or not self.interactive)
        if one_shot and options.command in {"stop", "start", "delete"}:
            await self._refresh()
        match options.command:
            case "create":
                await self._create(options, wait=wait)
            case "stop":
                self._done(await self.gateway.stop(options.name))
            case "start":
                await self._start(options.name, wait=wait)
            case "delete":
                await self._delete(options.name, wait=wait)
            case _:
                await self._look(options.command)

    async def _refresh(self) -> bool:
        """Know what a gateway knows that was there all the time; False if the driver cannot say."""
        try:
            await self.gateway.sweep()
        except DriverError as error:
            told = printable(f"the driver's list cannot be used: {error.code}: {error.message}")
            print(f"{PROG}: {told}", file=sys.stderr)
            return False
        return True

    async def _look(self, command: str) -> None:
        match command:
            case "list":
                seen = await self._refresh()
                self._list()
                if not seen:
                    raise Failed("these are the records of before")
            case "capabilities":
                self.show.capabilities(self.gateway.capabilities)
            case "watch":
                await self._follow()
            case _:
                self.show.said(HELP)

    async def _create(self, options: Any, *, wait: bool) -> None:
        if options.main and self.gateway.preset.line == "F":
            print(f"{PROG}: gateways of this line send no command", file=sys.stderr)
        record = await self.gateway.create(
            options.name,
            environment=options.environment,
            command=options.main,
            gpu=options.gpu_request,
            spec=SandboxSpec(id="", name=options.name, template=options.template),
        )
        await self._ready(record, wait=wait)

    async def _start(self, name: str, *, wait: bool) -> None:
        await self._ready(await self.gateway.start(name), wait=wait)

    async def _ready(self, record: Record, *, wait: bool) -> None:
        if self.gateway.record(record.name) is None:
            raise Failed(f"{record.name} is gone")
        if wait:
            within = self.settings.within
            record = await self.gateway.wait_for(record.name, "Ready", "Error", within=within)
        if record.phase == "Error":
            told = ": ".join(part for part in (record.reason, record.message) if part)
            raise Failed(f"{record.name} is Error" + (f", {told}" if told else ""))
        self._done(record)

    async def _delete(self, name: str, *, wait: bool) -> None:
        record = self.gateway.record(name)
        await self.gateway.delete(name)
        if wait:
            await self.gateway.wait_gone(name, within=self.settings.within)
        if not self.live and record is not None:
            state = "gone" if self.gateway.record(name) is None else "Deleting"
            fields = {"kind": "deleted", "sandbox": name, "id": record.id, "state": state}
            self.show.line(f"{name} {state}", fields)

    def _done(self, record: Record) -> None:
        """Say how it went, where what happened has not been shown."""
        if not self.live:
            self.show.record(record)

    def _list(self) -> None:
        if self.live:
            self._catch_up()
        for record in self.gateway.records:
            self.show.record(record)
        if not self.gateway.records:
            self.show.said("no sandboxes")


async def _lines() -> AsyncIterator[str]:
    """Give the lines of standard input, whatever it is. A thread reads it, since nothing else can
    read a terminal, a pipe and a file alike; it ends with the process."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin or ():
            loop.call_soon_threadsafe(queue.put_nowait, line)
        loop.call_soon_threadsafe(queue.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    while line := await queue.get():
        yield line
