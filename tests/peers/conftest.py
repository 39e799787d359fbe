"""The fixtures of the peers that a whole run has in common."""

from __future__ import annotations

from tests.peers.kube.plugin import kube, namespace, own_kube, pytest_collection_finish

__all__ = ["kube", "namespace", "own_kube", "pytest_collection_finish"]
