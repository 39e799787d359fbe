"""Describe an exception by types and places, never by its text, which may hold anything.

What logs and exits use for an exception that nobody expected.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from types import FrameType
from typing import Final

_FRAMES: Final = 4
_DEPTH: Final = 5


class Misuse(Exception):
    """An author's mistake that the SDK found. Its text is the SDK's own, so it may be shown."""


class WrongType(Misuse, TypeError):
    """Something of another type than was asked for."""


class WrongValue(Misuse, ValueError):
    """Something of the right type that cannot be."""


def describe(error: BaseException) -> str:
    """Say what was raised and where: ``KeyError at driver.py:31 in resolve; from OSError ...``."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(parts) < _DEPTH:
        parts.append(_one(seen))
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "; from ".join(parts)


def task_cancelled() -> bool:
    """Say whether a `CancelledError` means this task.

    If it does not, something that the task awaited was cancelled: a fault like any other. Passed
    on as a cancellation, it would end who is not concerned.
    """
    import asyncio

    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _one(error: BaseException) -> str:
    import traceback

    name = type(error).__qualname__
    if isinstance(error, BaseExceptionGroup):
        inner = ", ".join(describe(each) for each in error.exceptions[:_DEPTH])
        return f"{name}({inner})"
    if isinstance(error, OSError) and isinstance(error.errno, int):
        name = f"{name}(errno {error.errno})"
    if isinstance(error, Misuse):
        name = f"{name}: {error}"
    place = places(traceback.walk_tb(error.__traceback__), _FRAMES)
    return f"{name} at {place}" if place else name


def places(stack: Iterable[tuple[FrameType, int]], most: int) -> str:
    """Name the innermost frames of a stack, the innermost first; not those of the import system."""
    frames = [
        f"{PurePath(frame.f_code.co_filename).name}:{line} in {frame.f_code.co_name}"
        for frame, line in stack
        if not frame.f_code.co_filename.startswith("<")
    ]
    return " < ".join(reversed(frames[-most:]))
