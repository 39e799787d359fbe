"""`Switch`: how the platform behind the driver feels today, as a file says.

The file holds JSON such as ``{"outage": true, "delay": 0.3}`` and is read at every access, so a
test breaks and heals the platform of a running driver. No file, no trouble.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from tests.conformance.bare.errors import Unavailable


class Switch:
    """Lets an access to the platform through, late or not at all."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        """What the file says now."""
        try:
            found = json.loads(self.path.read_bytes()) if self.path else {}
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, **changed: object) -> None:
        """Change some of what the file says, in one step."""
        if self.path is None:
            raise ValueError("there is no switch file")
        made = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        made.write_text(json.dumps({**self.read(), **changed}))
        made.replace(self.path)

    async def access(self, limit: float) -> None:
        """Wait as long as the platform takes; raises `Unavailable` if it cannot be reached.

        Not longer than `limit` seconds: gateways set no deadline (COMP-GET-05).
        """
        state = self.read()
        delay = float(state.get("delay", 0))
        if delay > 0:
            await asyncio.sleep(min(delay, limit))
        if delay > limit:
            raise Unavailable("the platform did not answer in time")
        if state.get("outage"):
            raise Unavailable("the platform cannot be reached")
