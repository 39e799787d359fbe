"""A start that fails or is given up when its request is sent does not happen later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from openshell_compute_k8s import KubernetesDriver
from openshell_compute_k8s._api import Api, Interrupted
from openshell_compute_k8s._view import View

from examples.k8s_compute.tests.world import World, eventually
from openshell_drivers import CreateScope, SandboxSpec, StartRequest, Unavailable
from tests.fakes.compute import Gate

pytestmark = pytest.mark.kube

ONE: Final = SandboxSpec(id="one", name="one", workspace="w")


@asynccontextmanager
async def made(world: World, socket: Path) -> AsyncIterator[KubernetesDriver]:
    """Serve a driver that has made a sandbox, whose pod is there."""
    async with world.serving(socket) as driver:
        await driver.create_sandbox(ONE, CreateScope("one", lambda event: None, set()))
        assert await eventually(lambda: len(world.objects("pods")) == 1)
        yield driver


def mode(world: World) -> str:
    return str(world.only_sandbox()["spec"]["operatingMode"])


class Patches:
    """What is asked of the sandbox: the first, or that of a number, is done, and then its answer
    is held or lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, held: bool, lost: int = 1) -> None:
        self.modes: list[str] = []
        self.gate = Gate()
        self._held = held
        call = Api.call

        async def patched(api: Api, *asked: Any, **more: Any) -> Any:
            answer = await call(api, *asked, **more)
            if asked[0] == "PATCH":
                self.modes.append(more["body"]["spec"]["operatingMode"])
                if len(self.modes) == lost:
                    await self._lose()
            return answer

        monkeypatch.setattr(Api, "call", patched)

    async def _lose(self) -> None:
        self.gate.reached.set()
        if self._held:
            await self.gate.opened.wait()
        raise Interrupted("the connection to the API server broke")


async def test_a_start_whose_answer_is_lost_is_taken_back(
    world: World, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with made(world, socket_path) as driver:
        await driver.stop_sandbox(ONE.ref)
        patches = Patches(monkeypatch, held=False)
        with pytest.raises(Unavailable, match="connection to the API server broke"):
            await driver.start_sandbox(ONE.ref, StartRequest())
        assert (patches.modes, mode(world)) == (["Running", "Suspended"], "Suspended")
        assert await eventually(lambda: world.objects("pods") == [])


async def test_a_start_that_is_cancelled_is_taken_back(
    world: World, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with made(world, socket_path) as driver, anyio.create_task_group() as tasks:
        await driver.stop_sandbox(ONE.ref)
        patches = Patches(monkeypatch, held=True)
        ended = anyio.Event()

        async def start() -> None:
            with anyio.CancelScope() as given_up:
                scopes.append(given_up)
                await driver.start_sandbox(ONE.ref, StartRequest())
            ended.set()

        scopes: list[anyio.CancelScope] = []
        tasks.start_soon(start)
        await patches.gate.reached.wait()
        assert mode(world) == "Running"
        scopes[0].cancel()
        await ended.wait()
        assert (patches.modes, mode(world)) == (["Running", "Suspended"], "Suspended")
        assert await eventually(lambda: world.objects("pods") == [])


async def test_a_start_of_what_runs_is_not_taken_back(
    world: World, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with made(world, socket_path) as driver:
        patches = Patches(monkeypatch, held=False)
        with pytest.raises(Unavailable):
            await driver.start_sandbox(ONE.ref, StartRequest())
        assert (patches.modes, mode(world)) == (["Running"], "Running")


async def test_a_start_of_what_had_ended_is_taken_back(
    world: World, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run before is cleared away first, and nothing runs afterwards."""
    async with made(world, socket_path) as driver:
        world.patch("pods", "w--one", {"metadata": {"annotations": {"kwok.test/exit": "0"}}})
        assert await eventually(lambda: phases(world) == ["Succeeded"])
        view = (await driver._ready())._view
        assert await view.until("one", lambda: view_has_ended(view), 30)
        patches = Patches(monkeypatch, held=False, lost=2)
        with pytest.raises(Unavailable, match="connection to the API server broke"):
            await driver.start_sandbox(ONE.ref, StartRequest())
        assert patches.modes == ["Suspended", "Running", "Suspended"]
        assert mode(world) == "Suspended"


def phases(world: World) -> list[str]:
    """The phases of all pods."""
    return [each["status"]["phase"] for each in world.objects("pods")]


def view_has_ended(view: View) -> bool:
    """Whether the driver knows that the run is over."""
    seen = view.find("one")
    pod = None if seen is None else view.pod_of(seen)
    return pod is not None and pod.phase == "Succeeded"
