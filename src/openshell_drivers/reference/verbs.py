"""The verbs of the reference drivers' conformance profiles: what others do to their platforms.

``python -m openshell_drivers.reference.verbs memory --state FILE VERB``, or ``process --root
DIRECTORY VERB``; JSON on standard input and on standard output, whether a driver runs or not.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio

from openshell_drivers import ConfigError, DriverError, environment
from openshell_drivers.reference import _keeper
from openshell_drivers.reference._folder import PASSING, RECORD, Folder, Record, remove_tree
from openshell_drivers.reference._members import MARK, kill_all
from openshell_drivers.reference._platform import Platform
from openshell_drivers.reference._platform import Record as Pretended
from openshell_drivers.reference._runs import read_report
from openshell_drivers.reference._state import open_state

Answer = dict[str, Any]
_NOTHING: Final = "there is no sandbox with this id"


class Refused(Exception):
    """It cannot be done; the text says why."""


class MemoryVerbs:
    """What can be done to the platform of `Memory`."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def remove(self, sandbox_id: str) -> Answer:
        """Remove a sandbox."""
        if not self._platform.remove(sandbox_id):
            raise Refused(_NOTHING)
        return {}

    def exit_main(self, sandbox_id: str) -> Answer:
        """Have the main process end."""

        def end(record: Pretended) -> Pretended:
            if record.phase != "running" or record.wait:
                raise Refused("its main process does not run")
            return replace(record, phase="exited")

        if self._platform.change(sandbox_id, end) is None:
            raise Refused(_NOTHING)
        return {}

    def workload(self, sandbox_id: str) -> Answer:
        """Tell what the sandbox's software was given."""
        record = self._platform.find(sandbox_id)
        if record is None:
            raise Refused(_NOTHING)
        given = record.workload
        return {
            "environment": dict(given.environment),
            "command": list(given.command),
            "tty": given.tty,
            **_hint(given.environment),
        }

    def credential(self, sandbox_id: str) -> Answer:
        """Give what the sandbox proves itself with."""
        return {"credential": self._platform.credential_of(sandbox_id).reveal()}

    def list_resources(self, _: str) -> Answer:
        """Name all that drivers have made."""
        return {"resources": self._platform.resources()}

    def foreign(self, _: str) -> Answer:
        """Have somebody else make a sandbox."""
        return {"id": self._platform.add_foreign()}


class ProcessVerbs:
    """What can be done to the sandboxes of `Process`."""

    def __init__(self, root: Path, folder: Folder) -> None:
        self._root = root
        self._folder = folder

    def remove(self, sandbox_id: str) -> Answer:
        """Take a sandbox's directory away, and kill all that runs in it."""
        mark = self._record(sandbox_id).mark
        aside = self._root / f"{sandbox_id}{PASSING}gone{PASSING}"
        self._folder.of(sandbox_id).rename(aside)
        anyio.run(kill_all, mark)
        remove_tree(aside)
        return {}

    def exit_main(self, sandbox_id: str) -> Answer:
        """Kill the main process."""
        os.kill(self._main(sandbox_id), signal.SIGKILL)
        return {}

    def workload(self, sandbox_id: str) -> Answer:
        """Tell what the main process was given, as the kernel knows it."""
        pid = self._main(sandbox_id)
        found = _keeper.look_up(pid)
        if found is None:
            raise Refused("its main process has just ended")
        pairs = (item.partition("=") for item in _items(pid, "environ"))
        given = {name: value for name, _, value in pairs}
        return {
            "environment": given,
            "command": _items(pid, "cmdline"),
            "tty": bool(found.terminal),
            **_hint(given),
        }

    def list_resources(self, _: str) -> Answer:
        """Name the directories that the driver has made, and the processes that live in them."""
        made = sorted(
            each.name
            for each in self._root.iterdir()
            if each.name.endswith(PASSING) or (each / RECORD).exists()
        )
        marks = {f"{MARK}={record.mark}": record.id for record in self._folder.records()}
        living = [f"process/{of}/{pid}" for pid, of in sorted(_living(self._root, marks).items())]
        return {"resources": [f"directory/{name}" for name in made] + living}

    def foreign(self, _: str) -> Answer:
        """Make a directory that is none of the driver's."""
        made = self._root / f"foreign-{secrets.token_hex(4)}"
        made.mkdir()
        return {"id": made.name}

    def _record(self, sandbox_id: str) -> Record:
        for record in self._folder.records():
            if record.id == sandbox_id:
                return record
        raise Refused(_NOTHING)

    def _main(self, sandbox_id: str) -> int:
        record = self._record(sandbox_id)
        report = read_report(self._folder.of(sandbox_id), record.run)
        found = None if report is None else _keeper.look_up(report.main)
        if report is None or found is None or found.dead or found.parent != report.pid:
            raise Refused("its main process does not run")
        return report.main


def _hint(given: Mapping[str, str]) -> Answer:
    """Whether the main process is to wait for who created the sandbox."""
    hint = "await_main_process_attachment"
    return {hint: json.loads(given[environment.MAIN_PROCESS_SPEC]).get(hint, False)}


def _living(root: Path, marks: Mapping[str, str]) -> dict[int, str]:
    """Find the processes of a root, and the sandboxes they are of; those without one, too."""
    found = {}
    for each in _keeper.processes().values():
        if each.dead or each.pid == os.getpid():
            continue
        given = _items(each.pid, "environ")
        of = next((marks[item] for item in given if item in marks), "")
        if of or any(f"{root}/" in item for item in (*given, *_items(each.pid, "cmdline"))):
            found[each.pid] = of
    return found


def _items(pid: int, name: str) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return []
    return [item.decode("utf-8", "surrogateescape") for item in text.split(b"\0")[:-1]]


@contextmanager
def _of_memory(state: Path) -> Iterator[MemoryVerbs]:
    with open_state(state) as opened:
        yield MemoryVerbs(Platform(opened))


@contextmanager
def _of_process(root: Path) -> Iterator[ProcessVerbs]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield ProcessVerbs(root, Folder(root, descriptor))
    finally:
        os.close(descriptor)


def main(arguments: Sequence[str]) -> int:
    """Do one verb; the exit status."""
    parser = argparse.ArgumentParser(prog="verbs", allow_abbrev=False, description=__doc__)
    drivers = parser.add_subparsers(dest="driver", required=True)
    for name, kind, place in (("memory", MemoryVerbs, "state"), ("process", ProcessVerbs, "root")):
        one = drivers.add_parser(name)
        one.add_argument(f"--{place}", dest="place", type=Path, required=True)
        one.add_argument("verb", choices=[each for each in vars(kind) if each[0] != "_"])
    found = parser.parse_args(arguments)
    try:
        given = json.loads(sys.stdin.read() or "{}")
        with (_of_memory if found.driver == "memory" else _of_process)(found.place) as verbs:
            verb: Callable[[str], Answer] = getattr(verbs, found.verb)
            answer = verb(str(given.get("id", "")))
    except (Refused, ConfigError, DriverError, OSError, ValueError) as error:
        sys.stderr.write(f"verbs: {error}\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
