"""What the wire tests share: a served vault, and each revision's compiled schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from openshell_drivers.server import running
from tests.wire import schemas
from tests.wire.gateway import Gateway, dial
from tests.wire.vault import Vault


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest.fixture
async def gateway(vault: Vault, socket_path: Path) -> AsyncIterator[Gateway]:
    """A peer of the served vault."""
    async with running(vault, socket=socket_path), dial(socket_path) as peer:
        yield peer


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a revision's modules, compiled once from its own schema."""
    done: dict[str, Path] = {}

    def compile_once(revision: str) -> Path:
        if revision not in done:
            done[revision] = tmp_path_factory.mktemp("schemas") / revision
            schemas.write(revision, done[revision])
            schemas.compile_python(done[revision])
        return done[revision]

    return compile_once
