"""However a sandbox is deleted, its gateway hears of it when its pod is gone (COMP-WATCH-07)."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from examples.k8s_compute.tests.world import V1BETA1, World, eventually
from openshell_drivers import SandboxSpec
from openshell_drivers.client import Connection
from openshell_drivers.compute import Sandbox, SandboxDeleted, SandboxSeen
from openshell_drivers.testing.gateway import Gateway

pytestmark = pytest.mark.kube

ONE = SandboxSpec(id="one", name="one", workspace="default")
HELD = {"metadata": {"finalizers": ["example.org/held"]}}


async def delete_behind(world: World, policy: str) -> None:
    """Delete the sandbox's resource as somebody else would."""
    path = f"/apis/{V1BETA1}/namespaces/{world.namespace}/sandboxes/default--one"
    world.kube.api("DELETE", path, {"propagationPolicy": policy})


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_a_sandbox_is_deleting_while_its_pod_is_there(
    world: World, socket_path: Path, policy: str
) -> None:
    async with world.caller(socket_path) as caller:
        await running(world, socket_path, caller)
        world.patch("pods", "default--one", HELD)  # as on a node that is away
        await delete_behind(world, policy)
        if policy == "Background":
            assert await eventually(lambda: world.sandboxes() == [])
        async with aclosing(caller.compute.watch_sandboxes()) as events:
            with anyio.fail_after(30):
                async for event in events:
                    assert not isinstance(event, SandboxDeleted)
                    if isinstance(event, SandboxSeen) and is_deleting(event.sandbox):
                        break
            assert [is_deleting(each) for each in await caller.compute.list_sandboxes()] == [True]
            assert await caller.compute.delete_sandbox(ONE.ref)
            world.patch("pods", "default--one", {"metadata": {"finalizers": None}})
            with anyio.fail_after(30):
                async for event in events:
                    if isinstance(event, SandboxDeleted):
                        break
        assert world.objects("pods") == []
        assert not await caller.compute.delete_sandbox(ONE.ref)


async def test_a_sandbox_is_gone_when_its_pod_was_left_to_itself(
    world: World, socket_path: Path
) -> None:
    async with world.caller(socket_path) as caller:
        await running(world, socket_path, caller)
        await delete_behind(world, "Orphan")
        with anyio.fail_after(30):
            while await caller.compute.list_sandboxes():  # noqa: ASYNC110  # the watch brings it
                await anyio.sleep(0.05)
        assert len(world.objects("pods")) == 1


async def running(world: World, socket: Path, caller: Connection) -> None:
    """Have the sandbox run, and the driver see it."""
    await caller.compute.create_sandbox(ONE)
    async with Gateway(socket) as gateway:
        await gateway.wait_watching()
    with anyio.fail_after(30):
        while not await has_instance(caller):  # noqa: ASYNC110  # the watch brings it
            await anyio.sleep(0.05)
    assert len(world.objects("pods")) == 1


async def has_instance(caller: Connection) -> bool:
    """Whether the pod is known."""
    found = await caller.compute.list_sandboxes()
    return any(each.status is not None and each.status.instance_id for each in found)


def is_deleting(sandbox: Sandbox) -> bool:
    """Whether a sandbox is said to be deleted at present."""
    return sandbox.status is not None and bool(sandbox.status.deleting)
