"""`resolve`: from what the user calls a target to exactly one reading of it.

Explicit forms are ``unix:SOCKET``, ``cmd:COMMAND``, ``driver:NAME``, ``py:MODULE[:CLASS]`` and
``file:PATH[:CLASS]``. Any other text is tried as each of them: one reading that fits is used, and
two are an error that lists them. Nothing of the target is imported here.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.machinery
import json
import os
import shlex
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from openshell_drivers.conformance._targets import Target
from openshell_drivers.errors import ConfigError
from openshell_drivers.settings import inherited

__all__ = ["passed_on", "resolve"]

_DRIVERS: Final = "openshell_drivers"
_PLUGINS: Final = "openshell_drivers_plugins"
_FORMS: Final = (
    "unix:SOCKET, cmd:'COMMAND ...', driver:NAME, py:MODULE[:CLASS] or file:PATH[:CLASS]"
)


def resolve(text: str, *, cwd: Path, python: str) -> Target:
    """Read a target. Raises `ConfigError` if nothing fits, or more than one thing.

    `python` runs the drivers that are built on the SDK.
    """
    return _Reader(text, cwd, python).read()


def passed_on(names: Sequence[str]) -> dict[str, str]:
    """The variables that a driver's process gets by name. Raises `ConfigError`."""
    for name in names:
        if "=" in name:
            raise ConfigError("--env: wants a name alone; what it holds would be seen by everybody")
    found = inherited(names)
    for name in names:
        if name not in found:
            raise ConfigError(f"--env: there is no variable {name!r} in the environment")
    return found


class _Reader:
    def __init__(self, text: str, cwd: Path, python: str) -> None:
        self._text = text
        self._cwd = cwd
        self._python = python
        self._tried: list[str] = []
        self._by_plugins: Sequence[str] | None = None

    def read(self) -> Target:
        explicit: Mapping[str, Callable[[str], Target]] = {
            "unix": self._unix,
            "cmd": self._cmd,
            "driver": self._driver,
            "py": self._py,
            "file": self._file,
        }
        prefix, colon, rest = self._text.partition(":")
        if colon and prefix in explicit:
            if not rest.strip():
                raise ConfigError(f"target {self._text!r}: nothing after the colon")
            return explicit[prefix](rest)
        found = [each for each in self._readings() if each is not None]
        if not found:
            raise ConfigError(self._nothing())
        if len(found) > 1:
            forms = "\n".join(f"  {each.read_as}" for each in found)
            raise ConfigError(
                f"target {self._text!r} can be read in several ways; say which:\n{forms}"
            )
        return found[0]

    # The readings of a bare text

    def _readings(self) -> Iterator[Target | None]:
        text = self._text
        yield self._if_socket(text)
        offered = self._if_offered(text)
        yield offered
        yield self._if_module(text, offered)
        yield self._if_file(text)
        yield self._if_program(text)

    def _if_socket(self, text: str) -> Target | None:
        if _mode(self._cwd / text, stat.S_ISSOCK):
            return self._unix(text)
        self._tried.append("no socket there")
        return None

    def _if_offered(self, text: str) -> Target | None:
        if text in _entry_points() or text in self._offered_by_plugins():
            return self._driver(text)
        self._tried.append("no installed driver of that name")
        return None

    def _if_module(self, text: str, offered: Target | None) -> Target | None:
        module = text.partition(":")[0]
        if self._place(module) is None:
            self._tried.append("no such module")
            return None
        where = _entry_points().get(text, "").partition(":")[0] if offered is not None else ""
        if where == module or where.startswith(f"{module}."):
            return None  # the installed driver lies in it: one thing under two names
        return self._py(text)

    def _if_file(self, text: str) -> Target | None:
        path = text if text.endswith(".py") else text.rpartition(":")[0]
        if path.endswith(".py") and (self._cwd / path).is_file():
            return self._file(text)
        self._tried.append("no such .py file")
        return None

    def _if_program(self, text: str) -> Target | None:
        path = self._cwd / text
        if "/" in text and path.is_file() and os.access(path, os.X_OK):
            return self._cmd(shlex.quote(text))
        self._tried.append("no path, with a slash in it, of a program")
        return None

    def _nothing(self) -> str:
        said = f"nothing is called {self._text!r}: {', '.join(self._tried)}"
        names = [*_entry_points(), *self._offered_by_plugins()]
        near = difflib.get_close_matches(self._text, names, n=3, cutoff=0.5)
        if near:
            said += f"\ndid you mean {' or '.join(near)}?"
        elif any(each.isspace() for each in self._text):
            said += "\na command with arguments is given as cmd:'...'"
        return f"{said}\na target is {_FORMS}"

    # The explicit forms

    def _unix(self, text: str) -> Target:
        path = (self._cwd / text).absolute()
        return Target(
            given=self._text, read_as=f"unix:{path}", kind="socket", name=path.stem, socket=path
        )

    def _cmd(self, text: str) -> Target:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise ConfigError(f"target {self._text!r}: {error}") from None
        if not words:
            raise ConfigError(f"target {self._text!r}: there is no command")
        if not any("{socket}" in word for word in words):
            words += ["--bind-socket", "{socket}"]
        if "/" in words[0]:
            words[0] = str((self._cwd / words[0]).absolute())
        return Target(
            given=self._text,
            read_as=f"cmd:{text}",
            kind="command",
            name=Path(words[0]).name,
            argv=tuple(words),
        )

    def _driver(self, name: str) -> Target:
        if name not in _entry_points() and name not in self._offered_by_plugins():
            hint = f"\npy:driver:{name} is the class of that name in the module driver"
            there = self._place("driver") is not None
            raise ConfigError(
                f"no installed package offers a driver {name!r}; openshell-drivers list shows them"
                + hint * there
            )
        return self._ours(f"driver:{name}", name, name)

    def _py(self, text: str) -> Target:
        module = text.partition(":")[0]
        folder = self._place(module)
        if folder is None:
            raise ConfigError(f"target {self._text!r}: there is no module {module!r}")
        return self._ours(f"py:{text}", module.rpartition(".")[2], f"py:{text}", folder)

    def _file(self, text: str) -> Target:
        head, colon, attribute = text.rpartition(":")
        name, attribute = (head, attribute) if head.endswith(".py") else (text, "")
        path = (self._cwd / name).absolute()
        if not path.is_file():
            raise ConfigError(f"target {self._text!r}: there is no file {name!r}")
        spawned = f"{path}{colon * bool(attribute)}{attribute}"
        return self._ours(f"file:{text}", path.stem, spawned)

    def _ours(self, read_as: str, name: str, spawned: str, folder: str = "") -> Target:
        """One that is built on the SDK, which serves it."""
        command = (self._python, "-P", "-m", _DRIVERS, "run", spawned, "--socket", "{socket}")
        path = inherited(["PYTHONPATH"]).get("PYTHONPATH", "")
        added = {} if not folder else {"PYTHONPATH": os.pathsep.join(filter(None, (folder, path)))}
        return Target(
            given=self._text,
            read_as=read_as,
            kind="driver",
            name=name,
            argv=command,
            verbose=("--log-level", "debug"),
            environment=added,
        )

    # Looking

    def _place(self, module: str) -> str | None:
        """The folder that a process needs on its path to import a module; empty if it has it.

        None if there is no such module. The packages around it are looked into, not imported.
        """
        parts = module.split(".")
        if not all(part.isidentifier() for part in parts):
            return None
        spec = _find(parts[0], [str(self._cwd), *sys.path])
        for number in range(1, len(parts)):
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = _find(".".join(parts[: number + 1]), list(spec.submodule_search_locations))
        if spec is None or spec.loader is None or spec.origin is None:
            return None  # a folder that merely has the name
        file = Path(spec.origin)
        depth = len(parts) if file.name.startswith("__init__.") else len(parts) - 1
        folder = file.parents[depth]
        known = {str(self._cwd), *sysconfig.get_paths().values()}
        return "" if str(folder) in known or not file.is_absolute() else str(folder)

    def _offered_by_plugins(self) -> Sequence[str]:
        """The names that plugin modules offer, asked in a process that may import them."""
        if self._by_plugins is None:
            there = bool(metadata.entry_points(group=_PLUGINS))
            self._by_plugins = _listed(self._python) if there else ()
        return self._by_plugins


def _entry_points() -> dict[str, str]:
    return {each.name: each.value for each in metadata.entry_points(group=_DRIVERS)}


def _listed(python: str) -> Sequence[str]:
    done = subprocess.run(  # noqa: S603  # our own command
        [python, "-P", "-m", _DRIVERS, "list", "--json"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    rows = json.loads(done.stdout) if done.returncode == 0 else []
    return [row["name"] for row in rows if not row["problem"]]


def _find(name: str, path: list[str]) -> importlib.machinery.ModuleSpec | None:
    for finder in list(sys.meta_path):
        with contextlib.suppress(Exception):  # a stranger's import hook
            spec = finder.find_spec(name, path, None)
            if spec is not None:
                return spec
    return None


def _mode(path: Path, judge: Callable[[int], bool]) -> bool:
    try:
        return judge(path.stat().st_mode)
    except (OSError, ValueError):
        return False
