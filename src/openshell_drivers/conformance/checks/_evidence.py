"""A driver that is given secrets and watched from outside: what it says, shows and writes.

The work is done once for a service; many checks look at what was found, each in another place.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from openshell_drivers.conformance._caller import Reply
from openshell_drivers.conformance._instances import Instance
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.checks import _procs
from openshell_drivers.conformance.report.redact import Redactor

_END: Final = 15.0
_PAUSE: Final = 0.003
_LARGEST: Final = 16 * 1024 * 1024
#: What would stand at the head of a line of its own in a log that can be forged.
FORGED: Final = "conformance-forged-line"
TERMINAL: Final = "\x1b]0;conformance\x07"

Phase = Callable[[Any, "Evidence"], Awaitable[None]]


@dataclass(slots=True)
class Evidence:
    """What was seen of one driver."""

    secrets: list[tuple[str, str]] = field(default_factory=list)
    """What each of them is, and its value; there may be several of a kind."""
    log: bytes = b""
    """Of ordinary calls."""
    error_log: bytes = b""
    """Of calls that went wrong."""
    errors: list[tuple[str, str]] = field(default_factory=list)
    """RPC, and all that came with its status."""
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    """RPC, and an observation without its spec."""
    specs: list[tuple[str, bytes]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    """Of conditions."""
    commands: set[bytes] = field(default_factory=set)
    environments: set[bytes] = field(default_factory=set)
    open_files: dict[str, set[str]] = field(default_factory=dict)
    """Files that others can read, and the secrets in them."""
    left: dict[str, set[str]] = field(default_factory=dict)
    """Files that hold secrets after all was deleted and the process had ended."""

    def plant(self, bench: Bench, what: str) -> str:
        """A secret to send."""
        self.secrets.append((what, bench.secret(what)))
        return self.secrets[-1][1]

    def heard(self, reply: Reply[Any]) -> None:
        """Keep what came with an error."""
        if not reply.ok:
            self.errors.append((reply.rpc, f"{reply.text}\n{reply.trailers}"))

    def plain(self, data: bytes) -> list[str]:
        """Which secrets stand in the data as they are."""
        return [what for what, value in self.secrets if value.encode() in data]

    def in_any_form(self, data: bytes) -> list[str]:
        """Which secrets are in the data, encoded or in part too."""
        redactor = Redactor(value for _, value in self.secrets)
        return [self.secrets[index][0] for index in redactor.find(data)]


async def evidence(
    bench: Bench, ordinary: Phase, errors: Phase | None = None, *, verbose: bool = True
) -> Evidence:
    """Have it gathered, once for the service and the level of its log."""
    key = (bench.instance, f"evidence {bench.check.service} {verbose}")
    if key not in bench.world.facts:
        work = _gather(bench, ordinary, errors, verbose=verbose)
        bench.world.facts[key] = asyncio.create_task(work)
    task: asyncio.Task[Evidence] = bench.world.facts[key]
    return await asyncio.shield(task)


async def _gather(
    bench: Bench, ordinary: Phase, errors: Phase | None, *, verbose: bool
) -> Evidence:
    found = Evidence()
    async with bench.spare() as spare:
        spare.verbose = verbose
        temporary = spare.folder / "tmp"
        temporary.mkdir(mode=0o700)
        spare.variables["TMPDIR"] = str(temporary)
        own = type(bench)(bench.world, bench.check, bench.preset, spare)
        await bench.started(spare)
        await own.begin()
        try:
            with _Watcher(spare, found):
                await ordinary(own, found)
                await own.clean()
            await end(spare)
            found.log = spare.log()
            if errors is not None:
                await bench.started(spare)
                await own.reconnect()
                await errors(own, found)
                await own.clean()
                await end(spare)
                found.error_log = spare.log()[len(found.log) :]
            found.left = _files_with_secrets(spare, found)
        finally:
            await own.end()
    return found


async def end(instance: Instance) -> None:
    """End a process in order, so that it writes what is left of its log."""
    instance.signal(signal.SIGTERM)
    if await instance.ended(_END) is None:
        instance.kill()


class _Watcher:
    """A thread that looks at processes and files again and again."""

    def __init__(self, instance: Instance, found: Evidence) -> None:
        self._instance = instance
        self._found = found
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._over.wait(_PAUSE):
            self._processes(self._instance.pid)
            self._files()
        for pid in _procs.descendants(self._instance.pid):
            self._process(pid)

    def _processes(self, pid: int) -> None:
        for each in {pid, *_procs.children(pid)}:
            self._process(each)

    def _process(self, pid: int) -> None:
        command, environment = _procs.command_and_environment(pid)
        self._found.commands.add(command)
        self._found.environments.add(environment)

    def _files(self) -> None:
        for path in _written(self._instance):
            if _open_to_others(path, self._instance.folder):
                labels = self._found.in_any_form(_read(path))
                if labels:
                    name = str(path.relative_to(self._instance.folder))
                    self._found.open_files.setdefault(name, set()).update(labels)


def _written(instance: Instance) -> list[Path]:
    """All files that the driver may have written, but for its log."""
    ours = {instance.log_path, instance.switch}
    found = []
    for folder, _, names in os.walk(instance.folder):
        found += [path for name in names if (path := Path(folder) / name) not in ours]
    return found


def _open_to_others(path: Path, root: Path) -> bool:
    """Whether file and folders, apart from those that the suite has made, let others read."""
    try:
        if not path.lstat().st_mode & 0o004:
            return False
        made = [each for each in path.parents if root in each.parents and each.parent != root]
        return all(each.lstat().st_mode & 0o001 for each in made)
    except OSError:
        return False


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError:
        return b""


def _files_with_secrets(instance: Instance, found: Evidence) -> dict[str, set[str]]:
    left = {}
    for path in _written(instance):
        labels = found.in_any_form(_read(path)) if path.is_file() else []
        if labels:
            left[str(path.relative_to(instance.folder))] = set(labels)
    return left
