"""One event loop for all tests here, as for tests/runtime, and a root that is empty in the end."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.reference.sandboxes import inhabitants


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keeps the loop open between the tests: grpcio's queue outlives a test."""
    yield  # noqa: PT022  # a loop is kept as long as an async fixture is not over


@pytest.fixture
def root(short_dir: Path) -> Iterator[Path]:
    """Where a `Process` driver may keep its sandboxes; nothing of them survives the test."""
    yield short_dir / "root"
    while left := inhabitants(short_dir):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
