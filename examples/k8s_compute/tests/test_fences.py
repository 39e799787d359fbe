"""What the network policies of ``deploy`` know pods by is nothing that a sandbox's user can set."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from examples.k8s_compute.tests.deployment import DEPLOY, built, pod_labels, pod_selectors
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
