"""Requests, configurations and the pods they make, for the tests of the pod template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from openshell_compute_k8s._pod import pod_template
from openshell_compute_k8s.config import KubernetesConfig

from openshell_drivers import SandboxSpec
from openshell_drivers.compute import SandboxTemplate

OWN_LABELS: Final = {"openshell.ai/managed-by": "openshell"}


def request(*, template: Mapping[str, Any] | None = None, **fields: Any) -> SandboxSpec:
    """Make a request; `template` has the fields of its template."""
    return SandboxSpec(
        id="3c0ffee0-id",
        name="one",
        workspace="team",
        template=SandboxTemplate(**{"image": "example.org/base:1", **(template or {})}),
        **fields,
    )


def settings(pod: Mapping[str, Any] | None = None, **fields: Any) -> KubernetesConfig:
    """Make a configuration; `pod` has the settings of the pod."""
    return KubernetesConfig.model_validate({**fields, "pod": dict(pod or {})})


def made(
    spec: SandboxSpec | None = None,
    config: KubernetesConfig | None = None,
    *,
    scc_annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Make the pod template of a sandbox whose resource is called ``team--one``."""
    return pod_template(
        spec or request(),
        config or settings(),
        labels=OWN_LABELS,
        annotations={"openshell.ai/sandbox-name": "one"},
        object_name="team--one",
        scc_annotations=scc_annotations or {},
    )


def agent(template: Mapping[str, Any]) -> dict[str, Any]:
    """Give the container that is the sandbox."""
    [container] = template["spec"]["containers"]
    assert container["name"] == "agent"
    return dict(container)


def init(template: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Give an init container by its name."""
    containers = template["spec"].get("initContainers", [])
    return next((each for each in containers if each["name"] == name), None)


def volume(template: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Give a volume's source by the volume's name."""
    volumes = {each["name"]: each for each in template["spec"]["volumes"]}
    return (
        {key: each for key, each in volumes[name].items() if key != "name"}
        if (name in volumes)
        else None
    )


def mount(template: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Give where a volume is in the sandbox, by the volume's name."""
    mounts = agent(template)["volumeMounts"]
    found = [each for each in mounts if each["name"] == name]
    return {key: each for key, each in found[0].items() if key != "name"} if found else None


def environment(template: Mapping[str, Any]) -> dict[str, str]:
    """Give the variables as a process gets them, without those from Secrets."""
    listed = agent(template)["env"]
    assert len({each["name"] for each in listed}) == len(listed)
    return {each["name"]: each["value"].replace("$$", "$") for each in listed if "value" in each}


def claim(name: str = "data", path: str = "/data", **mount: Any) -> dict[str, Any]:
    """Make a ``driver_config`` that mounts one existing claim."""
    return {
        "volumes": [{"name": name, "persistent_volume_claim": {"claim_name": f"pvc-{name}"}}],
        "containers": {"agent": {"volume_mounts": [{"name": name, "mount_path": path, **mount}]}},
    }
