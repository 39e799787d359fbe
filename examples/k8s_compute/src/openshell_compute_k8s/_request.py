"""What a request may say beyond what the SDK has judged: how Kubernetes has it.

Wrong in itself is `InvalidArgument`, not to be had here `FailedPrecondition` (COMP-VAL-04). No
message has a value in it (COMP-VAL-08).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field, field_validator

from openshell_compute_k8s._paths import lies_in, overlaps
from openshell_compute_k8s._rules import (
    Annotations,
    Environment,
    Frozen,
    Image,
    Labels,
    MaybeName,
)
from openshell_compute_k8s.options import SandboxOptions
from openshell_compute_k8s.pod_config import PodConfig
from openshell_compute_k8s.pod_parts import ResourcesConfig
from openshell_drivers import FailedPrecondition, InvalidArgument, SandboxSpec
from openshell_drivers.compute import parse_config
from openshell_drivers.config import DriverConfig

_CONTROLLER: Final = "agents.x-k8s.io/"
_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_MOST_ANNOTATIONS: Final = 200 * 1024
"""Bytes; Kubernetes takes 256 KiB on an object, and some are the driver's own."""


def _as_text(amounts: Any) -> Any:
    """Write numbers as text: a gateway sends ``{"example.com/device": 1}`` as it came. What is no
    amount even so, as true and NaN, is then refused as text."""
    if not isinstance(amounts, dict):
        return amounts
    return {
        name: str(amount) if isinstance(amount, int | float) else amount
        for name, amount in amounts.items()
    }


class RawResources(ResourcesConfig):
    """``platform_config.resources_raw``."""

    @field_validator("requests", "limits", mode="before")
    @classmethod
    def _numbers_as_text(cls, amounts: Any) -> Any:
        return _as_text(amounts)


class PlatformOptions(DriverConfig):
    """The keys of ``platform_config`` that are honoured (COMP-IN-05)."""

    runtime_class_name: MaybeName = ""
    annotations: Annotations = Field(default_factory=Frozen)
    resources_raw: RawResources = RawResources()


class TemplateOptions(DriverConfig):
    """What of a template Kubernetes has rules for."""

    image: Image
    labels: Labels
    environment: Environment


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that Kubernetes can be asked for."""

    template: TemplateOptions
    platform: PlatformOptions
    options: SandboxOptions


def read(spec: SandboxSpec, config: PodConfig, default_image: str) -> Asked:
    """Judge a request. The rest of it is judged where it is used, with the same errors."""
    given = spec.template
    variables = {**given.environment, **spec.environment}
    template: TemplateOptions = parse_config(
        TemplateOptions,
        {"image": given.image or default_image, "labels": given.labels, "environment": variables},
        "template",
    )
    platform: PlatformOptions = parse_config(
        PlatformOptions, given.platform_config, "platform_config"
    )
    options: SandboxOptions = parse_config(SandboxOptions, given.driver_config)
    _require_free_keys("labels", given.labels)
    _require_free_keys("platform_config.annotations", platform.annotations)
    _require_small(platform.annotations)
    _require_free_paths(options, config)
    return Asked(template, platform, options)


def _require_free_keys(field: str, keys: Iterable[str]) -> None:
    for key in keys:
        if key.startswith(_CONTROLLER):
            raise FailedPrecondition(f"{field}: those of {_CONTROLLER} are the controller's own")
        if key.startswith(_APPARMOR):
            raise FailedPrecondition(
                f"{field}: the AppArmor profile is not the request's to choose"
            )


def _require_small(annotations: Mapping[str, str]) -> None:
    sizes = (len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if sum(sizes) > _MOST_ANNOTATIONS:
        raise InvalidArgument("platform_config.annotations are larger than Kubernetes takes")


def _require_free_paths(options: SandboxOptions, config: PodConfig) -> None:
    """A mount below the workspace is no harm; one over it hides what is to be kept."""
    workspace = config.workspace.mount_path if config.workspace.volume != "none" else ""
    for mount in options.mounts:
        if any(overlaps(mount.mount_path, own) for own in config.own_paths):
            raise InvalidArgument("driver_config: a mount_path is, holds or is in a reserved path")
        if workspace and lies_in(workspace, mount.mount_path):
            raise InvalidArgument("driver_config: a mount_path is or holds the workspace's path")
