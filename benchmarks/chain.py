"""The SDK's work on one call without gRPC: its handler in a tight loop beside a plain one.

The quietest figure here, good for seeing a few microseconds come or go. In a server the same work
costs two to four times as much, because caches are cold.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from benchmarks.figures import Section, median
from benchmarks.processes import BODY, Bench
from benchmarks.raw import RESOLVE
from benchmarks.targets.sdk import OneToken
from openshell_drivers._logs import configure
from openshell_drivers._rpc import Traffic, generic_handler
from openshell_drivers._services.credentials import service
from openshell_drivers._wire import credentials_driver_pb2 as wire

_CALLS = 2000
_Handle = Callable[[bytes, Any], Awaitable[bytes]]


class _Call:
    """What a handler is given of a call: its path, and how long it may take."""

    def __init__(self, remaining: float | None) -> None:
        self.method = RESOLVE
        self.invocation_metadata = ()
        self._remaining = remaining

    def time_remaining(self) -> float | None:
        return self._remaining


def measure(bench: Bench, *, rounds: int, seconds: float) -> Section:
    """Time all handlers in turn, `rounds` times."""
    section = Section(
        title="The chain alone, in a tight loop",
        columns=("handler", "us", "best us", "best less plain us"),
    )
    sdk = _sdk_handler()
    cases: Sequence[tuple[str, _Handle, float | None, str]] = [
        ("parse, answer, serialize", _plain, None, "WARNING"),
        ("SDK", sdk, None, "WARNING"),
        ("SDK, deadline", sdk, 30.0, "WARNING"),
        ("SDK, deadline, JSON line to /dev/null", sdk, 30.0, "INFO"),
    ]
    found: dict[str, list[float]] = {name: [] for name, *_ in cases}
    for _ in range(rounds):
        for name, handle, remaining, level in cases:
            with _logging(level):
                found[name].append(asyncio.run(_time(handle, _Call(remaining))))
    floor = min(found[cases[0][0]])
    for name, taken in found.items():
        best = min(taken)
        section.rows.append((name, f"{median(taken):.1f}", f"{best:.1f}", f"{best - floor:.1f}"))
    section.samples = found
    return section


async def _time(handle: _Handle, call: _Call) -> float:
    for _ in range(_CALLS // 10):
        await handle(BODY, call)
    began = time.perf_counter()
    for _ in range(_CALLS):
        await handle(BODY, call)
    return (time.perf_counter() - began) / _CALLS * 1e6


async def _plain(raw: bytes, context: object) -> bytes:
    wire.ResolveCredentialRequest.FromString(raw)
    return wire.ResolveCredentialResponse(
        token="t" * 1200, expires_at_ms=1, token_type="Bearer"
    ).SerializeToString()


def _sdk_handler() -> _Handle:
    traffic = Traffic(call_timeout=30.0, max_calls=1024, max_streams=1)
    generic = generic_handler(service(cast("Any", OneToken())), traffic)
    handler: Any = generic.service(cast("Any", _Call(None)))
    return cast("_Handle", handler.unary_unary)


@contextmanager
def _logging(level: str) -> Iterator[None]:
    """Log as a driver does, into nothing."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configure(level, "json")
    with Path(os.devnull).open("w") as sink:
        handler = cast("logging.StreamHandler[io.TextIOBase]", root.handlers[0])
        handler.setStream(sink)
        try:
            yield
        finally:
            root.handlers[:], root.level = before
