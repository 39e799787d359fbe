"""Delete, and what it leaves."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import FailedPrecondition, NotFound, Unavailable
from tests.conformance.bare.faults._tools import fault, override
from tests.conformance.bare.resources import DELETING, RUNNING


def _answer(driver: Driver, *, deleted: bool) -> Any:
    return driver.compute.messages.DeleteSandboxResponse(deleted=deleted)


@fault(
    "delete-unknown-is-not-found",
    kills=("COMP-DEL-02", "COMP01-DEL-01"),
    also=("COMP-DEL-04.d", "COMP-DEL-07"),
)
def _(driver: Driver) -> None:
    """Delete of what is not there is an error."""

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        if not answer.deleted:
            raise NotFound("there is no sandbox with this id")
        return answer


@fault("delete-says-true-again", kills=("COMP-DEL-02.b",))
def _(driver: Driver) -> None:
    """A second delete, of what is gone, says that it was deleted."""
    gone: set[str] = set()

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        if answer.deleted:
            gone.add(request.sandbox_id)
        return _answer(driver, deleted=request.sandbox_id in gone)


@fault(
    "delete-says-false",
    kills=("COMP-DEL-01.a",),
    also=("COMP-DEL-07", "COMP-DEL-04", "COMP01-IN-05.d"),
)
def _(driver: Driver) -> None:
    """`deleted` is never true."""

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        await original(request)
        return _answer(driver, deleted=False)


@fault(
    "deleted-comes-back",
    kills=("COMP-DEL-01.b",),
    also=(
        *("COMP-DEL-01.c", "COMP-DEL-04", "COMP-LIST-04", "COMP-WATCH-02.a", "COMP-WATCH-06.a"),
        *("COMP-SOCK-11", "COMP01-CREATE-02"),
    ),
)
def _(driver: Driver) -> None:
    """Something on the platform makes a sandbox again 700 ms after its removal."""
    resources = driver.platform.resources

    @override(resources, "remove")
    def _(original: Any, sandbox_id: str) -> None:
        found = resources.get(sandbox_id)
        original(sandbox_id)
        if found is not None and found.state == DELETING:
            again: tuple[Any, ...] = (found.id, found.name, found.workspace, found.image, {})
            asyncio.get_running_loop().call_later(0.7, resources.create, *again)


@fault("delete-wants-it-running", kills=("COMP-DEL-04.a", "COMP-DEL-04.b", "COMP-DEL-04.c"))
def _(driver: Driver) -> None:
    """Only what runs can be deleted."""

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        found = driver.compute.find(request.sandbox_id)
        if found is not None and found.state not in {RUNNING, DELETING}:
            raise FailedPrecondition("the sandbox does not run")
        return await original(request)


@fault("delete-can-happen-once", kills=("COMP-DEL-04.d", "COMP-DEL-07"))
def _(driver: Driver) -> None:
    """What is being removed, for 300 ms, cannot be deleted."""
    driver.platform.resources.delete_seconds = 0.3

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        found = driver.compute.find(request.sandbox_id)
        if found is not None and found.state == DELETING:
            raise FailedPrecondition("the sandbox is being removed")
        return await original(request)


@fault("delete-knows-the-name", kills=("COMP-DEL-08",), also=("COMP-IN-02.e",))
def _(driver: Driver) -> None:
    """Delete of an unknown id with the name of a living sandbox says that it was deleted."""

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        names = {each.name for each in driver.platform.resources.all()}
        answer = await original(request)
        return _answer(driver, deleted=answer.deleted or request.name in names)


@fault("delete-waits-for-the-end", kills=("COMP-DEL-09",))
def _(driver: Driver) -> None:
    """Where nobody watches, a delete is answered after six seconds."""

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        if answer.deleted and not driver.hub.watchers:
            await asyncio.sleep(6)
        return answer


@fault("delete-takes-a-conflict-for-the-end", kills=("COMP-DEL-03.a",), also=("COMP-DEL-07",))
def _(driver: Driver) -> None:
    """A delete that meets another change says that nothing is there."""
    busy: set[str] = set()

    def counts(rpc: str) -> None:
        @override(driver.compute, rpc)
        async def _(original: Any, request: Any) -> Any:
            busy.add(request.sandbox_id)
            try:
                answer = await original(request)
                await asyncio.sleep(0.02)
                return answer
            finally:
                busy.discard(request.sandbox_id)

    counts("stop_sandbox")
    counts("start_sandbox")

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if request.sandbox_id in busy:
            return _answer(driver, deleted=False)
        return await original(request)


@fault("delete-in-an-outage-says-false", kills=("COMP-DEL-03.b",), also=("COMP-DEL-06",))
def _(driver: Driver) -> None:
    """A delete that cannot reach the platform says that nothing is there."""

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except Unavailable:
            return _answer(driver, deleted=False)


@fault("failed-delete-forgets", kills=("COMP-DEL-06",), also=("COMP-DEL-03.b",))
def _(driver: Driver) -> None:
    """What could not be deleted is not the driver's any more."""

    @override(driver.compute, "delete_sandbox")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except Unavailable:
            query = "UPDATE resources SET managed = 0 WHERE id = ?"
            driver.ledger.execute(query, request.sandbox_id)
            raise


@fault("delete-leaves-a-volume", kills=("COMP-DEL-05",))
def _(driver: Driver) -> None:
    """The disk of a deleted sandbox stays."""

    @override(driver.platform, "delete")
    def _(original: Any, sandbox_id: str) -> None:
        original(sandbox_id)
        driver.platform.resources.create_foreign(f"{sandbox_id}-disk")


@fault("refused-create-leaves-a-secret", kills=("COMP-SEC-04.a",), also=("COMP-CREATE-02",))
def _(driver: Driver) -> None:
    """The token of a sandbox that was refused stays at the platform."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        try:
            return await original(sandbox)
        except FailedPrecondition:
            driver.platform.resources.create_foreign(f"{sandbox.id}-token")
            raise


@fault("token-file-stays", kills=("COMP-SEC-04.b",))
def _(driver: Driver) -> None:
    """A token is written to a file of its own, which nobody removes."""

    @override(driver.platform, "deliver")
    def _(original: Any, sandbox_id: str, token: str) -> None:
        original(sandbox_id, token)
        if token and driver.options.state is not None:
            path = driver.options.state.with_name(f"{sandbox_id}.token")
            path.touch(mode=0o600)
            path.write_text(token)
