"""`openshell-drivers gateway`: be a gateway at a driver's socket, for somebody who has none.

With a command it does that and ends; without one it shows what happens and takes commands.
"""

from __future__ import annotations

import asyncio
import json
import math
import shlex
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from openshell_drivers._flags import Parser
from openshell_drivers._gateway_show import Show
from openshell_drivers._logs import printable
from openshell_drivers.compute import ComputeResources, GpuRequest, SandboxSpec, SandboxTemplate
from openshell_drivers.errors import ConfigError, DriverError
from openshell_drivers.settings import dialled_socket
from openshell_drivers.testing.gateway import (
    PRESETS,
    Gateway,
    GatewayAdmission,
    GatewayOptions,
    NotReached,
    Record,
)
from openshell_drivers.testing.gateway._state import load, save

_PROG: Final = "openshell-drivers gateway"
_HELP: Final = """\
Be a gateway at a compute driver's socket and show what its user would see.

commands:
  create NAME [--image I] [--env K=V] [--gpu [N]] [--label K=V] [--cpu-limit Q]
              [--memory-limit Q] [--driver-config JSON] [--platform-config JSON] [-- COMMAND...]
  stop NAME, start NAME, delete NAME
  list              the sandboxes
  watch             what happens, until interrupted
  capabilities      what the driver says of itself

Without a command it shows what happens and takes commands from standard input; help and quit too.
A command waits for its outcome, unless it has --no-wait.
"""
_COMMANDS: Final = "create, stop, start, delete, list, capabilities, help, quit"
_VALUED: Final = {"socket", "bind-socket", "preset", "state", "speed", "workspace", "within"}
_OWN: Final = _VALUED | {"json", "allow-driver-config"}
_HELPS: Final = frozenset({"-h", "-help", "--help"})


class Failed(DriverError):
    """A command came to another end than it was for. The message is what the user sees."""

    code = "FAILED"


@dataclass(slots=True, kw_only=True)
class _Settings:
    socket: Path
    state: Path
    preset: str
    speed: float
    workspace: str
    within: float
    as_json: bool
    allow_driver_config: bool


def gateway(arguments: list[str]) -> int:
    """Run the verb."""
    own, command = _split(arguments)
    before = command.index("--") if "--" in command else len(command)
    if command and _HELPS & set(command[:before]):
        _parse(command, one_shot=True)
    settings = _settings(own)
    return asyncio.run(_main(settings, command))


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the gateway's own flags, wherever they stand before a ``--``, from the command."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own: list[str] = []
    command: list[str] = []
    rest = iter(arguments[:end])
    for each in rest:
        name, equals, _ = each.lstrip("-").partition("=")
        if not each.startswith("-") or (command and name not in _OWN):
            command.append(each)
        else:
            own.append(each)
            if name in _VALUED and not equals:
                own += [value for value in [next(rest, None)] if value is not None]
    return own, [*command, *arguments[end:]]


def _settings(arguments: Sequence[str]) -> _Settings:
    parser = Parser(_PROG, _HELP)
    add = parser.add_argument
    add("--socket", "--bind-socket", dest="socket", metavar="PATH", help="the driver's socket")
    add("--preset", default="0.1-latest", metavar="NAME", help=f"{', '.join(PRESETS)} (the last)")
    add("--state", metavar="FILE", help="where the records are kept (SOCKET.gateway.json)")
    add("--speed", default="1", metavar="N", help="the gateway's seconds in a real one (1)")
    add("--workspace", default="default", metavar="NAME", help="of the sandboxes (default)")
    add("--within", default="300", metavar="SECONDS", help="how long to wait for an outcome (300)")
    add("--allow-driver-config", action="store_true", help="its own resource admission policy")
    add("--json", action="store_true", help="one JSON object a line")
    options = parser.parse(arguments)
    if options.preset not in PRESETS:
        raise ConfigError(f"--preset: must be one of {', '.join(PRESETS)}")
    socket = dialled_socket(options.socket)
    return _Settings(
        socket=socket,
        state=Path(options.state) if options.state else Path(f"{socket}.gateway.json"),
        preset=options.preset,
        speed=_positive("--speed", options.speed),
        workspace=options.workspace,
        within=_positive("--within", options.within),
        as_json=options.json,
        allow_driver_config=options.allow_driver_config,
    )


def _positive(flag: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1e6:
        raise ConfigError(f"{flag}: must be a positive number")
    return number


async def _main(settings: _Settings, command: list[str]) -> int:
    show = Show(as_json=settings.as_json)
    if command:
        _parse(command, one_shot=True)  # a mistake is found before anything is dialled
    records = await anyio.to_thread.run_sync(load, settings.state)
    dialled = Gateway(
        settings.socket,
        preset=settings.preset,
        speed=settings.speed,
        workspace=settings.workspace,
        records=records,
        options=GatewayOptions(
            recover=not command,
            admission=GatewayAdmission(allow_driver_config=settings.allow_driver_config),
        ),
    )
    if not settings.socket.exists():
        print(f"{_PROG}: waiting for a driver at {str(settings.socket)!r}", file=sys.stderr)
    async with dialled as gateway:
        session = _Session(gateway=gateway, settings=settings, show=show)
        try:
            if not command:
                return await session.prompt()
            try:
                await session.do(command, one_shot=True)
            except DriverError as error:
                if not settings.as_json:
                    raise
                show.failed(error.code, error.message)
                return 1
            return 0
        finally:
            session.keep()


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


@dataclass(slots=True, kw_only=True)
class _Session:
    """One gateway in the hands of somebody at a command line."""

    gateway: Gateway
    settings: _Settings
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
            f"{about.driver_name} {about.driver_version}; commands: {_COMMANDS}"
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
        options = _parse(words, one_shot=one_shot)
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
            print(f"{_PROG}: {told}", file=sys.stderr)
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
                self.show.said(_HELP)

    async def _create(self, options: Any, *, wait: bool) -> None:
        if options.main and self.gateway.preset.line == "F":
            print(f"{_PROG}: gateways of this line send no command", file=sys.stderr)
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


def _parse(words: Sequence[str], *, one_shot: bool) -> Any:
    """Read one command with its flags."""
    command, rest = words[0], list(words[1:])
    plain = {"list", "capabilities", *(("watch",) if one_shot else ("help",))}
    if command not in {"create", "stop", "start", "delete", *plain}:
        raise ConfigError(f"there is no such command\ntry {_PROG} --help")
    parser = Parser(f"{_PROG} {command}", "")
    parser.set_defaults(command=command, no_wait=False)
    if command in plain:
        return parser.parse(rest)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the outcome")
    if command != "create":
        return parser.parse(rest)
    parser.add_argument("--image", default="", metavar="IMAGE")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--gpu", nargs="?", const="", metavar="N", help="GPUs; one without N")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--cpu-limit", default="", metavar="QUANTITY")
    parser.add_argument("--memory-limit", default="", metavar="QUANTITY")
    parser.add_argument("--driver-config", default="{}", metavar="JSON")
    parser.add_argument("--platform-config", default="{}", metavar="JSON")
    at = rest.index("--") if "--" in rest else len(rest)
    options = parser.parse(rest[:at])
    options.main = tuple(rest[at + 1 :])
    options.environment = dict(_pair("--env", each) for each in options.env)
    options.template = _template(options)
    options.gpu_request = _gpu(options.gpu)
    return options


def _template(options: Any) -> SandboxTemplate:
    limits = ComputeResources(cpu_limit=options.cpu_limit, memory_limit=options.memory_limit)
    return SandboxTemplate(
        image=options.image,
        labels=dict(_pair("--label", each) for each in options.label),
        resources=limits if options.cpu_limit or options.memory_limit else None,
        platform_config=_object("--platform-config", options.platform_config),
        driver_config=_object("--driver-config", options.driver_config),
    )


def _object(flag: str, text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{flag}: must be a JSON object")
    return {key: _frozen(value) for key, value in found.items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return {key: _frozen(each) for key, each in value.items()}
    return value


def _pair(flag: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"{flag}: wants KEY=VALUE")
    return key, value


def _gpu(text: str | None) -> GpuRequest | None:
    if text is None:
        return None
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigError("--gpu: must be a number")
    return GpuRequest(count=int(text) if text else None)


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
