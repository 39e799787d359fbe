"""`KeyedLocks`: one key at a time, nothing kept."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from openshell_drivers._locks import KeyedLocks


async def test_holders_of_one_key_take_turns_in_order() -> None:
    locks, order = KeyedLocks(), []

    async def hold(number: int) -> None:
        async with locks.hold("key"):
            order.append(number)
            await anyio.lowlevel.checkpoint()
            order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(hold, number)

    assert order == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


async def test_other_keys_do_not_wait() -> None:
    locks = KeyedLocks()

    async with locks.hold("one"):
        with anyio.fail_after(5):
            async with locks.hold("other"):
                pass


async def test_nothing_is_kept_of_keys_that_nobody_holds() -> None:
    locks = KeyedLocks()

    async def give_up() -> None:
        with anyio.move_on_after(0.01):
            async with locks.hold("held"):
                raise AssertionError("held twice")

    async with locks.hold("held"), anyio.create_task_group() as tasks:
        tasks.start_soon(give_up)
    for number in range(100):
        async with locks.hold(f"key {number}"):
            pass

    assert locks._locks == {}
