"""Fixtures: asyncio, and the run's Kubernetes."""

from __future__ import annotations

import gc
import shutil
import tempfile
import warnings
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


@pytest.fixture(autouse=True)
def _collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let go of connections that were cancelled in the midst of TLS's greeting.

    The HTTP library leaves those to the garbage collector, which would complain in a later test.
    """
    yield
    if request.node.get_closest_marker("kube"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
