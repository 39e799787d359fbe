"""An issuer of tokens with behaviour, and clocks that move when they are told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel

from openshell_drivers import DriverError, Secret
from openshell_drivers.tokens import FetchedToken


class Clocks:
    """The monotonic and the wall clock of a test; together unless one is set alone."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = datetime(2030, 1, 1, tzinfo=UTC)

    def clock(self) -> float:
        return self.monotonic

    def now(self) -> datetime:
        return self.wall

    def pass_(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += timedelta(seconds=seconds)


class Issuer:
    """Issues ``NAME-1``, ``NAME-2``...; counts, waits, fails as told."""

    def __init__(self, clocks: Clocks | None = None) -> None:
        self.clocks = clocks
        self.expires_in: object = 300
        self.takes = 0.0
        self.error: BaseException | None = None
        self.closed: dict[str, anyio.Event] = {}
        self.fetches: dict[str, int] = {}
        self.under_way = 0
        self.most = 0

    async def __call__(self, name: str) -> FetchedToken:
        number = self.fetches[name] = self.fetches.get(name, 0) + 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        error = self.error
        try:
            await anyio.lowlevel.checkpoint()
            if name in self.closed:
                await self.closed[name].wait()
            if self.clocks is not None:
                self.clocks.pass_(self.takes)
            if error is not None:
                raise error
        finally:
            self.under_way -= 1
        return FetchedToken(token=Secret(f"{name}-{number}"), expires_in=self.expires_in)

    def close(self, name: str) -> anyio.Event:
        """Let fetches of a name hang until the event is set."""
        self.closed[name] = anyio.Event()
        return self.closed[name]

    def fail(self, error: BaseException | None) -> None:
        self.error = error

    @property
    def total(self) -> int:
        return sum(self.fetches.values())


async def outcome(getting: object) -> str:
    """What awaiting gives: the token's text or the error's code."""
    try:
        return str((await getting).token.reveal())  # type: ignore[misc]  # any awaitable of it
    except DriverError as error:
        return error.code
