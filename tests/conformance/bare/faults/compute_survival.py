"""What is left after kill -9, and what a second instance sees."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import AlreadyExists
from tests.conformance.bare.faults._tools import fault, override


@fault("nothing-is-kept", kills=("COMP-SOCK-11.a", "COMP-SOCK-11.f"), also=("COMP-SOCK-11.d",))
def _(driver: Driver) -> None:
    """A driver that starts knows of no sandbox."""
    driver.ledger.execute("DELETE FROM resources")


@fault("only-its-own-are-deleted", kills=("COMP-SOCK-11.b", "COMP-SOCK-11.f"))
def _(driver: Driver) -> None:
    """Delete knows only what this process has made."""
    made: set[str] = set()

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        made.add(sandbox.id)
        return await original(sandbox)

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if request.sandbox_id not in made:
            return driver.compute.messages.DeleteSandboxResponse(deleted=False)
        return await original(request)


@fault("delete-is-forgotten", kills=("COMP-SOCK-11.c",))
def _(driver: Driver) -> None:
    """A driver that starts goes on with what was being removed as if it ran."""
    driver.platform.resources.delete_seconds = 0.5
    driver.ledger.execute(
        "UPDATE resources SET state = 'running', due = NULL WHERE state = 'deleting'"
    )


@fault("create-is-in-two-halves", kills=("COMP-SOCK-11.d",))
def _(driver: Driver) -> None:
    """An id is taken first and its sandbox made 50 ms later; in between nobody tidies up."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        key = f"taken {sandbox.id}"
        if not driver.ledger.execute("INSERT OR IGNORE INTO meta VALUES (?, 1)", key):
            raise AlreadyExists("there is a sandbox with this id")
        try:
            await asyncio.sleep(0.05)
            return await original(sandbox)
        finally:
            driver.ledger.execute("DELETE FROM meta WHERE name = ?", key)


@fault("stop-is-stuck", kills=("COMP-SOCK-11.e",))
def _(driver: Driver) -> None:
    """What was being stopped when the driver was killed is so for ever."""
    driver.platform.resources.stop_seconds = 0.2
    driver.platform.patient_limit = 4.0
    driver.ledger.execute("UPDATE resources SET due = NULL WHERE state = 'stopping'")
