"""Fixtures: asyncio, and the run's Kubernetes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.k8s_compute.tests.world import World
from tests.peers.kube import Access
from tests.peers.kube.plugin import kube, namespace, own_kube, pytest_collection_finish

__all__ = ["kube", "namespace", "own_kube", "pytest_collection_finish"]


@pytest.fixture
def anyio_backend() -> str:
    """The server is grpc.aio's, so the loop is asyncio's."""
    return "asyncio"


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path is short enough for sockets, whatever the test is called."""
    home = Path(tempfile.mkdtemp(prefix="osd-"))
    yield home
    shutil.rmtree(home)


@pytest.fixture
def socket_path(short_dir: Path) -> Path:
    """Where a driver may put its socket; the server makes the directory."""
    return short_dir / "run" / "driver.sock"


@pytest.fixture
def world(kube: Access, namespace: str) -> World:
    """A namespace of the test's own in the run's cluster."""
    return World(kube, namespace)
