"""Stop, start and delete."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import NotFound
from tests.conformance.bare.faults._tools import fault, override


@fault("delete-unknown-is-not-found", kills=("COMP-DEL-02",))
def _(driver: Driver) -> None:
    """Delete of what is not there is an error."""

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        if not answer.deleted:
            raise NotFound("there is no sandbox with this id")
        return answer


@fault("stop-returns-early", kills=("COMP-STOP-02",))
def _(driver: Driver) -> None:
    """Stop is answered when it has begun, and takes a second."""
    driver.platform.resources.stop_seconds = 1.0

    @override(driver.platform, "until")
    async def _(_original: Any, _condition: Any) -> None:
        return
