"""The test switch: outages and slowness on demand, between the SDK and what it reaches.

A process has it only if ``OPENSHELL_DRIVERS_TEST_SWITCH`` names a file. While that file holds
``{"outage": true}``, whatever would reach the backend raises `Unavailable`, and sandboxes cannot be
observed; with ``{"delay": 0.3}`` it takes that many seconds longer. For the conformance suite.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio

from openshell_drivers.errors import Unavailable


class Switch:
    """What the file says, read whenever it matters."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.behind_cache = False
        """Whether there is a token cache, which stands between callers and the issuer."""

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def out(self) -> bool:
        """Whether there is an outage now."""
        return bool(self._read().get("outage"))

    async def reach(self) -> None:
        """Go to the backend: slowly if it is slow. Raises `Unavailable` in an outage."""
        delay = self._read().get("delay", 0)
        if delay:
            await anyio.sleep(float(delay))
        if self.out:
            raise Unavailable("the backend cannot be reached: the test switch says so")


_active: Switch | None = None


def turn_on(path: Path) -> Switch:
    """Give this process its switch."""
    global _active  # noqa: PLW0603  # a process has one driver and one switch
    _active = Switch(path)
    return _active


def active() -> Switch | None:
    """The switch of this process, if it has one."""
    return _active
