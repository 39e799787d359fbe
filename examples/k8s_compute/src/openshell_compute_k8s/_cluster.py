"""`Cluster`: what a gateway's calls do on a cluster. Imported late, with all that it needs."""

from __future__ import annotations

import secrets
import time
from typing import Any, Final, NoReturn

import anyio

from openshell_compute_k8s import _pod
from openshell_compute_k8s._api import Api
from openshell_compute_k8s._authentication import pod_of_token, sandbox_of_pod
from openshell_compute_k8s._claims import require_attachable
from openshell_compute_k8s._failures import ApiRefusal, answer_create
from openshell_compute_k8s._following import Follower
from openshell_compute_k8s._gpu import GpuCapacity
from openshell_compute_k8s._holder import Holder
from openshell_compute_k8s._launch_paths import (
    PUBLIC_KEY,
    SUPERVISOR_KEY,
    public_secret,
    supervisor_secret,
)
from openshell_compute_k8s._names import (
    ATTEMPT,
    HOLDER,
    UNFINISHED,
    identity_annotations,
    own_labels,
    passing_annotations,
    resource_name,
    selector,
)
from openshell_compute_k8s._objects import Metadata, Sandbox
from openshell_compute_k8s._sandbox_api import SandboxApi
from openshell_compute_k8s._seen import (
    Seen,
    is_stopped,
    observe,
    read_sandbox,
    runtime_identity,
)
from openshell_compute_k8s._strays import Strays
from openshell_compute_k8s._view import View
from openshell_compute_k8s._workspaces import Workspaces
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import (
    AuthenticatedSandbox,
    Backoff,
    CreateScope,
    DeadlineExceeded,
    DriverError,
    FailedPrecondition,
    NotFound,
    ObservedSandbox,
    PermissionDenied,
    SandboxFeed,
    SandboxRef,
    SandboxSpec,
    Secret,
    StartRequest,
    Unavailable,
)
from openshell_drivers.launch import LaunchAuthentication
from openshell_drivers.naming import SANDBOX_ID, SANDBOX_WORKSPACE, label_value

_SIGHT: Final = 20.0
_LOOKS: Final = Backoff(attempts=None, delay=0.05, factor=1.5, maximum=1.0, jitter=0.2)
_REVERT: Final = 2.0


class Cluster:
    """One cluster, as one gateway's sandboxes have it."""

    def __init__(self, api: Api, config: KubernetesConfig) -> None:
        self._api = api
        self._config = config
        self._workspaces = Workspaces(api, config)
        self._sandboxes = SandboxApi(api, config, self._workspaces.scope)
        self._gpus = GpuCapacity(api, config.gpu_resource)
        self._strays = Strays()
        self._view = View(self._strays, pull_patience=config.image_pull_patience)

    async def observe(self, feed: SandboxFeed) -> None:
        """Tell the feed what the cluster shows, for ever."""
        scope = self._workspaces.scope
        follower = Follower(self._api, self._sandboxes, self._config, scope)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._prepare)
            tasks.start_soon(self._strays.removing, self._sandboxes.delete)
            await follower.follow(feed, self._view)

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

    # Create and delete.

    async def validate(self, spec: SandboxSpec) -> None:
        """Refuse what cannot be created (COMP-VAL clauses); changes nothing."""
        options = _pod.validate(spec, self._config)
        namespace = self._workspaces.namespace_of(spec.workspace)
        if spec.launch_authentication is not None:
            LaunchAuthentication.parse(spec.launch_authentication)
        await self._workspaces.require_usable(spec.workspace)
        if options.claims:
            await require_attachable(
                self._api, self._config, options.claims, namespace, spec.workspace
            )
        if spec.gpu is not None and self._config.check_gpu_capacity:
            await self._gpus.require(spec.gpu)

    async def create(self, spec: SandboxSpec, scope: CreateScope) -> str:
        """Create the resource; with launch authentication, its Secrets before it may run.

        Until all is there it is marked as unfinished, and no sandbox to anybody; killed in between,
        it is removed later.
        """
        attempt = secrets.token_hex(8)
        async with self._workspaces.use(spec.workspace) as namespace:
            try:
                return await self._create_in(namespace, spec, attempt, scope)
            except BaseException:
                self._strays.disown(attempt)
                raise

    async def _create_in(
        self, namespace: str, spec: SandboxSpec, attempt: str, scope: CreateScope
    ) -> str:
        launch = spec.launch_authentication
        parts = None if launch is None else LaunchAuthentication.parse(launch)
        body = await self._resource(spec, namespace, parts, attempt)
        made = await self._post(namespace, body, scope)
        if parts is not None:
            await self._put_launch(made.metadata, parts, new=True)
            made = await self._sandboxes.finish(made.metadata)
        if (seen := read_sandbox(made)) is not None:
            self._view.made(seen)
        return runtime_identity(namespace, made.metadata.uid)

    async def _resource(
        self,
        spec: SandboxSpec,
        namespace: str,
        launch: LaunchAuthentication | None,
        attempt: str,
    ) -> dict[str, Any]:
        version = await self._sandboxes.version()
        labels, name = own_labels(spec, self._config), resource_name(spec)
        notes = identity_annotations(spec)
        passing = {ATTEMPT: attempt}
        if launch is not None:
            passing[HOLDER] = Holder.this().write()
        scc = {}
        if self._config.pod.security.uid is None:
            scc = dict(await self._workspaces.annotations(namespace))
        claims = _pod.claim_templates(self._config)
        return {
            "apiVersion": version,
            "kind": "Sandbox",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": labels if launch is None else {**labels, UNFINISHED: "true"},
                "annotations": {**notes, **passing, **passing_annotations(spec)},
            },
            "spec": {
                **await self._sandboxes.running(launch is None),
                "podTemplate": _pod.pod_template(
                    spec,
                    self._config,
                    labels=labels,
                    annotations=notes,
                    object_name=name,
                    scc_annotations=scc,
                ),
                **({"volumeClaimTemplates": claims} if claims else {}),
            },
        }

    async def _post(self, namespace: str, body: dict[str, Any], scope: CreateScope) -> Sandbox:
        notes = body["metadata"]["annotations"]
        try:
            try:
                return await self._sandboxes.create(namespace, body, notes[SANDBOX_ID], scope)
            except ApiRefusal as refusal:
                if refusal.missing_namespace or refusal.ending_namespace:
                    self._workspaces.forget(namespace)
                if not refusal.missing_namespace:
                    raise
                await self._workspaces.make_usable(notes[SANDBOX_WORKSPACE])
                return await self._sandboxes.create(namespace, body, notes[SANDBOX_ID], scope)
        except ApiRefusal as refusal:
            raise answer_create(refusal, "sandbox", namespace) from None

    async def _put_launch(self, owner: Metadata, parts: LaunchAuthentication, *, new: bool) -> None:
        """Write both Secrets side by side. Raises what the first failure is."""
        failures: list[DriverError] = []

        async def put(name: str, key: str, text: str) -> None:
            try:
                await self._sandboxes.put_secret(owner, name, key, text, new=new)
            except DriverError as error:
                failures.append(error)

        async with anyio.create_task_group() as tasks:
            if parts.supervisor is not None:
                bundle = parts.supervisor.reveal()
                tasks.start_soon(put, supervisor_secret(owner.name), SUPERVISOR_KEY, bundle)
            tasks.start_soon(put, public_secret(owner.name), PUBLIC_KEY, parts.workload.to_json())
        for failure in failures:
            raise failure

    async def delete(self, ref: SandboxRef) -> bool:
        """Have all there is of a sandbox removed. False only if the API server has nothing of it
        (COMP-DEL-03)."""
        found = await self._sandboxes.of_id(ref.id)
        for about in found:
            if not about.deletion_timestamp:
                await self._sandboxes.delete(about)
        return bool(found)

    # Stop and start.

    async def stop(self, ref: SandboxRef) -> None:
        """Have a sandbox's pod ended, and wait for that (COMP-STOP-02)."""
        seen = await self._find(ref)
        if seen.deleting:
            raise FailedPrecondition("the sandbox is being deleted")
        await self._suspend(seen)

    async def _suspend(self, before: Seen) -> None:
        """Have it said that a sandbox is not to run, whatever is believed of it, and wait until
        what was said is seen to be done."""
        said = await self._sandboxes.run(_metadata(before), wanted=False)
        view, began = await self._sight(), time.monotonic()

        def stopped() -> bool:
            seen = view.by_uid(before.uid)
            if seen is None:
                return True
            heard = seen.generation >= said.metadata.generation and not seen.wanted
            return heard and is_stopped(seen, view.pod_of(seen), pods_known=view.pods_known)

        ended = await view.until(before.id, stopped, self._config.stop_timeout)
        delays = iter(_LOOKS)
        while ended and await self._sandboxes.has_pod(before):
            # The controller has said so before it knew of the pod that it had just made.
            ended = time.monotonic() - began < self._config.stop_timeout
            await anyio.sleep(next(delays))
        if not ended:
            seconds = time.monotonic() - began
            raise DeadlineExceeded(f"the sandbox's pod has not ended in {seconds:.0f} s")
        if view.by_uid(before.uid) is None:
            raise NotFound("the sandbox was deleted meanwhile")

    async def start(self, ref: SandboxRef, request: StartRequest) -> str:
        """Let a sandbox run again, with new launch authentication if there is any.

        What runs goes on; a run that has ended by itself is cleared away first. After a failure the
        sandbox is stopped, if that can still be said (COMP-START-04).
        """
        seen = await self._find(ref)
        if seen.deleting:
            await self._until_gone(seen)
        launch = request.launch_authentication
        if launch is not None:
            about = _metadata(seen, own_labels_of=await self._read(seen))
            await self._put_launch(about, LaunchAuthentication.parse(launch), new=False)
        if seen.wanted and self._has_ended(seen):
            await self._suspend(seen)
        try:
            if seen.awaits:
                await self._sandboxes.run_anew(_metadata(seen))
            else:  # no change for one that runs
                await self._sandboxes.run(_metadata(seen), wanted=True)
        except NotFound:
            raise
        except BaseException:  # a start that is given up, too, must not happen later
            if not seen.wanted:
                with anyio.CancelScope(shield=True), anyio.move_on_after(_REVERT):
                    await self._revert(seen)
            raise
        return seen.runtime_identity

    async def _until_gone(self, seen: Seen) -> NoReturn:
        """Wait for the end of what somebody else is deleting: a gateway makes it anew when it is
        gone (COMP01-START-02)."""
        if await self._view.until(seen.id, lambda: self._view.by_uid(seen.uid) is None, _SIGHT):
            raise NotFound("the sandbox was deleted")
        raise FailedPrecondition("the sandbox is being deleted")

    async def _revert(self, seen: Seen) -> None:
        try:
            await self._sandboxes.run(_metadata(seen), wanted=False)
        except DriverError:
            return  # it is as the API server has it; the watch will tell

    async def _read(self, seen: Seen) -> Metadata:
        try:
            path = await self._sandboxes.path(seen.namespace, seen.object_name)
            found = (await self._api.get(path, Sandbox)).metadata
        except ApiRefusal as refusal:
            raise self._sandboxes.answer(refusal, "read the sandbox") from None
        if found.uid != seen.uid:
            raise NotFound("the sandbox's resource is gone")
        return found

    def _has_ended(self, seen: Seen) -> bool:
        pod = self._view.pod_of(seen)
        state = observe(seen, pod, given_up=False, pods_known=False).state
        return state.kind == "exited"

    async def _find(self, ref: SandboxRef) -> Seen:
        """Find a sandbox by its id: in sight, or where the API server has it."""
        view = await self._sight()
        seen = view.find(ref.id)
        if seen is None:
            if not await self._sandboxes.of_id(ref.id):
                raise NotFound("there is no sandbox with this id")
            if not await view.until(ref.id, lambda: view.find(ref.id) is not None, _SIGHT):
                raise Unavailable("the sandbox cannot be seen yet")
            seen = view.find(ref.id)
        if seen is None:
            raise NotFound("the sandbox was deleted meanwhile")
        return seen

    async def _sight(self) -> View:
        if not await self._view.sight(_SIGHT):
            raise Unavailable("the cluster cannot be observed")
        return self._view

    # Workspaces and authentication.

    async def ensure_workspace(self, workspace: str) -> None:
        """Make a workspace's namespace, where that is this driver's."""
        await self._workspaces.ensure(workspace)

    async def delete_workspace(self, workspace: str) -> None:
        """Remove it again, if it is empty."""
        await self._workspaces.delete(workspace, self._sandboxes.is_empty)

    async def authenticate(self, credential: Secret) -> AuthenticatedSandbox:
        """Find the sandbox whose pod a service-account token is bound to."""
        audience = self._config.pod.sa_token.audience
        namespace, name, uid = await pod_of_token(self._api, credential, audience)
        gateway = label_value(self._config.gateway_id) if self._config.gateway_id else ""
        version = await self._sandboxes.version()
        found, workspace = await sandbox_of_pod(self._api, version, gateway, namespace, name, uid)
        if namespace != self._workspaces.namespace_of(workspace):  # it is not there by our doing
            raise PermissionDenied("the credential belongs to no sandbox of this gateway")
        return found


def _metadata(seen: Seen, own_labels_of: Metadata | None = None) -> Metadata:
    labels = {} if own_labels_of is None else own_labels_of.labels
    return Metadata(name=seen.object_name, namespace=seen.namespace, uid=seen.uid, labels=labels)
