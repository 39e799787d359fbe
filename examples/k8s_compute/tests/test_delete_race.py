"""A delete races with those who write the sandbox's status, and is never answered ``false`` while
the object is there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import anyio
import httpx
import pytest

from examples.k8s_compute.tests.world import V1BETA1, World
from openshell_drivers import SandboxRef, SandboxSpec
from openshell_drivers.client import Connection

pytestmark = [pytest.mark.kube, pytest.mark.timeout(900)]

AT_ONCE: Final = 8


class Writer:
    """Somebody who writes a sandbox's status as fast as the API server lets him."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.writes = 0
        self.conflicts = 0

    async def write(self, client: httpx.AsyncClient, name: str, stop: anyio.Event) -> None:
        path = f"/apis/{V1BETA1}/namespaces/{self._world.namespace}/sandboxes/{name}/status"
        number = 0
        while not stop.is_set():
            number += 1
            change = {"status": {"nodeName": f"node-{number}"}}
            reply = await client.patch(
                path, json=change, headers={"Content-Type": "application/merge-patch+json"}
            )
            self.writes += reply.is_success
            self.conflicts += reply.status_code == 409
            if reply.status_code == 404:
                return


async def race(
    world: World, caller: Connection, client: httpx.AsyncClient, writer: Writer, number: int
) -> None:
    """Create, delete while another writes, and compare the answer with what is there."""
    sandbox_id, name = f"race-{number}", f"race-{number}"
    spec = SandboxSpec(id=sandbox_id, name=name, workspace="default")
    await caller.compute.create_sandbox(spec)
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.write, client, f"default--{name}", stop)
        deleted = await caller.compute.delete_sandbox(spec.ref)
        path = f"/apis/{V1BETA1}/namespaces/{world.namespace}/sandboxes/default--{name}"
        reply = await client.get(path)
        stop.set()
    alive = reply.is_success and "deletionTimestamp" not in reply.json()["metadata"]
    assert deleted, f"race {number}: deleted=false"
    assert not alive, f"race {number}: the object goes on"


@pytest.mark.parametrize("races", [25, pytest.param(1000, marks=pytest.mark.matrix)])
async def test_a_delete_that_races_with_status_writes_is_never_false(
    world: World, socket_path: Path, races: int
) -> None:
    writer = Writer(world)
    async with (
        world.caller(socket_path) as caller,
        world.client() as client,
    ):
        gate = anyio.CapacityLimiter(AT_ONCE)

        async def one(number: int) -> None:
            async with gate:
                await race(world, caller, client, writer, number)

        async with anyio.create_task_group() as tasks:
            for number in range(races):
                tasks.start_soon(one, number)
        assert writer.writes > races, "nobody wrote, so this proves nothing"
        assert not await caller.compute.delete_sandbox(SandboxRef(id="race-0", name="race-0"))
