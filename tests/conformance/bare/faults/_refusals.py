"""Refusing an RPC by a sandbox's state."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import FailedPrecondition
from tests.conformance.bare.faults._tools import override


def refuses(driver: Driver, rpc: str, *states: str) -> None:
    """Refuse an RPC for a sandbox in these states."""

    @override(driver.compute, rpc)
    async def _(original: Any, request: Any) -> Any:
        found = driver.compute.find(request.sandbox_id)
        if found is not None and (not states or found.state in states):
            raise FailedPrecondition("not in this state")
        return await original(request)
