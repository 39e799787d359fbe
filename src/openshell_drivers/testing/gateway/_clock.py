"""`Clock`: the gateway's time, which may pass faster than the real one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import anyio


@dataclass(frozen=True, slots=True)
class Clock:
    """Time in seconds of the gateway; `speed` of them pass in one real second."""

    speed: float = 1.0

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise ValueError("speed must be positive")

    def now(self) -> float:
        """Give an instant to compute with; comparable with others of this clock only."""
        return time.monotonic() * self.speed

    def born(self, created: datetime) -> float:
        """Give the instant of something that was made before this clock was."""
        return self.now() - (datetime.now(UTC) - created).total_seconds() * self.speed

    def real(self, seconds: float) -> float:
        """Give the real seconds that so many of the gateway's take."""
        return seconds / self.speed

    async def sleep(self, seconds: float) -> None:
        """Wait for so many of the gateway's seconds."""
        await anyio.sleep(self.real(seconds))
