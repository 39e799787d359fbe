"""`SandboxOptions`: the ``driver_config`` of a request, as the gateway's own Kubernetes driver
reads it. Strict: an unknown key is an error (COMP-IN-06)."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, StrictBool, model_validator

from openshell_compute_k8s._paths import RESERVED_PATHS, overlaps
from openshell_compute_k8s._rules import (
    AbsolutePath,
    DnsLabel,
    DnsName,
    Frozen,
    Labels,
    MaybeName,
    SubPath,
    broken,
)
from openshell_compute_k8s.pod_parts import ResourcesConfig, Toleration
from openshell_drivers.config import DriverConfig

_MOST: Final = 64


def _free_path(path: str) -> str:
    if any(overlaps(path, reserved) for reserved in RESERVED_PATHS):
        raise broken("must not be, hold or lie in a path of the sandbox's own")
    return path


def _free_name(name: str) -> str:
    if name.startswith("openshell-") or name == "workspace":
        raise broken("must not be a volume of the sandbox's own")
    return name


class ClaimOptions(DriverConfig):
    """A PersistentVolumeClaim that exists already, in the sandbox's namespace."""

    claim_name: DnsName
    read_only: StrictBool = True


class VolumeOptions(DriverConfig):
    """A volume by a name of the request's own."""

    name: Annotated[DnsLabel, AfterValidator(_free_name)]
    persistent_volume_claim: ClaimOptions


class MountOptions(DriverConfig):
    """Where a volume, or a folder in it, appears in the sandbox."""

    name: DnsLabel
    """One of `SandboxOptions.volumes`."""
    mount_path: Annotated[AbsolutePath, AfterValidator(_free_path)]
    sub_path: SubPath | None = None
    read_only: StrictBool = True


class AgentOptions(DriverConfig):
    """The container that the sandbox is."""

    resources: ResourcesConfig = ResourcesConfig()
    """What the request's own resources do not say."""
    volume_mounts: Annotated[tuple[MountOptions, ...], Field(max_length=_MOST)] = ()


class ContainersOptions(DriverConfig):
    """The pod's containers."""

    agent: AgentOptions = AgentOptions()


class PodOptions(DriverConfig):
    """How the pod is scheduled and run."""

    node_selector: Labels = Field(default_factory=Frozen)
    runtime_class_name: MaybeName = ""
    priority_class_name: MaybeName = ""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=_MOST)] = ()


class SandboxOptions(DriverConfig):
    """The whole ``driver_config``."""

    pod: PodOptions = PodOptions()
    containers: ContainersOptions = ContainersOptions()
    volumes: Annotated[tuple[VolumeOptions, ...], Field(max_length=_MOST)] = ()

    @property
    def mounts(self) -> tuple[MountOptions, ...]:
        """The mounts of the sandbox's container."""
        return self.containers.agent.volume_mounts

    @property
    def claims(self) -> tuple[str, ...]:
        """The claims that the sandbox attaches from outside (COMP01-ADM-02), each once."""
        return tuple(
            dict.fromkeys(each.persistent_volume_claim.claim_name for each in self.volumes)
        )

    @model_validator(mode="after")
    def _mounts_and_volumes_agree(self) -> Self:
        writable = {each.name: not each.persistent_volume_claim.read_only for each in self.volumes}
        if len(writable) < len(self.volumes):
            raise broken("volumes must not have a name twice")
        if len({each.mount_path for each in self.mounts}) < len(self.mounts):
            raise broken("volume_mounts must not have a mount_path twice")
        for mount in self.mounts:
            if mount.name not in writable:
                raise broken("volume_mounts must name one of volumes")
            if not mount.read_only and not writable[mount.name]:
                raise broken("a read-only claim cannot be mounted writable")
        return self
