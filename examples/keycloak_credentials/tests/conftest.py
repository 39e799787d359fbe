"""Fixtures: asyncio, a world on disk, and the endpoint that gives odd answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from examples.keycloak_credentials.tests.world import World
from tests.peers.scripted import ScriptedEndpoint


@pytest.fixture
def anyio_backend() -> str:
    """The server is grpc.aio's, so the loop is asyncio's."""
    return "asyncio"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A secrets directory of the test's own."""
    return World(tmp_path)


@pytest.fixture
async def endpoint(anyio_backend: str) -> AsyncIterator[ScriptedEndpoint]:
    """An issuer that does as it is told."""
    async with ScriptedEndpoint() as scripted:
        yield scripted
