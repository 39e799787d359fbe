"""One event loop for all tests here, as a process that uses grpcio has (see tests/runtime)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keeps the loop open between the tests."""
    yield  # noqa: PT022  # a loop is kept as long as an async fixture is not over
