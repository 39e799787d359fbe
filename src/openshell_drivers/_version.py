"""Where a driver's version comes from when its class does not say."""

from __future__ import annotations

from typing import Any, Final

from openshell_drivers.driver import Driver

_UNKNOWN: Final = "0.0.0"


def driver_version(driver: Driver[Any] | type[Driver[Any]]) -> str:
    """Give the class's `version`, else that of the distribution named like its package."""
    if driver.version:
        return driver.version
    from importlib import metadata

    kind = driver if isinstance(driver, type) else type(driver)
    try:
        return metadata.version(kind.__module__.partition(".")[0]) or _UNKNOWN
    except metadata.PackageNotFoundError:
        return _UNKNOWN
