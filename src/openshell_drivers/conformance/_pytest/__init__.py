"""The pytest front: it starts the engine, shows results as items, and passes on its exit status."""

from __future__ import annotations

import sys
from typing import Any, Final

import pytest

from openshell_drivers.conformance._asked import PROFILE_FILE, BadOption, request_of, values
from openshell_drivers.conformance._options import OPTIONS
from openshell_drivers.conformance._pytest.front import Front, NotRun
from openshell_drivers.conformance._pytest.worker import Waiting, WorkerFront
from openshell_drivers.conformance._resolve import passed_on, resolve
from openshell_drivers.errors import ConfigError

_USAGE: Final = 2


def begin(config: pytest.Config) -> None:
    """Register the front that this process needs: of the controller, or of a worker of xdist."""
    worker = hasattr(config, "workerinput")
    front = WorkerFront(config) if worker else _front(config)
    config.pluginmanager.register(front, "openshell-front")
    config.pluginmanager.register(Waiting(), "openshell-waiting")


def _front(config: pytest.Config) -> Front:
    options = {option.name: getattr(config.option, option.dest) for option in OPTIONS}
    folder = config.invocation_params.dir
    beside = config.rootpath / PROFILE_FILE
    if not options["config"] and not (folder / PROFILE_FILE).is_file() and beside.is_file():
        options["config"] = str(beside)
    try:
        target = resolve(config.option.openshell_driver, cwd=folder, python=sys.executable)
        request = request_of(target, options, folder)
        request["target"]["environment"].update(passed_on(values(options["env"])))
    except (ConfigError, BadOption) as error:
        raise NotRun(str(error), _USAGE) from None
    plugins = {f"{each.project_name} {each.version}" for _, each in _installed(config)}
    return Front(config, {**request, "plugins": sorted(plugins)})


def _installed(config: pytest.Config) -> list[tuple[object, Any]]:
    return list(config.pluginmanager.list_plugin_distinfo())
