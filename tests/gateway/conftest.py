"""A scripted driver behind a socket. One event loop for all tests here, as for tests/runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from openshell_drivers.testing.gateway import PRESETS
from tests.fakes.scripted_compute import ScriptedCompute

UPSTREAM = ("0.0.111", "0.1.2", "0.1-latest")
NEWEST = ("0.1.2", "0.1-latest")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keeps the loop open between the tests: grpcio's queue outlives a test."""
    yield  # noqa: PT022  # a loop is kept as long as an async fixture is not over


@pytest.fixture(params=list(PRESETS))
def preset(request: pytest.FixtureRequest) -> str:
    """Each of the four gateways."""
    return str(request.param)


@pytest.fixture
async def driver(socket_path: Path) -> AsyncIterator[ScriptedCompute]:
    """A scripted driver, serving."""
    scripted = ScriptedCompute()
    async with scripted.serving(socket_path):
        yield scripted
