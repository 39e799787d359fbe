"""`Creating`: from a request to its resource, or to nothing."""

from __future__ import annotations

import secrets
from typing import Any

from openshell_compute_k8s import _pod, _request
from openshell_compute_k8s._api import Api
from openshell_compute_k8s._claims import require_attachable
from openshell_compute_k8s._failures import ApiRefusal, answer_create
from openshell_compute_k8s._gpu import GpuCapacity
from openshell_compute_k8s._holder import Holder
from openshell_compute_k8s._launch import put_launch
from openshell_compute_k8s._names import (
    ATTEMPT,
    HOLDER,
    UNFINISHED,
    identity_annotations,
    other_annotations,
    own_labels,
    resource_name,
)
from openshell_compute_k8s._objects import Sandbox
from openshell_compute_k8s._sandbox_api import SandboxApi
from openshell_compute_k8s._seen import read_sandbox, runtime_identity
from openshell_compute_k8s._strays import Strays
from openshell_compute_k8s._view import View
from openshell_compute_k8s._workspaces import Workspaces
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import Aborted, CreateScope, SandboxSpec
from openshell_drivers.launch import LaunchAuthentication
from openshell_drivers.naming import SANDBOX_ID, SANDBOX_WORKSPACE


class Creating:
    """Creates the sandboxes of one gateway."""

    def __init__(
        self,
        api: Api,
        sandboxes: SandboxApi,
        workspaces: Workspaces,
        strays: Strays,
        view: View,
        config: KubernetesConfig,
    ) -> None:
        self._api = api
        self._sandboxes = sandboxes
        self._workspaces = workspaces
        self._strays = strays
        self._view = view
        self._config = config
        self._gpus = GpuCapacity(api, config.gpu_resource)

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
            await put_launch(self._sandboxes, made.metadata, parts, new=True)
            made = await self._sandboxes.finish(made.metadata)
        if (seen := read_sandbox(made)) is not None and not self._view.made(seen):
            raise Aborted("the sandbox was deleted while it was made")
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
        claims = _request.read(spec, self._config.pod, self._config.default_image).options.claims
        marks = {ATTEMPT: attempt, **other_annotations(spec, claims)}
        if launch is not None:
            marks[HOLDER] = Holder.this().write()
        scc = {}
        if self._config.pod.security.uid is None:
            scc = dict(await self._workspaces.annotations(namespace))
        templates = _pod.claim_templates(self._config)
        return {
            "apiVersion": version,
            "kind": "Sandbox",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": labels if launch is None else {**labels, UNFINISHED: "true"},
                "annotations": {**notes, **marks},
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
                **({"volumeClaimTemplates": templates} if templates else {}),
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
            if refusal.code == 404 and not refusal.missing_namespace:
                raise self._sandboxes.answer(refusal, "create the sandbox") from None
            raise answer_create(refusal, "sandbox", namespace) from None
