"""A real Kubernetes on loopback, without nodes: what the Kubernetes driver is tested against.

Real are etcd, the API server, the controller manager, the scheduler and the agent-sandbox
controller with its conversion webhook; kwok stands in for the nodes and runs no containers.
``Cluster`` starts one of its own, ``plugin`` gives the tests of a run one in common, and
``python -m tests.peers.kube`` fills the cache or runs one by hand.
"""

from __future__ import annotations

from tests.peers.kube.access import Access, ApiError
from tests.peers.kube.cluster import Cluster
from tests.peers.kube.dist import ensure_kubernetes

__all__ = ["Access", "ApiError", "Cluster", "ensure_kubernetes"]
