"""Find drivers by name among the installed packages, importing only the one that is asked for.

A package offers one driver by an entry point of group ``openshell_drivers``, named like the driver.
One that offers several, or decides at run time, registers a plugin module under
``openshell_drivers_plugins`` and implements the hook::

    from openshell_drivers.registry import hookimpl

    @hookimpl
    def openshell_drivers_offer():
        return {"alpha": "my_package.alpha:Alpha", "beta": "my_package.beta:Beta"}
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import PurePath
from typing import Any, Final

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
    """Import one driver's class, by name or by ``module:Class``.

    Raises `ConfigError` if nobody offers it, if several do, or if it cannot be imported.
    """
    if ":" in name:
        return load_class(name)
    offered = [o for o in _by_entry_point() if o.name == name]
    problems: list[Offer] = []
    if not offered:
        plugins = list(_by_plugin())
        offered = [o for o in plugins if o.name == name and not o.problem]
        problems = [o for o in plugins if o.problem]
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
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise ConfigError(f"driver {target!r} is not a Driver class")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigError(f"driver {target!r} lacks {missing}")
    return found


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
