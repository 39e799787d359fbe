"""One timer for many awaits, with the meaning of asyncio.timeout."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from openshell_drivers._timelimit import TimeLimit

pytestmark = pytest.mark.anyio

SOON = 0.05


async def answer(after: float = 0, result: str = "done") -> str:
    await anyio.sleep(after)
    return result


async def test_a_result_in_time_is_given() -> None:
    assert await TimeLimit(10).on(answer()) == "done"


async def test_what_takes_too_long_is_cancelled_and_ends_in_a_timeout() -> None:
    ended = anyio.Event()

    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await TimeLimit(SOON).on(slow())

    assert ended.is_set()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancel_from_elsewhere_stays_a_cancel() -> None:
    task = asyncio.ensure_future(TimeLimit(10).on(answer(60)))
    await asyncio.sleep(0)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_awaited_one_s_own_timeout_is_its_own() -> None:
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.01):
                await anyio.sleep_forever()
        except TimeoutError:
            return "mine"
        return "not reached"

    assert await TimeLimit(10).on(impatient()) == "mine"


async def test_who_swallows_the_cancel_may_still_answer() -> None:
    async def stubborn() -> str:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            return "late"
        return "not reached"

    assert await TimeLimit(SOON).on(stubborn()) == "late"
    await asyncio.sleep(0)  # the task is not left cancelled


async def test_each_of_many_has_its_own_end() -> None:
    limit = TimeLimit(SOON)
    loop = asyncio.get_running_loop()
    lasted: list[float] = []

    async def one(delay: float) -> None:
        await anyio.sleep(delay)
        began = loop.time()
        with pytest.raises(TimeoutError):
            await limit.on(answer(60))
        lasted.append(loop.time() - began)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(one, number / 200)

    assert len(lasted) == 20
    assert min(lasted) >= SOON * 0.9


async def test_it_works_again_after_everything_had_ended() -> None:
    limit = TimeLimit(SOON)
    with pytest.raises(TimeoutError):
        await limit.on(answer(60))

    with pytest.raises(TimeoutError):
        await limit.on(answer(60))
    assert await limit.on(answer()) == "done"
