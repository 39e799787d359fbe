"""The parts of the pod's configuration, each with its own rules.

Defaults are those of the gateway's own Kubernetes driver, with the exceptions that are named.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    IPvAnyAddress,
    field_validator,
    model_validator,
)

from openshell_compute_k8s._amounts import check
from openshell_compute_k8s._rules import (
    AbsolutePath,
    AppArmorProfile,
    Capability,
    DnsName,
    Frozen,
    Image,
    LabelValue,
    MaybeKey,
    MaybeName,
    MaybeQuantity,
    Quantities,
    SecretKey,
    UserId,
    broken,
)
from openshell_drivers.config import DriverConfig

PullPolicy = Literal["", "Always", "IfNotPresent", "Never"]
"""Empty leaves it to Kubernetes: Always for the tag ``latest``, else IfNotPresent."""

SHORTEST_TOKEN: Final = 600
LONGEST_TOKEN: Final = 86_400


def _clamped(seconds: int) -> int:
    return max(SHORTEST_TOKEN, min(seconds, LONGEST_TOKEN))


class ResourcesConfig(DriverConfig):
    """Amounts by resource: ``cpu``, ``memory``, ``ephemeral-storage``, ``example.com/device``."""

    requests: Quantities = Field(default_factory=Frozen)
    """What is reserved. What has a limit only is requested as much."""
    limits: Quantities = Field(default_factory=Frozen)
    """What cannot be exceeded."""

    @model_validator(mode="after")
    def _can_be_had(self) -> Self:
        check(self.requests, self.limits)
        return self


class Toleration(DriverConfig):
    """A taint that a pod may be scheduled onto, with Kubernetes' own keys."""

    key: MaybeKey = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: LabelValue = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: int | None = Field(
        default=None, validation_alias=AliasChoices("tolerationSeconds", "toleration_seconds")
    )
    """Only with the effect NoExecute; None is for ever."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise broken("value must be empty with operator: Exists")
        if not self.key and self.operator != "Exists":
            raise broken("operator must be Exists without a key")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise broken("tolerationSeconds needs effect: NoExecute")
        return self

    def to_json(self) -> dict[str, Any]:
        """Write it as Kubernetes reads it, without what is empty."""
        texts = {"key": self.key, "operator": self.operator, "value": self.value}
        told: dict[str, Any] = {**texts, "effect": self.effect}
        told = {key: value for key, value in told.items() if value}
        if self.toleration_seconds is not None:
            told["tolerationSeconds"] = self.toleration_seconds
        return told


class SupervisorConfig(DriverConfig):
    """The program that runs in front of every sandbox's main process, and how it gets there."""

    image: Image = "ghcr.io/nvidia/openshell/supervisor:latest"
    """The image that has it. Name the tag of the gateway's own release: the two belong together."""
    delivery: Literal["init-container", "image-volume"] = "init-container"
    """``init-container``: it copies itself into an empty volume; works everywhere, so the default
    here. ``image-volume``: the image is mounted, which needs Kubernetes 1.33 with the gate
    ImageVolume, or 1.35."""
    pull_policy: PullPolicy = ""
    mount_path: AbsolutePath = "/opt/openshell/bin"
    """Where the sandbox finds it."""
    binary: AbsolutePath = "/openshell-sandbox"
    """Where the image has it. With ``init-container`` it must know ``copy-self``."""


class SaTokenConfig(DriverConfig):
    """The service-account token that a supervisor exchanges for its own at the gateway."""

    audience: Annotated[str, Field(max_length=253, pattern=r"^[!-~]*$")] = "openshell-gateway"
    """Who accepts it: the gateway. Empty for no token at all."""
    ttl_seconds: Annotated[int, AfterValidator(_clamped)] = 3600
    """How long it lasts; the kubelet renews it. Held to 600 (the kubelet's least) to 86400."""
    path: AbsolutePath = "/var/run/secrets/openshell/token"
    """The file; its folder holds nothing else."""

    @field_validator("path")
    @classmethod
    def _has_a_folder(cls, path: str) -> str:
        if path.count("/") < 2:
            raise broken("must be a file in a folder of its own")
        return path

    @property
    def folder(self) -> str:
        """Where the volume with the token is mounted."""
        return self.path.rpartition("/")[0]


class ClientTlsConfig(DriverConfig):
    """By what supervisor and gateway know each other. Secrets are in the sandbox's namespace."""

    layout: Literal["none", "single", "split"] = "none"
    """``single``: `secret` at /etc/openshell-tls/client, as in NVIDIA's charts. ``split``:
    `ca_secret` at /tls/ca and `client_secret` at /tls/client, as in kagenti's."""
    secret: MaybeName = ""
    """With the keys ca.crt, tls.crt and tls.key."""
    ca_secret: MaybeName = ""
    """With the key ca.crt."""
    client_secret: MaybeName = ""
    """With the keys tls.crt and tls.key; empty if the gateway asks for no certificate."""

    @model_validator(mode="after")
    def _secrets_suit_layout(self) -> Self:
        if (self.layout == "single") != bool(self.secret):
            raise broken("secret must be set with layout: single, and only then")
        if (self.layout == "split") != bool(self.ca_secret):
            raise broken("ca_secret must be set with layout: split, and only then")
        if self.client_secret and self.layout != "split":
            raise broken("client_secret has no meaning without layout: split")
        return self

    @property
    def folders(self) -> tuple[str, ...]:
        """Where they are mounted: the one, or the gateway's and the supervisor's own."""
        if self.layout == "none":
            return ()
        if self.layout == "single":
            return ("/etc/openshell-tls/client",)
        return ("/tls/ca", "/tls/client") if self.client_secret else ("/tls/ca",)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The Secrets it needs in every sandbox's namespace."""
        return tuple(filter(None, (self.secret, self.ca_secret, self.client_secret)))


class SecurityConfig(DriverConfig):
    """What the supervisor may do, and who the workload is.

    The supervisor starts as root: it makes network namespaces, and gives its rights up for the
    workload.
    """

    uid: UserId | None = None
    """The workload's user. By default what OpenShift's annotation of the namespace says, else
    1000."""
    gid: UserId | None = None
    """Its group. By default `uid` if that is set, then OpenShift's annotation, then the user."""
    privileged: bool = False
    """Run the supervisor privileged, as the kagenti line does. Capabilities are enough."""
    capabilities: tuple[Capability, ...] = ()
    """More than SYS_ADMIN, NET_ADMIN, SYS_PTRACE and SYSLOG."""
    apparmor: AppArmorProfile | None = None
    """``RuntimeDefault``, ``Unconfined`` or ``Localhost/`` and a name; None leaves it to the
    node. Needs Kubernetes 1.30."""
    user_namespaces: bool = False
    """For a request that does not say: root in the sandbox is nobody on the node. Needs
    Kubernetes 1.33 and a runtime that can."""


class WorkspaceConfig(DriverConfig):
    """The folder whose content outlives a stop."""

    volume: Literal["claim", "empty-dir", "none"] = "claim"
    """``claim``: a PersistentVolumeClaim for each sandbox. ``empty-dir``: lost at a stop. ``none``:
    part of the container's own file system."""
    size: MaybeQuantity = "2Gi"
    """Of the claim, or the limit of the empty-dir; empty is no limit, and not for a claim."""
    storage_class: MaybeName = ""
    """Empty for the cluster's default; without one, sandboxes wait for ever."""
    access_mode: Literal["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"] = "ReadWriteOnce"
    mount_path: AbsolutePath = "/sandbox"
    seed: bool = True
    """Fill the volume once with what the image has at `mount_path`; the image needs sh and tar. The
    files are the workload's then."""
    fs_group: bool = False
    """Let the kubelet give the volume to the workload's group, for storage where root must not.
    The group then reads the supervisor's own secret files, too."""

    @model_validator(mode="after")
    def _claim_has_a_size(self) -> Self:
        if self.volume == "claim" and not self.size:
            raise broken("size must be set with volume: claim")
        return self


class HostAlias(DriverConfig):
    """An address and the names that sandboxes know it by."""

    ip: IPvAnyAddress
    hostnames: Annotated[tuple[DnsName, ...], Field(min_length=1)]


class SecretKeyRef(DriverConfig):
    """A key of a Secret in the sandbox's namespace."""

    secret: DnsName
    key: SecretKey
