"""`Cluster`: what a gateway's calls do on a cluster. Imported late, with all that it needs."""

from __future__ import annotations

import logging
from typing import Final

import anyio

from openshell_compute_k8s._api import Api
from openshell_compute_k8s._authentication import pod_of_token, sandbox_of_pod
from openshell_compute_k8s._creating import Creating
from openshell_compute_k8s._failures import ApiRefusal
from openshell_compute_k8s._following import Follower
from openshell_compute_k8s._names import (
    selector,
)
from openshell_compute_k8s._objects import Sandbox
from openshell_compute_k8s._running import Running
from openshell_compute_k8s._sandbox_api import SandboxApi
from openshell_compute_k8s._seen import (
    observe,
    read_sandbox,
)
from openshell_compute_k8s._strays import Strays
from openshell_compute_k8s._view import View
from openshell_compute_k8s._workspaces import Workspaces
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import (
    AuthenticatedSandbox,
    DriverError,
    FailedPrecondition,
    InvalidArgument,
    ObservedSandbox,
    PermissionDenied,
    SandboxFeed,
    SandboxRef,
    Secret,
)
from openshell_drivers.naming import label_value

_log: Final = logging.getLogger("openshell_compute_k8s")


class Cluster:
    """One cluster, as one gateway's sandboxes have it."""

    def __init__(self, api: Api, config: KubernetesConfig, *, longest: float) -> None:
        """Ask for nothing yet. No call takes longer than `longest` seconds."""
        self._api = api
        self._config = config
        self._workspaces = Workspaces(api, config)
        scope = self._workspaces.scope
        self._strays = Strays(longest=2 * longest)
        self._sandboxes = SandboxApi(api, config, self._strays, namespace=scope)
        self._view = View(pull_patience=config.image_pull_patience)
        self.creating = Creating(
            api, self._sandboxes, self._workspaces, self._strays, self._view, config
        )
        self.running = Running(api, self._sandboxes, self._view, config)
        self._follower = Follower(api, self._sandboxes, self._strays, config, namespace=scope)

    async def observe(self, feed: SandboxFeed) -> None:
        """Tell the feed what the cluster shows, for ever."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._prepare)
            await self._follower.follow(feed, self._view)

    async def _prepare(self) -> None:
        """Read what the first create would have to wait for."""
        if self._config.pod.security.uid is None and self._workspaces.scope:
            try:
                await self._workspaces.annotations(self._workspaces.scope)
            except DriverError:
                return  # the create will ask itself

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def list(self) -> list[ObservedSandbox]:
        """List as the API server has it now."""
        path = await self._sandboxes.path(self._workspaces.scope)
        query = {"labelSelector": selector(self._config)}
        try:
            found = await self._api.everything(path, Sandbox, query)
        except ApiRefusal as refusal:
            raise self._sandboxes.answer(refusal, "list sandboxes") from None
        ours = [each for each in found if not self._strays.take(each.metadata)]
        seen = filter(None, map(read_sandbox, ours))
        return [observe(each, None, given_up=False, pods_known=False) for each in seen]

    async def delete(self, ref: SandboxRef) -> bool:
        """Have all there is of a sandbox removed. False only if the API server has nothing of it
        and no pod of it is seen (COMP-DEL-03)."""
        found = await self._sandboxes.of_id(ref.id)
        for about in found:
            if not about.deletion_timestamp:
                await self._sandboxes.delete(about)
        return bool(found) or self._view.find(ref.id) is not None

    # Workspaces and authentication.

    async def ensure_workspace(self, workspace: str) -> None:
        """Make a workspace's namespace, where that is this driver's."""
        await self._workspaces.ensure(workspace)

    async def delete_workspace(self, workspace: str) -> None:
        """Remove it again, if it is empty."""
        await self._workspaces.delete(workspace, self._sandboxes.is_empty)

    async def authenticate(self, credential: Secret) -> AuthenticatedSandbox:
        """Find the sandbox whose pod a service-account token is bound to.

        Raises `Unauthenticated` or `PermissionDenied` for a credential that is no sandbox's of this
        gateway (COMP01-AUTH-02), `FailedPrecondition` for a right that the driver lacks.
        """
        audience = self._config.pod.sa_token.audience
        bound = await pod_of_token(self._api, credential, audience)
        if self._workspaces.scope not in {"", bound.namespace}:  # nothing there is ours to read
            raise PermissionDenied("the credential belongs to no sandbox of this gateway")
        gateway = label_value(self._config.gateway_id) if self._config.gateway_id else ""
        version = await self._sandboxes.version()
        try:
            found, workspace = await sandbox_of_pod(self._api, version, gateway, bound)
        except FailedPrecondition as error:
            if self._config.workspaces.mode != "operator":
                raise
            # Rights there are given namespace by namespace: no sandbox of ours can be in this one.
            _log.warning("a token is of a namespace that may not be read: %s", error.message)
            raise PermissionDenied("the credential belongs to no sandbox of this gateway") from None
        try:
            home = self._workspaces.namespace_of(workspace)
        except (FailedPrecondition, InvalidArgument):  # no create of ours has made it
            home = ""
        if bound.namespace != home:
            raise PermissionDenied("the credential belongs to no sandbox of this gateway")
        return found
