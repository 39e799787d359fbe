"""What the network policies of ``deploy`` know pods by is nothing that a sandbox's user can set."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import yaml
from openshell_compute_k8s import KubernetesConfig
from openshell_compute_k8s._furniture import furniture

from examples.k8s_compute.tests.deployment import (
    DEPLOY,
    Object,
    built,
    pod_labels,
    pod_selectors,
)
from examples.k8s_compute.tests.world import World, eventually
from openshell_drivers import SandboxSpec
from openshell_drivers.compute import SandboxTemplate

pytestmark = pytest.mark.kube

TENANTS: Final = sorted((DEPLOY / "tenants").iterdir())
RESERVED: Final = "openshell.ai/"
NAMES: Final = {"k8s-app": "kube-dns"}
"""The cluster's own name server, whose labels are not ours to choose."""
SANDBOXES: Final = {"openshell.ai/managed-by": "openshell"}


@pytest.mark.parametrize("folder", TENANTS, ids=lambda folder: folder.name)
def test_the_gateway_is_selected_by_reserved_labels_only(folder: Path) -> None:
    objects = built(folder)
    labels = pod_labels(objects)
    chosen = [each for each in pod_selectors(objects) if each not in (NAMES, SANDBOXES)]
    assert len(chosen) >= 3  # the service, the set, and the gateway's own policy
    for each in chosen:
        assert each.items() <= labels.items()
        assert all(key.startswith(RESERVED) for key in each)
    assert not SANDBOXES.items() <= labels.items()


def test_a_managed_workspace_has_the_fence_of_the_others() -> None:
    """What ``deploy`` puts around shared sandboxes, the driver puts around those of workspaces."""
    shared = next(
        each["spec"]
        for each in built(DEPLOY / "tenants" / "team4" / "agents")
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "openshell-sandboxes"
    )
    tenant = DEPLOY / "tenants" / "team3"
    config = KubernetesConfig.model_validate(yaml.safe_load((tenant / "compute.yaml").read_text()))
    things = dict(furniture(config, "team4", "team3-agents", "agents"))
    (made,) = [each["spec"] for each in things.values() if each["kind"] == "NetworkPolicy"]
    assert made["policyTypes"] == shared["policyTypes"]
    assert [_normal(rule) for rule in made["egress"]] == [_normal(r) for r in shared["egress"]]
    assert [_normal(rule) for rule in made["ingress"]] == [_normal(r) for r in shared["ingress"]]


def _normal(rule: Object) -> Object:
    ports = sorted(rule["ports"], key=lambda each: (each["port"], each["protocol"]))
    return {**rule, "ports": ports}


async def test_a_user_cannot_give_a_sandbox_the_labels_of_the_gateway(
    world: World, socket_path: Path
) -> None:
    wanted = {"control": "arrives"}
    for folder in TENANTS:
        objects = built(folder)
        labels = pod_labels(objects)
        for each in pod_selectors(objects):
            if each.items() <= labels.items():
                wanted |= each
    assert len(wanted) > 1
    template = SandboxTemplate(labels=wanted)
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(SandboxSpec(id="one", name="one", template=template))
        assert await eventually(lambda: bool(world.objects("pods")))
    (pod,) = world.objects("pods")
    for each in (pod["metadata"], world.only_sandbox()["metadata"]):
        kept = wanted.items() & each["labels"].items()
        assert kept == {("control", "arrives")}
