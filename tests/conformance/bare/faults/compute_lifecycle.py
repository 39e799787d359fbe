"""Stop."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import (
    FailedPrecondition,
    NotFound,
)
from tests.conformance.bare.faults._refusals import refuses
from tests.conformance.bare.faults._tools import fault, override
from tests.conformance.bare.resources import STARTING, STOPPED


@fault(
    "stop-returns-early",
    kills=("COMP-STOP-02",),
    also=("COMP01-START-01.c", "COMP-START-03.b", "COMP01-START-03.b"),
)
def _(driver: Driver) -> None:
    """Stop is answered when it has begun, and takes a second."""
    driver.platform.resources.stop_seconds = 1.0

    @override(driver.platform, "until")
    async def _(_original: Any, _condition: Any) -> None:
        return


@fault("stop-twice-is-refused", kills=("COMP-STOP-01.a", "COMP-STOP-01.c"))
def _(driver: Driver) -> None:
    """What is stopped cannot be stopped."""
    inner = driver.platform.stop

    @override(driver.platform, "stop")
    async def _(_original: Any, sandbox_id: str) -> None:
        found = driver.platform.resources.get(sandbox_id)
        if found is not None and found.state == STOPPED:
            raise FailedPrecondition("the sandbox is stopped")
        await inner(sandbox_id)


@fault("stop-unknown-is-ok", kills=("COMP-STOP-01.b",))
def _(driver: Driver) -> None:
    """Stop of what is not there is OK."""

    @override(driver.compute, "stop_sandbox")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except NotFound:
            return driver.compute.messages.StopSandboxResponse()


@fault("stop-is-for-one-at-a-time", kills=("COMP-STOP-01.c",))
def _(driver: Driver) -> None:
    """A stop that meets another one is refused."""
    stopping: set[str] = set()

    @override(driver.compute, "stop_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if request.sandbox_id in stopping:
            raise FailedPrecondition("the sandbox is being stopped")
        stopping.add(request.sandbox_id)
        try:
            return await original(request)
        finally:
            stopping.discard(request.sandbox_id)


@fault("stopped-is-not-found", kills=("COMP-STOP-03",), also=("COMP-STOP-04",))
def _(driver: Driver) -> None:
    """Get of a stopped sandbox is NOT_FOUND."""

    @override(driver.compute, "get_sandbox")
    async def _(original: Any, request: Any) -> Any:
        found = driver.compute.find(request.sandbox_id)
        if found is not None and found.state == STOPPED:
            raise NotFound("there is no sandbox with this id")
        return await original(request)


@fault("stop-is-told-as-removal", kills=("COMP-STOP-04",), also=("COMP-START-03.b",))
def _(driver: Driver) -> None:
    """A deleted event follows a stop."""

    @override(driver.compute, "stop_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        asyncio.get_running_loop().call_later(0.1, driver.hub.deleted, request.sandbox_id)
        return answer


@fault("stop-removes-what-starts", kills=("COMP-STOP-04.b",))
def _(driver: Driver) -> None:
    """Stop of a sandbox that is being made removes it."""

    @override(driver.platform, "stop")
    async def _(original: Any, sandbox_id: str) -> None:
        found = driver.platform.resources.get(sandbox_id)
        if found is not None and found.state == STARTING and found.instance == 1:
            driver.platform.resources.remove(sandbox_id)
            return
        await original(sandbox_id)


@fault(
    "stop-is-claimed-only",
    kills=("COMP-STOP-05",),
    also=("COMP-STOP-01.c", "COMP01-START-03.b", "COMP-CAP-04"),
)
def _(driver: Driver) -> None:
    """The driver manages lifecycles, and refuses to stop anything."""
    refuses(driver, "stop_sandbox")


@fault("stop-without-id-is-not-found", kills=("COMP-STOP-06",))
def _(driver: Driver) -> None:
    """Stop with an empty id is NOT_FOUND."""

    @override(driver.compute, "stop_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if not request.sandbox_id:
            raise NotFound("there is no sandbox with this id")
        return await original(request)
