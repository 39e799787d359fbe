"""`KubernetesDriver`: sandboxes as agent-sandbox resources, whose controller makes the pods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

import anyio
import anyio.to_thread

from openshell_compute_k8s._pod import SUPPORT
from openshell_compute_k8s.config import KubernetesConfig
from openshell_compute_k8s.options import SandboxOptions
from openshell_drivers import (
    AdmissionPolicy,
    AuthenticatedSandbox,
    ComputeDriver,
    CreateScope,
    ObservedSandbox,
    PlatformEvent,
    SandboxFeed,
    SandboxRef,
    SandboxSpec,
    Secret,
    StartRequest,
    Support,
    Unavailable,
)

if TYPE_CHECKING:
    from openshell_compute_k8s._cluster import Cluster

_LOADING: Final = 20.0


class KubernetesDriver(ComputeDriver[KubernetesConfig]):
    """Runs sandboxes on Kubernetes, as ``Sandbox`` resources of agent-sandbox.

    A resource is found again by the sandbox's id; names may repeat. The cluster is watched, so that
    nothing is asked of it at rest but whether it is there.
    """

    name: ClassVar[str] = "k8s"
    driver_config_model: ClassVar[type[Any] | None] = SandboxOptions
    support: Support = SUPPORT

    def __init__(self, config: KubernetesConfig) -> None:
        super().__init__(config)
        self.default_image = config.default_image
        self.lifecycle_timeout = max(120.0, config.stop_timeout + 2 * config.request_timeout)
        self._loaded = anyio.Event()
        self._cluster: Cluster | None = None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Load the Kubernetes client beside the serving; no cluster is needed to start."""
        async with anyio.create_task_group() as background:
            background.start_soon(self._load)
            try:
                yield
            finally:
                background.cancel_scope.cancel()
                with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                    if self._cluster is not None:
                        await self._cluster.close()

    async def _load(self) -> None:
        self._cluster = await anyio.to_thread.run_sync(
            _connect, self.config, self.lifecycle_timeout
        )
        self._loaded.set()

    async def _ready(self) -> Cluster:
        with anyio.move_on_after(_LOADING):
            await self._loaded.wait()
        if self._cluster is None:
            raise Unavailable("the Kubernetes client is not loaded yet")
        return self._cluster

    def admission_policy(self) -> AdmissionPolicy:
        """Say what the operator lets sandboxes attach."""
        return AdmissionPolicy(
            allow_driver_config=self.config.allow_driver_config,
            enabled=self.config.admission_enabled,
            required_labels=self.config.admission_labels,
        )

    def authenticates_sandboxes(self) -> bool:
        """Say whether the operator has it on."""
        return self.config.authenticate_sandboxes

    async def observe(self, feed: SandboxFeed) -> None:
        """Watch the cluster."""
        await (await self._ready()).observe(feed)

    async def list_sandboxes(self) -> Sequence[ObservedSandbox]:
        """List as the API server has it; what a gateway asks is answered from the watch."""
        return await (await self._ready()).list()

    async def validate_sandbox_create(self, spec: SandboxSpec) -> None:
        """Refuse what this cluster cannot run."""
        await (await self._ready()).creating.validate(spec)

    async def create_sandbox(self, spec: SandboxSpec, scope: CreateScope) -> str:
        """Create the resource. What a failure leaves is found by `delete_sandbox`."""
        cluster = await self._ready()
        scope.event(PlatformEvent.progress("requesting_sandbox"))
        return await cluster.creating.create(spec, scope)

    async def delete_sandbox(self, ref: SandboxRef) -> bool:
        """Have the resource removed: after its pod and claims, and before its Secrets, which the
        garbage collector takes then."""
        return await (await self._ready()).delete(ref)

    async def stop_sandbox(self, ref: SandboxRef) -> None:
        """End the pod and keep the claims."""
        await (await self._ready()).running.stop(ref)

    async def start_sandbox(self, ref: SandboxRef, request: StartRequest) -> str:
        """Let the controller make a pod again."""
        return await (await self._ready()).running.start(ref, request)

    async def authenticate_sandbox(self, credential: Secret) -> AuthenticatedSandbox:
        """Find the sandbox that a projected service-account token was made for."""
        return await (await self._ready()).authenticate(credential)

    async def ensure_workspace(self, workspace: str) -> None:
        """Make a workspace's namespace, if workspaces are managed."""
        await (await self._ready()).ensure_workspace(workspace)

    async def delete_workspace(self, workspace: str) -> None:
        """Remove a workspace's namespace, if workspaces are managed and it is empty."""
        await (await self._ready()).delete_workspace(workspace)


def _connect(config: KubernetesConfig, longest: float) -> Cluster:
    """Import the client, which takes a third of a second and 20 MiB, and read the kubeconfig."""
    from openshell_compute_k8s._api import Api
    from openshell_compute_k8s._cluster import Cluster

    return Cluster(Api.connect(config), config, longest=longest)
