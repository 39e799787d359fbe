"""Any legal order of operations, against a small model of the contract, and kill -9 in between."""

from __future__ import annotations

import random
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from openshell_drivers import (
    AlreadyExists,
    DriverError,
    NotFound,
    SandboxRef,
    SandboxSpec,
    Unavailable,
)
from openshell_drivers.client import Connection, connect
from openshell_drivers.compute import Sandbox, SandboxDeleted, SandboxSeen
from openshell_drivers.server import running
from tests.fakes.commands import Commands
from tests.presets.platforms import PLATFORMS, Platform, sweep

PATIENCE: Final = 15.0
IDS: Final = ("a", "b", "c")
OPERATIONS: Final = ("create", "stop", "start", "delete", "look")
STEPS = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(IDS)), max_size=14)
KILLED = st.lists(
    st.tuples(
        st.sampled_from((*OPERATIONS, "kill", "kill")), st.sampled_from(IDS), st.floats(0, 0.03)
    ),
    max_size=10,
)
FEW = settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a failure is shown as it came
    print_blob=True,
)


def state_of(sandbox: Sandbox) -> str:
    """What the conditions say, in the model's words."""
    assert sandbox.status is not None
    said = {each.type: each for each in sandbox.status.conditions}
    if "Suspended" in said and said["Suspended"].status == "True":
        assert said["Ready"].status != "True"
        return "stopped"
    ready = said["Ready"]
    return {"True": "ready", "Unknown": "unknown"}.get(ready.status, ready.reason)


class Watcher:
    """Replays a watch, opened again whenever it ends, as a gateway does."""

    def __init__(self) -> None:
        self.seen: dict[str, Sandbox] = {}
        self.deleted: list[str] = []

    async def watch(self, connection: Connection) -> None:
        while True:
            try:
                async for event in connection.compute.watch_sandboxes():
                    self.take(event)
            except DriverError:
                await anyio.sleep(0.02)

    def take(self, event: object) -> None:
        match event:
            case SandboxSeen():
                self.seen[event.sandbox.id] = event.sandbox
            case SandboxDeleted():
                self.deleted.append(event.sandbox_id)
                self.seen.pop(event.sandbox_id, None)


class World:
    """A driver, and what must be true of it: the model."""

    def __init__(self, connection: Connection, watcher: Watcher) -> None:
        self.compute = connection.compute
        self.watcher = watcher
        self.model: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.made = 0

    def ref(self, slot: str) -> SandboxRef:
        return SandboxRef(id=self.ids.get(slot, f"never-{slot}"), name=slot)

    async def step(self, operation: str, slot: str) -> None:
        await getattr(self, operation)(slot)
        await self.settle()

    async def create(self, slot: str) -> None:
        if slot in self.model:
            spec = SandboxSpec(id=self.ids[slot], name=slot, command=("sleep", "600"))
            with pytest.raises(AlreadyExists):
                await self.compute.create_sandbox(spec)
            return
        self.made += 1
        self.ids[slot] = f"{slot}-{self.made}"
        spec = SandboxSpec(id=self.ids[slot], name=slot, command=("sleep", "600"))
        await self.compute.validate_sandbox_create(spec)
        await self.compute.create_sandbox(spec)
        self.model[slot] = "ready"
        assert self.ids[slot] in {each.id for each in await self.compute.list_sandboxes()}

    async def stop(self, slot: str) -> None:
        await self.or_not_found(slot, self.compute.stop_sandbox, "stopped")
        if slot in self.model:  # at once, and not only in the end (COMP01-STAT-02)
            assert state_of(await self.compute.get_sandbox(self.ref(slot))) == "stopped"

    async def start(self, slot: str) -> None:
        await self.or_not_found(slot, self.compute.start_sandbox, "ready")
        if slot in self.model:
            now = state_of(await self.compute.get_sandbox(self.ref(slot)))
            assert now in {"ready", "Starting"}

    async def or_not_found(
        self, slot: str, call: Callable[[SandboxRef], Awaitable[object]], state: str
    ) -> None:
        if slot in self.model:
            await call(self.ref(slot))
            self.model[slot] = state
        else:
            with pytest.raises(NotFound):
                await call(self.ref(slot))

    async def delete(self, slot: str) -> None:
        assert await self.compute.delete_sandbox(self.ref(slot)) is (slot in self.model)
        self.model.pop(slot, None)

    async def look(self, slot: str) -> None:
        if slot in self.model:
            assert (await self.compute.get_sandbox(self.ref(slot))).id == self.ids[slot]
        else:
            with pytest.raises(NotFound):
                await self.compute.get_sandbox(self.ref(slot))

    async def settle(self) -> None:
        """Wait until list and watch agree with the model."""
        wanted = {self.ids[slot]: state for slot, state in self.model.items()}
        listed: dict[str, str] = {}
        watched: dict[str, str] = {}
        with anyio.move_on_after(PATIENCE):
            while True:
                listed = {e.id: state_of(e) for e in await self.compute.list_sandboxes()}
                watched = {key: state_of(each) for key, each in self.watcher.seen.items()}
                if listed == watched == wanted:
                    return
                await anyio.sleep(0.01)
        assert (listed, watched) == (wanted, wanted)

    def assert_told_once(self) -> None:
        assert sorted(self.watcher.deleted) == sorted(set(self.watcher.deleted))


@asynccontextmanager
async def watching(socket: Path) -> AsyncIterator[World]:
    watcher = Watcher()
    async with connect(socket) as connection, anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.watch, connection)
        yield World(connection, watcher)
        tasks.cancel_scope.cancel()


def in_a_folder(go: Callable[[Path], Awaitable[None]]) -> None:
    with tempfile.TemporaryDirectory(prefix="os-", dir="/tmp") as folder:
        try:
            with ThreadPoolExecutor(1) as thread:  # this one may have an event loop already
                thread.submit(anyio.run, go, Path(folder)).result()
        finally:
            sweep(Path(folder))


@pytest.mark.parametrize("kind", PLATFORMS.values(), ids=list(PLATFORMS))
@given(steps=STEPS)
@FEW
def test_every_order_of_operations_ends_as_the_contract_says(
    kind: type[Platform], steps: list[tuple[str, str]]
) -> None:
    async def go(folder: Path) -> None:
        socket = folder / "driver.sock"
        async with running(kind(folder).driver(), socket=socket), watching(socket) as world:
            for operation, slot in steps:
                await world.step(operation, slot)
            for slot in list(world.model):
                await world.step("delete", slot)
            world.assert_told_once()

    in_a_folder(go)


class Killable:
    """A driver in a process of its own, that kill -9 hits in the middle of an operation."""

    def __init__(self, commands: Commands, platform: Platform, socket: Path) -> None:
        self._commands = commands
        self._arguments = ["run", *platform.arguments(), "--socket", str(socket)]
        self._socket = socket
        self._open: Any = None
        self.killed = 0

    def begin(self) -> None:
        self._open = self._commands.serving(self._socket, *self._arguments)
        self.process = self._open.__enter__().process

    def end(self) -> None:
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None

    async def kill_during(self, world: World, operation: str, slot: str, delay: float) -> None:
        """Begin an operation, kill, restart; whether it took place is then seen, not assumed."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._try, world, operation, slot)
            await anyio.sleep(delay)
            self.process.send_signal(signal.SIGKILL)
        self.end()
        self.killed += 1
        await anyio.to_thread.run_sync(self.begin)
        await self._learn(world)

    async def _try(self, world: World, operation: str, slot: str) -> None:
        try:
            await getattr(world, operation)(slot)
        except (DriverError, AssertionError):
            return  # cut off: the call itself, or the look after it

    async def _learn(self, world: World) -> None:
        """Take what the driver says after its restart for true, once it has said it twice."""
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    first = {e.id: state_of(e) for e in await world.compute.list_sandboxes()}
                    await anyio.sleep(0.1)
                    again = {e.id: state_of(e) for e in await world.compute.list_sandboxes()}
                except Unavailable:
                    await anyio.sleep(0.02)
                    continue
                if first == again and not {"Starting", "unknown"} & set(first.values()):
                    break
        known = set(world.ids.values())
        assert set(first) <= known  # nothing that nobody asked for
        world.model = {
            slot: first[sandbox_id] for slot, sandbox_id in world.ids.items() if sandbox_id in first
        }
        world.watcher.seen = {key: each for key, each in world.watcher.seen.items() if key in first}


@pytest.mark.parametrize("kind", PLATFORMS.values(), ids=list(PLATFORMS))
@given(steps=KILLED)
@settings(FEW, max_examples=5)
def test_kill_9_at_any_moment_loses_nothing_that_was_promised(
    kind: type[Platform], steps: list[tuple[str, str, float]]
) -> None:
    async def go(folder: Path) -> None:
        socket = folder / "driver.sock"
        driver = Killable(Commands(folder), kind(folder), socket)
        await anyio.to_thread.run_sync(driver.begin)
        try:
            async with watching(socket) as world:
                for operation, slot, delay in steps:
                    others = {key: state for key, state in world.model.items() if key != slot}
                    if operation == "kill":
                        during = random.Random(delay).choice(OPERATIONS)
                        await driver.kill_during(world, during, slot, delay)
                        assert others.items() <= world.model.items()
                        await world.settle()
                    else:
                        await world.step(operation, slot)
                for slot in list(world.model):
                    await world.step("delete", slot)
        finally:
            driver.end()

    in_a_folder(go)
