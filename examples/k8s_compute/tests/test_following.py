"""A cluster that says it serves sandboxes, and does not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import httpx2
import pytest
from openshell_compute_k8s import KubernetesConfig
from openshell_compute_k8s._api import Api
from openshell_compute_k8s._cluster import Cluster

from openshell_drivers import CreateScope, SandboxFeed, SandboxSpec, Unavailable
from openshell_drivers.compute import SandboxTemplate

SERVED = {"versions": [{"version": "v1beta1"}]}
NOT_SERVED = {"code": 404, "reason": "NotFound", "details": {}}
SPEC = SandboxSpec(id="one", name="one", workspace="w", template=SandboxTemplate(image="x"))


def cluster(answer: Callable[[str, str], dict[str, Any]]) -> tuple[Cluster, Counter[str]]:
    """A cluster that answers so, and what was asked of it."""
    asked: Counter[str] = Counter()

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked[f"{request.method} {request.url.path}"] += 1
        found = answer(request.method, request.url.path)
        return httpx2.Response(found.get("code", 200), json=found)

    client = httpx2.AsyncClient(base_url="http://x", transport=httpx2.MockTransport(handle))
    api = Api(client, namespace="ns", request_timeout=5, connect_timeout=2, token_file=None)
    return Cluster(api, KubernetesConfig(namespace="ns"), longest=120), asked


def nothing_there(_: str, path: str) -> dict[str, Any]:
    """Discovery names a version whose resource is not there."""
    if path == "/apis/agents.x-k8s.io":
        return SERVED
    if path.endswith("/sandboxes"):
        return NOT_SERVED
    return {"metadata": {"resourceVersion": "5"}, "items": []}


async def test_it_is_asked_ever_more_seldom_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "openshell_compute_k8s")
    broken, asked = cluster(nothing_there)
    with anyio.move_on_after(2):
        await broken.observe(SandboxFeed())
    assert 2 <= asked["GET /apis/agents.x-k8s.io"] <= 6
    said = [each.message for each in caplog.records]
    assert said.count("the cluster cannot be observed") == 1


async def test_a_create_there_is_unavailable_and_asks_anew_what_is_served() -> None:
    broken, asked = cluster(nothing_there)
    for _ in range(2):
        with pytest.raises(Unavailable, match="does not serve sandboxes now"):
            await broken.creating.create(SPEC, CreateScope("one", lambda event: None, set()))
    assert asked["GET /apis/agents.x-k8s.io"] == 2
