"""Wait for what cannot be awaited, and count what must not grow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import anyio


async def until(condition: Callable[[], object], within: float = 15.0) -> None:
    """Return when the condition holds; `TimeoutError` if it never does."""
    with anyio.fail_after(within):
        while not condition():  # noqa: ASYNC110  # nothing tells when
            await anyio.sleep(0.002)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def steady(count: Callable[[], int]) -> int:
    """The count, once it has not changed for a while."""
    same, last = 0, -1
    with anyio.fail_after(30):
        while same < 10:
            await anyio.sleep(0.02)
            number = count()
            same, last = (same + 1, last) if number == last else (0, number)
    return last


async def held() -> dict[str, int]:
    """What this process holds when it has come to rest."""
    return {
        "descriptors": await steady(descriptors),
        "tasks": await steady(lambda: len(asyncio.all_tasks())),
        "threads": await steady(threading.active_count),
    }
