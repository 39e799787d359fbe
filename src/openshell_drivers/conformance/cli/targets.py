"""From a command's arguments to the request that the engine gets."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openshell_drivers.conformance._asked import BadOption, request_of, values
from openshell_drivers.conformance._resolve import passed_on, resolve
from openshell_drivers.errors import ConfigError


def requested(text: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Read a target and its options. Raises `ConfigError`."""
    folder = Path.cwd()
    target = resolve(text, cwd=folder, python=sys.executable)
    try:
        request = request_of(target, options, folder)
    except BadOption as error:
        raise ConfigError(str(error)) from None
    request["target"]["environment"].update(passed_on(values(options.get("env"))))
    return request
