"""The configuration: which cluster, whose namespaces, and what every sandbox's pod is like.

Holds no secret, only the names of files and of Kubernetes Secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from openshell_compute_k8s._rules import (
    DnsLabel,
    Frozen,
    Image,
    LabelKey,
    Labels,
    LabelValue,
    Port,
    ResourceName,
    RoleName,
    Seconds,
    broken,
)
from openshell_compute_k8s.pod_config import PodConfig
from openshell_drivers.config import DriverConfig

ApiVersion = Literal["auto", "v1beta1", "v1alpha1"]
WorkspaceMode = Literal["shared", "managed", "operator"]

DEFAULT_IMAGE: Final = "ghcr.io/nvidia/openshell-community/sandboxes/base:latest"


_PRIVILEGED: Final = {"pod-security.kubernetes.io/enforce": "privileged"}


class EgressRule(DriverConfig):
    """An egress rule of a NetworkPolicy, with Kubernetes' own keys; judged by the API server."""

    to: tuple[Mapping[str, Any], ...] = ()
    """Whom; empty: anybody."""
    ports: tuple[Mapping[str, Any], ...] = ()
    """Where; empty: at any port."""


class WorkspacesConfig(DriverConfig):
    """How a gateway's workspaces become namespaces."""

    mode: WorkspaceMode = "shared"
    """``shared``: all in `KubernetesConfig.namespace`. ``managed``: a namespace for each, made by
    this driver. ``operator``: a namespace for each, made by somebody else and allowed here."""
    prefix: str = ""
    """Of a workspace's namespace: `prefix` and the workspace's name. Must not be empty when
    managed."""
    default: str = ""
    """The workspace of requests that name none, as the kagenti line's; empty refuses them, unless
    shared."""
    allow: tuple[DnsLabel, ...] = ()
    """operator: the namespaces that may be used."""
    allow_file: Path | None = None
    """operator: a file with more of them, one per line; read again when it changes. One that cannot
    be read allows nothing."""
    allow_label: LabelKey | None = None
    """operator: a namespace with this label, whose value is `gateway_id` or ``true``, may be used,
    too."""
    copy_secrets: tuple[DnsLabel, ...] = ()
    """managed: Secrets of `KubernetesConfig.namespace` to be copied into every workspace's, beside
    the image pull and client TLS secrets of `pod`."""
    copy_annotations: tuple[str, ...] = (
        "openshift.io/sa.scc.mcs",
        "openshift.io/sa.scc.supplemental-groups",
        "openshift.io/sa.scc.uid-range",
    )
    """managed: annotations of the driver's namespace that a workspace's gets, too."""
    namespace_labels: Labels = Field(default_factory=lambda: Frozen(_PRIVILEGED))
    """managed: labels of every workspace's namespace."""
    gateway_pods: Labels = Field(default_factory=Frozen)
    """managed: labels of the gateway's pods in `KubernetesConfig.namespace`: a NetworkPolicy lets
    only these reach sandboxes, at port `ssh_port`, and these be reached, at `gateway_port`: both
    are ports of pods, which a Service may call otherwise. Empty: no NetworkPolicy. A key under
    ``openshell.ai/`` is none that a request can give to its sandbox."""
    ssh_port: Port = 2222
    gateway_port: Port = 8080
    egress: Literal["web", "any"] | tuple[EgressRule, ...] = "web"
    """managed: what else that NetworkPolicy lets sandboxes reach, beside the cluster's name server:
    ``web`` is ports 80 and 443 outside of private networks, ``any`` is everything."""
    account_roles: tuple[RoleName, ...] = ()
    """managed: ClusterRoles that the sandboxes' account is bound to in every workspace's namespace,
    as OpenShift's SecurityContextConstraints need. The driver needs the right to bind them."""

    @model_validator(mode="after")
    def _mode_has_what_it_needs(self) -> Self:
        if self.mode == "managed" and not self.prefix:
            raise ValueError("prefix must be set with mode: managed")
        if self.mode == "operator" and not (self.allow or self.allow_file or self.allow_label):
            raise ValueError("allow, allow_file or allow_label must be set with mode: operator")
        return self


class KubernetesConfig(DriverConfig):
    """The whole configuration."""

    kubeconfig: Path | None = None
    """The file that says how to reach the cluster. By default the pod's own service account, then
    ``$KUBECONFIG``, then ``~/.kube/config``."""
    context: str = ""
    """Its context; by default the current one."""
    api_version: ApiVersion = "auto"
    """The version of ``agents.x-k8s.io`` to speak; by default the newest of both that the cluster
    serves."""
    namespace: Annotated[str, Field(max_length=63)] = ""
    """Where shared sandboxes live; by default the pod's own namespace, or the context's."""
    gateway_id: LabelValue = ""
    """Whose sandboxes these are: only those with this label are seen and touched. Needed where two
    gateways share a namespace, and in the other workspace modes."""
    adopt_unlabelled: bool = False
    """Take over, once at start, sandboxes of the driver that no gateway is named for."""
    workspaces: WorkspacesConfig = WorkspacesConfig()
    extra_labels: Labels = Field(default_factory=Frozen)
    """Of every sandbox and its pod, as ``kagenti.io/team``."""
    default_image: Image = DEFAULT_IMAGE
    """For a request without an image."""
    pod: PodConfig = PodConfig()

    allow_driver_config: bool = False
    """Accept a request's ``driver_config``; the gateway must be configured alike."""
    admission_enabled: bool | None = None
    """Whether claims that sandboxes mount need the required labels; by default as the gateway's
    default."""
    admission_labels: Mapping[LabelKey, str] | None = None
    """These labels, if the gateway is configured with others than its default."""

    authenticate_sandboxes: bool = True
    """Let sandboxes prove themselves with their service-account token. Needs the right to create
    TokenReviews."""
    gpu_resource: ResourceName = "nvidia.com/gpu"
    """The resource that a GPU is."""
    check_gpu_capacity: bool = True
    """Refuse GPUs that no node has. Needs the right to list nodes; without it, none is checked."""

    events: bool = True
    """Pass Kubernetes' events on to a sandbox's user. Needs the right to list and watch events."""
    image_pull_patience: Annotated[float, Field(ge=0, le=86400)] = 120.0
    """Seconds of trouble with an image until the sandbox is reported as failed, which is for good:
    a registry may be away for a while."""

    connect_timeout: Seconds = 10.0
    """For a connection to the API server to open."""
    request_timeout: Seconds = 30.0
    """For one request to be answered."""
    stop_timeout: Annotated[float, Field(ge=5, le=600)] = 90.0
    """For a stop to end, its pod's grace included: greater than
    ``pod.termination_grace_seconds``."""

    @model_validator(mode="after")
    def _gateways_are_told_apart(self) -> Self:
        if self.workspaces.mode != "shared" and not self.gateway_id:
            raise ValueError("gateway_id must be set unless workspaces are shared")
        return self

    @model_validator(mode="after")
    def _a_stop_outlasts_its_pods_grace(self) -> Self:
        if self.stop_timeout <= self.pod.termination_grace_seconds:
            raise broken("stop_timeout must be greater than pod.termination_grace_seconds")
        return self
