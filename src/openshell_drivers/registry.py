"""Find drivers by name among the installed packages, importing only the one that is asked for.

A package offers one driver by an entry point of group ``openshell_drivers``, named like the driver.
One that offers several, or decides at run time, registers a plugin module under
``openshell_drivers_plugins`` and implements the hook::

    from openshell_drivers.registry import hookimpl

    @hookimpl
    def openshell_drivers_offer():
        return {"alpha": "my_package.alpha:Alpha", "beta": "my_package.beta:Beta"}

A driver that no package offers is found by its module or file: `find` says how.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, Final, TypeGuard

import pluggy

from openshell_drivers._faults import describe
from openshell_drivers._logs import printable
from openshell_drivers.driver import Driver
from openshell_drivers.errors import ConfigError

__all__ = ["DRIVER_GROUP", "PLUGIN_GROUP", "Offer", "find", "hookimpl", "offers"]

DRIVER_GROUP: Final = "openshell_drivers"
PLUGIN_GROUP: Final = "openshell_drivers_plugins"
_PROJECT: Final = "openshell_drivers"
_hookspec: Final = pluggy.HookspecMarker(_PROJECT)
hookimpl: Final = pluggy.HookimplMarker(_PROJECT)


class _Specification:
    """The hooks."""

    @_hookspec
    def openshell_drivers_offer(self) -> Mapping[str, str]:  # type: ignore[empty-body]  # a spec
        """Name the drivers of this plugin: name -> ``module:Class``. Imports none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A driver that a package says it has."""

    name: str
    target: str
    """Where it is: ``module:Class``; empty if the plugin is broken."""
    source: str
    """The distribution that offers it."""
    problem: str = ""
    """Why a plugin could not be asked, by type and place."""


def offers() -> list[Offer]:
    """List what the installed packages offer, by name. Imports plugin modules, but no driver.

    A plugin that fails is listed under its own name with the problem, and stops nobody else.
    """
    return sorted([*_by_entry_point(), *_by_plugin()], key=lambda o: (o.name, o.source))


def find(name: str) -> type[Driver[Any]]:
    """Import one driver's class. `name` is one of these:

    - the name that a package offers it by;
    - ``module:Class``;
    - a module, or a package: its only `Driver` class. If an installed driver is called the same,
      it goes first, and ``py:module`` names the module;
    - a file, with a slash in it or ending in ``.py``: ``driver.py`` or ``./driver.py:Class``. Like
      a script, it may import its neighbours.

    Raises `ConfigError` if there is none, if there are several, or if it cannot be imported.
    """
    path, attribute = split_file(name)
    if path:
        return _only(_file(path), attribute, path)
    if name.startswith("py:"):
        return _by_module(name.removeprefix("py:"))
    if ":" in name:
        return load_class(name)
    offered, problems = _offered(name)
    if not offered and _importable(name):
        return _by_module(name)
    if not offered:
        raise ConfigError(_nobody(name, problems))
    if len(offered) > 1:
        sources = ", ".join(sorted(offer.source for offer in offered))
        raise ConfigError(f"driver {name!r} is offered by several packages: {sources}")
    found = load_class(offered[0].target)
    if found.name != name:
        raise ConfigError(
            f"driver {name!r} of {offered[0].source}: the class calls itself {found.name!r}; "
            "name the entry point and the class alike"
        )
    return found


def is_offered(name: str) -> bool:
    """Whether an installed package offers a driver of that name. Imports no driver."""
    return bool(_offered(name)[0])


def _offered(name: str) -> tuple[list[Offer], list[Offer]]:
    """Those who offer the name, and the plugins that could not be asked."""
    offered = [o for o in _by_entry_point() if o.name == name]
    if offered:
        return offered, []
    plugins = list(_by_plugin())
    named = [o for o in plugins if o.name == name and not o.problem]
    return named, [o for o in plugins if o.problem]


def split_file(name: str) -> tuple[str, str]:
    """Split ``./driver.py:Class``; two empty texts for what names no file."""
    head, colon, attribute = name.rpartition(":")
    if colon and _is_path(head) and not _is_path(attribute):
        return head, attribute
    return (name, "") if _is_path(name) else ("", "")


def _is_path(text: str) -> bool:
    return "/" in text or text.endswith(".py")


def _nobody(name: str, problems: list[Offer]) -> str:
    text = f"no installed package offers a driver {name!r}; openshell-drivers list shows them"
    for offer in problems:
        text += f"\nplugin {offer.name!r} of {offer.source} is broken: {offer.problem}"
    return text


def load_class(target: str) -> type[Driver[Any]]:
    """Import ``module:Class`` and make sure it is a driver that can be built."""
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # an import runs the author's code
        raise ConfigError(f"driver {target!r} cannot be loaded: {_import_problem(error)}") from None
    if found is None:
        raise ConfigError(f"driver {target!r} cannot be loaded: {module} has no {attribute!r}")
    return _usable(found, target)


def _usable(found: object, target: str) -> type[Driver[Any]]:
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise ConfigError(f"driver {target!r} is not a Driver class")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigError(f"driver {target!r} lacks {missing}")
    return found


def _importable(name: str) -> bool:
    """Whether the name is a module's; a folder that merely has its name is none."""
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # noqa: BLE001  # the package around it is imported, and may do anything
        return True  # importing it will say what is wrong
    return spec is not None and spec.loader is not None


def _by_module(name: str) -> type[Driver[Any]]:
    module, colon, attribute = name.partition(":")
    if colon:
        return load_class(name)
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # an import runs the author's code
        raise ConfigError(f"driver {name!r} cannot be loaded: {_import_problem(error)}") from None
    return _only(found, attribute, name)


def _file(name: str) -> ModuleType:
    """Import a file as the module that its name says, with its folder on the path."""
    path = Path(name).absolute()
    if not path.is_file():
        raise ConfigError(f"driver {name!r} cannot be loaded: there is no such file")
    stem = path.stem if path.stem.isidentifier() else "driver"
    called = f"{stem}_file" if stem in {*sys.modules, *sys.stdlib_module_names} else stem
    spec = importlib.util.spec_from_file_location(called, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"driver {name!r} cannot be loaded: it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[called] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # an import runs the author's code
        raise ConfigError(f"driver {name!r} cannot be loaded: {_import_problem(error)}") from None
    return module


def _only(module: ModuleType, attribute: str, target: str) -> type[Driver[Any]]:
    """The class that was named, or the only one that the module has of its own."""
    if attribute:
        found = getattr(module, attribute, None)
        if found is None:
            raise ConfigError(f"driver {target!r} cannot be loaded: it has no {attribute!r}")
        return _usable(found, f"{target}:{attribute}")
    own = [each for each in vars(module).values() if _is_own(each, module.__name__)]
    classes = {each.__name__: each for each in own if not inspect.isabstract(each)}
    if len(classes) == 1:
        return next(iter(classes.values()))
    if classes:
        named = ", ".join(f"{target}:{name}" for name in sorted(classes))
        raise ConfigError(f"driver {target!r} could be any of {named}")
    if len(own) == 1:
        return _usable(own[0], f"{target}:{own[0].__name__}")  # says what it lacks
    raise ConfigError(f"driver {target!r} cannot be loaded: it has no Driver class of its own")


def _is_own(thing: Any, module: str) -> TypeGuard[type[Driver[Any]]]:
    """Whether it is a driver class that the module, or a part of the package, defines."""
    if not (isinstance(thing, type) and issubclass(thing, Driver)):
        return False
    return thing.__module__ == module or thing.__module__.startswith(f"{module}.")


def _import_problem(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"there is no module {error.name!r}"
    if isinstance(error, SyntaxError):
        place = f"{PurePath(error.filename or '').name}:{error.lineno}"
        return f"SyntaxError at {place}: {printable(error.msg)}"
    if isinstance(error, ImportError) and error.name:  # one that Python made: "cannot import name"
        return printable(str(error))
    return describe(error)


def _by_entry_point() -> Iterator[Offer]:
    for entry in metadata.entry_points(group=DRIVER_GROUP):
        yield Offer(name=entry.name, target=entry.value, source=_source(entry))


def _by_plugin() -> Iterator[Offer]:
    for entry in metadata.entry_points(group=PLUGIN_GROUP):
        # A manager each: one that fails in the middle leaves the others untouched.
        manager = pluggy.PluginManager(_PROJECT)
        manager.add_hookspecs(_Specification)
        try:
            manager.register(entry.load(), entry.name)
            manager.check_pending()  # a misspelt hook
            answers = manager.hook.openshell_drivers_offer()
            offered = [item for answer in answers for item in dict(answer).items()]
            problem = "" if answers else "it offers nothing"
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin may raise anything
            offered, problem = [], _import_problem(error)
        if problem:
            yield Offer(name=entry.name, target="", source=_source(entry), problem=problem)
        for name, target in offered:
            yield Offer(name=str(name), target=str(target), source=_source(entry))


def _source(entry: metadata.EntryPoint) -> str:
    try:
        name = entry.dist.name if entry.dist is not None else None
    except Exception:  # noqa: BLE001  # metadata that is damaged or half removed
        name = None
    return name or "unknown"
