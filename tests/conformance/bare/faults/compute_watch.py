"""The watch."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._tools import fault, override


@fault("watch-headers-are-late", kills=("COMP-WATCH-04",))
def _(driver: Driver) -> None:
    """Headers go out with the first message."""

    @override(driver.calls, "headers")
    async def _(_original: Any, _context: Any) -> None:
        return


@fault("watch-never-says-deleted", kills=("COMP-WATCH-05",))
def _(driver: Driver) -> None:
    """Of a sandbox that is gone nothing is told."""

    @override(driver.hub, "deleted")
    def _(_original: Any, _sandbox_id: str) -> None:
        return


@fault("watch-has-no-snapshot", kills=("COMP-WATCH-01",))
def _(driver: Driver) -> None:
    """A new watch is told of changes alone."""

    @override(driver.compute, "greet")
    async def _(_original: Any, _watcher: Any) -> None:
        await driver.observer.known()
