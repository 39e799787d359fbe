"""`Backoff`: a frozen policy whose iteration yields the delays between attempts, and ends.

Does no waiting itself, so any loop, synchronous or not, can use it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Say how often to try and how long to wait in between.

    Iterating yields ``attempts - 1`` delays in seconds, so a loop that tries once before the first
    delay and once after each makes exactly `attempts` attempts. Each iteration starts anew.

    The default is the gateways' own: 100 attempts, 100 ms apart (COMP-SOCK-03).
    """

    attempts: int | None = 100
    """How many attempts in all; None for no end."""
    delay: float = 0.1
    """The first delay, in seconds."""
    factor: float = 1.0
    """What each delay is multiplied with to give the next."""
    maximum: float = 60.0
    """No delay is longer, in seconds; jitter included."""
    jitter: float = 0.0
    """The share of a delay, from 0 to 1, that is drawn at random, so that clients spread out."""

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise ValueError("attempts must be at least 1")
        if self.delay < 0 or self.maximum < 0:
            raise ValueError("delays must not be negative")
        if self.factor < 1:
            raise ValueError("factor must be at least 1")
        if not 0 <= self.jitter <= 1:
            raise ValueError("jitter must lie between 0 and 1")

    def __iter__(self) -> Iterator[float]:
        base = min(self.delay, self.maximum)
        made = 1
        while self.attempts is None or made < self.attempts:
            yield base * (1 - self.jitter * random.random())
            base = min(base * self.factor, self.maximum)
            made += 1
