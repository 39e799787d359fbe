"""The pod of a sandbox, as it stands in the Sandbox resource: from a request and the configuration.

Pure functions. Never in what they make: `SandboxSpec.sandbox_token`, which the supervisor gets for
its service-account token instead, and `SandboxSpec.launch_authentication`, which goes into Secrets
(COMP-SEC-01, COMP01-LAUNCH-02). The workload's identity and the policy are the supervisor's to
apply; nothing of them is passed on here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from openshell_compute_k8s._amounts import written
from openshell_compute_k8s._container_resources import of_gpu, of_template, resolve
from openshell_compute_k8s._environment import variables
from openshell_compute_k8s._request import Asked, read
from openshell_compute_k8s._security import WorkloadUser, supervisor_context, workload_user
from openshell_compute_k8s._volumes import WORKSPACE, Mounted, asked, own, supervisor_path
from openshell_compute_k8s.config import KubernetesConfig
from openshell_compute_k8s.options import SandboxOptions
from openshell_compute_k8s.pod_config import PodConfig
from openshell_drivers import FailedPrecondition, SandboxSpec, Support
from openshell_drivers.naming import merge_labels

SUPPORT: Final = Support(
    cpu_request=True,
    cpu_limit=True,
    memory_request=True,
    memory_limit=True,
    gpu=True,
    gpu_count=True,
    user_namespaces=True,
    platform_config=frozenset({"runtime_class_name", "annotations", "resources_raw"}),
)
"""What of a request a pod can honour. ``volume_claim_templates`` is refused: a gateway sends an
object where the resource has a list, and claims are the configuration's."""

AGENT: Final = "agent"
"""The container that is the sandbox."""
SANDBOX_ID_ANNOTATION: Final = "openshell.io/sandbox-id"
"""By this annotation of the pod a gateway knows whose service-account token it was shown."""

_OPENSHELL: Final = ("openshell.io/", "openshell.ai/", "internal.openshell.ai/")
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_LARGEST: Final = 1024 * 1024
"""Bytes of JSON. The API server takes 1.5 MiB with everything that it adds."""


def validate(spec: SandboxSpec, config: KubernetesConfig) -> SandboxOptions:
    """Refuse what no pod can be made of, and give the request's own options.

    For a spec that the SDK has admitted. What it accepts, `pod_template` makes (COMP-VAL-06).
    Raises `InvalidArgument` for what is wrong in itself, `FailedPrecondition` for what cannot be
    had here (COMP-VAL-04).
    """
    template = pod_template(spec, config, labels={}, annotations={}, object_name="x" * 63)
    if len(json.dumps(template)) > _LARGEST:
        raise FailedPrecondition("the request is larger than Kubernetes keeps")
    return read(spec, config.pod, config.default_image).options


def pod_template(
    spec: SandboxSpec,
    config: KubernetesConfig,
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    object_name: str,
    scc_annotations: Mapping[str, str] = _NOTHING,
) -> dict[str, Any]:
    """Make the ``podTemplate`` of a Sandbox resource, in plain JSON.

    `labels` and `annotations` are the driver's, and go over those of the user. `object_name` is
    the resource's name. `scc_annotations` are those of its namespace. Raises as `validate` does.
    """
    pod = config.pod
    request = read(spec, pod, config.default_image)
    mine = {**pod.annotations, **annotations, SANDBOX_ID_ANNOTATION: spec.id}
    return {
        "metadata": {
            "labels": merge_labels(spec.template.labels, labels),
            "annotations": {**_theirs(request.platform.annotations), **mine},
        },
        "spec": _spec(spec, config, request, object_name, scc_annotations),
    }


def claim_templates(config: KubernetesConfig) -> list[dict[str, Any]]:
    """Make the ``volumeClaimTemplates`` of a Sandbox resource: the workspace, or nothing."""
    workspace = config.pod.workspace
    if workspace.volume != "claim":
        return []
    size = {"requests": {"storage": written("storage", workspace.size)}}
    spec: dict[str, Any] = {"accessModes": [workspace.access_mode], "resources": size}
    if workspace.storage_class:
        spec["storageClassName"] = workspace.storage_class
    return [{"metadata": {"name": WORKSPACE}, "spec": spec}]


def _theirs(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in annotations.items() if not key.startswith(_OPENSHELL)}


def _spec(
    spec: SandboxSpec,
    config: KubernetesConfig,
    request: Asked,
    object_name: str,
    scc_annotations: Mapping[str, str],
) -> dict[str, Any]:
    pod = config.pod
    user = workload_user(pod.security, scc_annotations)
    image = request.template.image
    volumes = [
        *own(pod, image=image, object_name=object_name, user=user),
        *asked(request.options),
    ]
    asks = spec.template.user_namespaces
    return {
        **_fixed(pod, user),
        **_scheduling(pod, request),
        **_host_users(asks, default=pod.security.user_namespaces),
        **_init_containers(pod, volumes),
        "containers": [_agent(spec, config, request, user, volumes)],
        "volumes": [each.volume() for each in volumes if each.source is not None],
    }


def _fixed(pod: PodConfig, user: WorkloadUser) -> dict[str, Any]:
    """Make what is the same for all. Never restarted: the gateway decides (COMP01-START-03)."""
    fixed: dict[str, Any] = {
        "serviceAccountName": pod.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": pod.termination_grace_seconds,
    }
    if pod.image_pull_secrets:
        fixed["imagePullSecrets"] = [{"name": name} for name in pod.image_pull_secrets]
    if pod.host_aliases:
        fixed["hostAliases"] = [
            {"ip": str(each.ip), "hostnames": list(each.hostnames)} for each in pod.host_aliases
        ]
    if pod.ndots is not None:
        fixed["dnsConfig"] = {"options": [{"name": "ndots", "value": str(pod.ndots)}]}
    if pod.workspace.volume != "none" and pod.workspace.fs_group:
        fixed["securityContext"] = {"fsGroup": user.gid}
    return fixed


def _scheduling(pod: PodConfig, request: Asked) -> dict[str, Any]:
    wishes = request.options.pod
    runtime = request.platform.runtime_class_name or wishes.runtime_class_name or pod.runtime_class
    tolerations = [each.to_json() for each in (*pod.tolerations, *wishes.tolerations)]
    said = {
        "runtimeClassName": runtime,
        "priorityClassName": wishes.priority_class_name or pod.priority_class,
        "nodeSelector": _narrowed(pod.node_selector, wishes.node_selector),
        "tolerations": tolerations,
    }
    return {key: value for key, value in said.items() if value}


def _narrowed(selector: Mapping[str, str], wish: Mapping[str, str]) -> dict[str, str]:
    if any(wish[key] != selector[key] for key in wish.keys() & selector.keys()):
        raise FailedPrecondition("driver_config.pod.node_selector: sandboxes run elsewhere here")
    return {**wish, **selector}


def _host_users(asks: bool | None, *, default: bool) -> dict[str, bool]:
    """Say it if somebody has an opinion: older clusters do not know the key (COMP01-IN-03)."""
    if asks is None:
        return {"hostUsers": False} if default else {}
    return {"hostUsers": not asks}


def _init_containers(pod: PodConfig, volumes: Sequence[Mounted]) -> dict[str, Any]:
    resources = resolve([pod.init_resources])
    extra = {"resources": resources} if resources else {}
    containers = [{**each.init, **extra} for each in volumes if each.init is not None]
    return {"initContainers": containers} if containers else {}


def _agent(
    spec: SandboxSpec,
    config: KubernetesConfig,
    request: Asked,
    user: WorkloadUser,
    volumes: Sequence[Mounted],
) -> dict[str, Any]:
    pod = config.pod
    asks = spec.template.user_namespaces
    separate = pod.security.user_namespaces if asks is None else asks
    container: dict[str, Any] = {
        "name": AGENT,
        "image": request.template.image,
        "command": [supervisor_path(pod.supervisor)],
        "env": variables(spec, pod, user),
        "securityContext": supervisor_context(pod.security, user_namespace=separate),
        "volumeMounts": [mount for each in volumes for mount in each.mounts],
    }
    if pod.image_pull_policy:
        container["imagePullPolicy"] = pod.image_pull_policy
    resources = resolve(
        [
            of_gpu(spec.gpu, config.gpu_resource),
            of_template(spec.template.resources),
            request.platform.resources_raw,
            request.options.containers.agent.resources,
            pod.resources,
        ]
    )
    if resources:
        container["resources"] = resources
    return container
