"""A driver at a real cluster, in a namespace of its own, and what the tests ask of both."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import httpx
from openshell_compute_k8s import KubernetesConfig, KubernetesDriver

from openshell_drivers.client import Connection, connect
from openshell_drivers.server import running
from tests.peers.kube import Access
from tests.peers.processes import wait_until

#: A pod without a claim, so that it does not wait for a volume.
LIGHT: Final[dict[str, Any]] = {"workspace": {"volume": "none"}}
V1BETA1: Final = "agents.x-k8s.io/v1beta1"


async def eventually(holds: Callable[[], bool], within: float = 30.0) -> bool:
    """Wait for something at the cluster, while the driver of this very loop goes on."""
    return await anyio.to_thread.run_sync(wait_until, holds, within)


class World:
    """One tenant's namespace, with the service account of its sandboxes."""

    def __init__(self, kube: Access, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        account = {"metadata": {"name": "openshell-sandbox"}}
        kube.api("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)

    def config(self, **changes: Any) -> KubernetesConfig:
        """Configure a driver for this namespace, with all rights."""
        known: dict[str, Any] = {
            "kubeconfig": self.kube.kubeconfig,
            "namespace": self.namespace,
            "pod": LIGHT,
        }
        return KubernetesConfig(**{**known, **changes})

    @asynccontextmanager
    async def serving(self, socket: Path, **changes: Any) -> AsyncIterator[KubernetesDriver]:
        """Serve a driver at a socket."""
        driver = KubernetesDriver(self.config(**changes))
        async with running(driver, socket=socket):
            yield driver

    @asynccontextmanager
    async def caller(self, socket: Path, **changes: Any) -> AsyncIterator[Connection]:
        """Serve a driver, and call it without a gateway."""
        async with self.serving(socket, **changes), connect(socket) as connection:
            yield connection

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Give an HTTP client of the API server with all rights."""
        config = json.loads(self.kube.kubeconfig.read_text())
        token = config["users"][0]["user"]["token"]
        context = ssl.create_default_context(cafile=str(self.kube.ca_file))
        async with httpx.AsyncClient(
            base_url=self.kube.server,
            headers={"Authorization": f"Bearer {token}"},
            verify=context,
            timeout=30,
        ) as client:
            yield client

    def objects(self, plural: str, *, group: str = "", selector: str = "") -> list[dict[str, Any]]:
        """Read all objects of a kind in the namespace back from the API server."""
        root = f"/apis/{group}" if group else "/api/v1"
        path = f"{root}/namespaces/{self.namespace}/{plural}"
        found: list[dict[str, Any]] = self.kube.api(
            "GET", path, query={"labelSelector": selector} if selector else None
        )["items"]
        return found

    def sandboxes(self, selector: str = "") -> list[dict[str, Any]]:
        """Read the Sandbox resources back."""
        return self.objects("sandboxes", group=V1BETA1, selector=selector)

    def only_sandbox(self) -> dict[str, Any]:
        """Read the one Sandbox resource back."""
        (found,) = self.sandboxes()
        return found

    def patch(self, plural: str, name: str, change: dict[str, Any], *, group: str = "") -> None:
        """Merge a change into an object, as somebody else would."""
        root = f"/apis/{group}" if group else "/api/v1"
        self.kube.api("PATCH", f"{root}/namespaces/{self.namespace}/{plural}/{name}", change)
