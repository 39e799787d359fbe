"""Fixtures for tests that need a real Kubernetes; a conftest imports all that `__all__` names.

``kube`` is one cluster for all workers of a run, which no test may stop or starve; ``namespace`` is
a test's own place in it. ``own_kube`` is a cluster for the tests of one module, to disturb. The
tests are marked ``kube``, and are skipped where there is no Kubernetes, unless REQUIRE_PEERS=1.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from functools import cache

import pytest

from tests.peers.kube.access import Access, ApiError
from tests.peers.kube.cluster import Cluster
from tests.peers.kube.dist import ensure_kubernetes
from tests.peers.kube.serving import ensure_served
from tests.peers.processes import PeerFailed, PeerMissing, wait_until

__all__ = ["kube", "make_namespace", "namespace", "own_kube", "pytest_collection_finish"]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing before the first test, and give tests time for a cluster's start.

    On a machine that is busy with other tests that may take longer than a test has by default.
    """
    marked = [item for item in session.items if item.get_closest_marker("kube")]
    for item in marked:
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))
    if marked and not session.config.option.collectonly:
        _missing()


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """The run's cluster. It ends when the run does, however that ends."""
    _require()
    folder, owner = tmp_path_factory.getbasetemp(), os.getpid()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder, owner = folder.parent, os.getppid()
    access = ensure_served(folder / "kube", owner)
    yield access
    access.disconnect()


@pytest.fixture
def namespace(kube: Access) -> Iterator[str]:
    """A new namespace in the run's cluster, deleted afterwards without waiting for it."""
    name = make_namespace(kube)
    yield name
    kube.remove(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def own_kube() -> Iterator[Cluster]:
    """A cluster for the tests of this module alone, to stop and to disturb; some 6 s."""
    _require()
    with Cluster() as cluster:
        yield cluster


def make_namespace(access: Access) -> str:
    """Make a namespace that pods can be made in, and return its name, which nothing else has."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    access.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    if not wait_until(lambda: _exists(access, path), timeout=30):
        raise PeerFailed(f"namespace {name} has no service account")
    return name


def _exists(access: Access, path: str) -> bool:
    try:
        access.api("GET", path)
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True


@cache
def _missing() -> PeerMissing | None:
    """Why there is no Kubernetes here; it is asked, and built, once only."""
    try:
        ensure_kubernetes()
    except PeerMissing as missing:
        return missing
    return None


def _require() -> None:
    if missing := _missing():
        if os.environ.get("REQUIRE_PEERS") == "1":
            raise missing
        pytest.skip(f"no Kubernetes: {missing}")
