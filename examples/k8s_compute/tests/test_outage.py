"""What a gateway sees while the API server is away, stuck, or has forgotten the past: nothing lost,
nothing called gone, and all of it back within seconds."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import pytest
from openshell_compute_k8s import KubernetesDriver
from openshell_compute_k8s.conformance.relay import Relay

from examples.k8s_compute.tests.world import V1BETA1, World, eventually
from openshell_drivers import DriverError, SandboxRef, SandboxSpec, Unavailable
from openshell_drivers.client import Connection, connect
from openshell_drivers.server import running
from openshell_drivers.testing.gateway import Gateway, UserError
from tests.peers.kube.cluster import Cluster
from tests.peers.kube.plugin import make_namespace

pytestmark = [pytest.mark.kube, pytest.mark.timeout(300)]

SANDBOXES: Final = 6
BACK: Final = 10.0


@pytest.fixture
def own(own_kube: Cluster) -> World:
    """A namespace in a cluster that may be disturbed."""
    return World(own_kube, make_namespace(own_kube))


async def until_answered(caller: Connection, within: float) -> float:
    """Wait until List is answered again; give the seconds that took."""
    began = time.monotonic()
    with anyio.fail_after(within):
        while True:
            try:
                await caller.compute.list_sandboxes()
            except DriverError:
                await anyio.sleep(0.05)
            else:
                return time.monotonic() - began


async def until_blind(caller: Connection, within: float) -> None:
    """Wait until List says that nothing can be seen."""
    with anyio.fail_after(within):
        while True:
            try:
                await caller.compute.list_sandboxes()
            except Unavailable:
                return
            await anyio.sleep(0.05)


def deletions(gateway: Gateway) -> list[str]:
    """What the watch has called deleted."""
    return [str(entry) for entry in gateway.journal if "deleted" in str(entry).lower()]


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.matrix)])
async def test_a_time_without_an_api_server_under_load(
    own: World, own_kube: Cluster, socket_path: Path, seconds: float
) -> None:
    names = [f"s{number}" for number in range(SANDBOXES)]
    async with (
        own.serving(socket_path),
        connect(socket_path) as caller,
        Gateway(socket_path) as gateway,
        anyio.create_task_group() as tasks,
    ):
        for name in names:
            await gateway.create(name)
        for name in names:
            await gateway.wait_for(name, "Ready")
        before = {record.name: record.id for record in gateway.records}
        tasks.start_soon(load, gateway)
        await gateway.wait_for("load-2", "Provisioning", "Ready", "Deleting")
        await anyio.to_thread.run_sync(own_kube.stop_api)
        stopped = time.monotonic()
        await until_blind(caller, 10)
        while time.monotonic() - stopped < seconds:
            with pytest.raises(Unavailable):
                await caller.compute.get_sandbox(SandboxRef(id=before["s0"]))
            with pytest.raises(Unavailable):
                await gateway.sweep()
            await anyio.sleep(1)
        await anyio.to_thread.run_sync(own_kube.start_api)
        took = await until_answered(caller, BACK)
        tasks.cancel_scope.cancel()
        after = {record.name: record.id for record in gateway.records if record.name in before}
        assert after == before
        assert {record.phase for record in gateway.records if record.name in before} == {"Ready"}
        assert not [line for line in deletions(gateway) if any(f" {n} " in line for n in names)]
        assert took < BACK


async def load(gateway: Gateway) -> None:
    """Create and delete for as long as it is let, whatever comes of it."""
    number = 0
    while True:
        number += 1
        name = f"load-{number}"
        try:
            await gateway.create(name)
            await gateway.delete(name)
        except UserError:
            await anyio.sleep(0.1)


async def test_a_stuck_api_server_is_noticed_though_its_connections_stand(
    own: World, own_kube: Cluster, socket_path: Path
) -> None:
    async with own.caller(socket_path) as caller:
        await caller.compute.create_sandbox(SandboxSpec(id="one", name="one"))
        await anyio.to_thread.run_sync(own_kube.freeze_api)
        try:
            await until_blind(caller, 25)
        finally:
            await anyio.to_thread.run_sync(own_kube.thaw_api)
        await until_answered(caller, BACK)
        assert [each.id for each in await caller.compute.list_sandboxes()] == ["one"]


class Line:
    """The driver's way to the API server, which can be cut."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def order(self, **order: bool) -> None:
        """Cut it (``shut=True``), or mend it."""
        part = self._folder / "part"
        part.write_text(json.dumps(order))
        part.rename(self._folder / "relay.json")
        seen = self._folder / "relay.seen"
        await eventually(lambda: seen.exists() and json.loads(seen.read_text()) == order)


@asynccontextmanager
async def line_to(kube: Cluster, folder: Path) -> AsyncIterator[tuple[Line, Path]]:
    """Give a line, and a kubeconfig that leads over it."""
    server = urlsplit(kube.server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Relay(folder, str(server.hostname), int(server.port or 0)).run)
        await eventually((folder / "relay.port").exists)
        port = (folder / "relay.port").read_text()
        config = folder / "kubeconfig"
        config.touch(mode=0o600)
        config.write_text(kube.kubeconfig.read_text().replace(f":{server.port}", f":{port}"))
        yield Line(folder), config
        tasks.cancel_scope.cancel()


async def test_compacted_history_makes_a_new_list_without_ghosts_and_without_losses(
    own: World, own_kube: Cluster, short_dir: Path
) -> None:
    socket, folder = short_dir / "run" / "s", short_dir / "line"
    folder.mkdir()
    async with (
        line_to(own_kube, folder) as (line, kubeconfig),
        own.serving(socket, kubeconfig=kubeconfig),
        connect(socket) as caller,
        Gateway(socket) as gateway,
    ):
        for name in ("stays", "goes"):
            await gateway.create(name)
            await gateway.wait_for(name, "Ready")
        await line.order(shut=True)
        await until_blind(caller, 10)
        (gone,) = own.sandboxes("openshell.ai/sandbox-name=goes")
        path = f"/apis/{V1BETA1}/namespaces/{own.namespace}/sandboxes/{gone['metadata']['name']}"
        own_kube.api("DELETE", path)
        assert await eventually(lambda: len(own.sandboxes()) == 1)
        # Its pod, too: the garbage collector may be long about it when its own past is gone.
        assert await eventually(lambda: len(own.objects("pods")) == 1)
        await anyio.to_thread.run_sync(own_kube.compact_etcd)
        assert gateway.record("goes") is not None
        await line.order()
        await gateway.wait_gone("goes")
        assert [each.name for each in await caller.compute.list_sandboxes()] == ["stays"]
        assert gateway.record("stays") is not None
        own.patch("sandboxes", own.only_sandbox()["metadata"]["name"], SUSPEND, group=V1BETA1)
        await gateway.wait_for("stays", "Stopped")  # the watch goes on after the new list


SUSPEND: Final[dict[str, Any]] = {"spec": {"operatingMode": "Suspended"}}


async def test_a_rotated_token_is_used_from_the_next_request_on(
    own: World, own_kube: Cluster, short_dir: Path
) -> None:
    token = short_dir / "token"
    token.write_text("a.b.c")
    config = json.loads(own_kube.kubeconfig.read_text())
    good = config["users"][0]["user"].pop("token")
    config["users"][0]["user"]["tokenFile"] = str(token)
    kubeconfig = short_dir / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    driver = KubernetesDriver(own.config(kubeconfig=kubeconfig))
    async with (
        running(driver, socket=short_dir / "run" / "s"),
        connect(short_dir / "run" / "s") as caller,
    ):
        with pytest.raises(Unavailable, match="does not accept the driver's credential"):
            await caller.compute.list_sandboxes()
        token.write_text(good)
        await until_answered(caller, BACK)
        token.write_text("a.b.d")
        await until_blind(caller, 15)
        token.write_text(good)
        await until_answered(caller, BACK)
