"""A request that makes something is carried to its end: `CreateScope.shielded`, COMP-CREATE-08."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from openshell_drivers import CreateScope, DeadlineExceeded, NotFound, Unavailable
from openshell_drivers.compute import SandboxSpec, SandboxState
from tests.compute.living import ID, REF, living, spec
from tests.fakes.compute import Gate, Polled


class Requested(Polled):
    """Makes a sandbox by one request, whose effect comes after its answer would be awaited."""

    seconds = 30.0

    def __init__(self) -> None:
        super().__init__()
        self.gate: Gate = self.platform.gate("request")
        self.fate = ""

    async def create_sandbox(self, spec: SandboxSpec, scope: CreateScope) -> str:
        return await scope.shielded(self._request, spec.id, seconds=self.seconds)

    async def _request(self, sandbox_id: str) -> str:
        try:
            await self.platform.step("request")
        except asyncio.CancelledError:
            self.fate = "given up"
            raise
        self.platform.put(sandbox_id, SandboxState.ready())
        self.fate = "carried out"
        return f"runtime-{sandbox_id}"


async def test_what_the_request_gives_is_given() -> None:
    driver = Requested()
    driver.gate.opened.set()
    async with living(driver) as life:
        assert await life.create(spec()) == f"runtime-{ID}"
        assert life.board.entry(ID) is not None


async def test_a_failure_of_the_request_is_the_creates() -> None:
    driver = Requested()
    driver.gate.opened.set()
    driver.platform.fail("request", lambda: Unavailable("not now"))
    async with living(driver) as life:
        with pytest.raises(Unavailable, match="not now"):
            await life.create(spec())
        assert driver.platform.count("delete") == 1


async def test_a_create_that_is_cancelled_waits_for_its_request_and_undoes_it() -> None:
    driver = Requested()
    async with living(driver) as life:
        call = asyncio.create_task(life.create(spec()))
        await driver.gate.reached.wait()
        call.cancel()
        await anyio.wait_all_tasks_blocked()
        assert driver.platform.count("delete") == 0  # it would find nothing
        driver.gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with life._locks.hold(ID):
            pass
        assert (driver.fate, driver.platform.present) == ("carried out", {})
        with pytest.raises(NotFound):
            await life.get(REF)


async def test_a_delete_waits_for_the_request_of_the_create_that_it_ends() -> None:
    driver = Requested()
    async with living(driver) as life, anyio.create_task_group() as tasks:

        async def create() -> None:
            with pytest.raises(Exception, match="ended by a later call"):
                await life.create(spec())

        tasks.start_soon(create)
        await driver.gate.reached.wait()
        tasks.start_soon(life.delete, REF)
        await anyio.wait_all_tasks_blocked()
        assert driver.platform.count("delete") == 0
        driver.gate.opened.set()
    assert (driver.fate, driver.platform.present) == ("carried out", {})


async def test_a_request_without_an_answer_is_given_up_in_time() -> None:
    driver = Requested()
    driver.seconds = 0.05
    async with living(driver) as life:
        with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.05 s"):
            await life.create(spec())
        assert driver.fate == "given up"
        assert driver.platform.count("delete") == 1


async def test_a_request_that_hangs_does_not_hold_up_the_end() -> None:
    """A process has 10 s to end (PROC-EXIT-02), and the undoing has its part of them."""
    driver = Requested()
    with anyio.fail_after(10):
        async with living(driver) as life:
            call = asyncio.create_task(life.create(spec()))
            await driver.gate.reached.wait()
        with pytest.raises(Unavailable, match="shutting down"):
            await call
    assert driver.fate == "given up"
    assert driver.platform.count("delete") == 1


async def test_no_request_is_begun_for_a_create_that_is_cancelled_already() -> None:
    begun: list[str] = []

    async def request() -> None:
        begun.append("request")

    with anyio.CancelScope() as given_up:
        given_up.cancel()
        await CreateScope(ID, lambda event: None, set()).shielded(request)
    assert given_up.cancelled_caught
    assert begun == []
