"""What others do to the platforms of the reference drivers, and what the drivers make of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from openshell_drivers import AlreadyExists, FailedPrecondition, SandboxSpec, Unauthenticated
from openshell_drivers.client import ComputeClient, Connection, connect
from openshell_drivers.compute import GpuRequest, SandboxTemplate
from openshell_drivers.reference.memory import Memory, MemoryConfig
from openshell_drivers.secrets import Secret
from openshell_drivers.server import running
from tests.fakes.polling import until
from tests.reference.sandboxes import becomes, box, inhabitants, instance, look, serving

pytestmark = pytest.mark.anyio

SPEC = SandboxSpec(id="a", name="n-a", workspace="team", command=("run", "it"))


@asynccontextmanager
async def memory(state: Path, socket: str = "one", **settings: Any) -> AsyncIterator[Connection]:
    """A driver on a file, and its client."""
    path = state.parent / socket / "driver.sock"
    config = MemoryConfig(state=state, **{"ready_seconds": 0.0, **settings})
    async with running(Memory(config), socket=path), connect(path) as connection:
        yield connection


@pytest.fixture
def state(short_dir: Path) -> Path:
    return short_dir / "state.db"


async def do(platform: tuple[str, Path], verb: str, sandbox_id: str = "") -> Any:
    """Do a verb, in a process of its own."""
    place = {"memory": "--state", "process": "--root"}[platform[0]]
    module = [sys.executable, "-m", "openshell_drivers.reference.verbs", platform[0]]
    done = await anyio.run_process(
        [*module, place, str(platform[1]), verb],
        input=json.dumps({"id": sandbox_id}).encode(),
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


# Memory.


async def test_drivers_on_one_file_have_the_same_sandboxes(state: Path) -> None:
    async with memory(state) as one, memory(state, "two") as two:
        await one.compute.create_sandbox(SPEC)
        await becomes(two.compute, "a", "Running")
        with pytest.raises(AlreadyExists):
            await two.compute.create_sandbox(SPEC)
        await two.compute.stop_sandbox(SPEC.ref)
        await becomes(one.compute, "a", "Stopped")
        await one.compute.start_sandbox(SPEC.ref)
        await becomes(two.compute, "a", "Running")
        assert await two.compute.delete_sandbox(SPEC.ref)
        await becomes(one.compute, "a", "Gone")
        assert not await one.compute.delete_sandbox(SPEC.ref)


async def test_two_creates_of_one_id_at_two_drivers_make_one_sandbox(state: Path) -> None:
    refused = []

    async def create(client: ComputeClient) -> None:
        try:
            await client.create_sandbox(SPEC)
        except AlreadyExists as error:
            refused.append(error)

    async with memory(state) as one, memory(state, "two") as two:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create, one.compute)
            tasks.start_soon(create, two.compute)
        await becomes(one.compute, "a", "Running")  # the refused one has undone nothing

    assert len(refused) == 1


async def test_a_sandbox_that_a_killed_driver_has_begun_becomes_ready_in_its_time(
    state: Path,
) -> None:
    async with memory(state, ready_seconds=0.5) as one:
        await one.compute.create_sandbox(SPEC)
        assert (await look(one.compute, "a"))[0] == "Starting"
    async with memory(state, ready_seconds=86_400) as two:
        await becomes(two.compute, "a", "Running")


async def test_verbs_on_memory_are_seen_by_its_driver(state: Path) -> None:
    place = ("memory", state)
    async with memory(state) as one:
        await one.compute.create_sandbox(SPEC)
        await becomes(one.compute, "a", "Running")
        first = await instance(one.compute, "a")
        workload = await do(place, "workload", "a")
        resources = await do(place, "list_resources")
        await do(place, "foreign")
        credential = await do(place, "credential", "a")
        known = await one.compute.authenticate_sandbox(Secret(credential["credential"]))
        with pytest.raises(Unauthenticated):
            await one.compute.authenticate_sandbox(Secret(f"{credential['credential']}x"))
        await do(place, "exit_main", "a")
        await becomes(one.compute, "a", "ContainerExited")
        await one.compute.start_sandbox(SPEC.ref)
        await becomes(one.compute, "a", "Running")
        assert await instance(one.compute, "a") != first
        await do(place, "remove", "a")
        await becomes(one.compute, "a", "Gone")
        assert await one.compute.list_sandboxes() == ()

    assert workload["command"] == ["run", "it"]
    assert workload["environment"]["OPENSHELL_SANDBOX_ID"] == "a"
    assert (workload["tty"], workload["await_main_process_attachment"]) == (False, False)
    assert resources == {"resources": ["sandbox/a"]}
    assert known.sandbox_id == "a"


async def test_a_hint_for_the_create_is_gone_after_a_start(state: Path) -> None:
    hinted = replace(SPEC, await_main_process_attachment=True)
    place = ("memory", state)
    async with memory(state) as one:
        await one.compute.create_sandbox(hinted)
        await becomes(one.compute, "a", "Running")
        before = await do(place, "workload", "a")
        await one.compute.stop_sandbox(SPEC.ref)
        await one.compute.start_sandbox(SPEC.ref)
        after = await do(place, "workload", "a")

    hint = "await_main_process_attachment"
    assert (before[hint], after[hint]) == (True, False)


async def test_memory_has_eight_gpus(state: Path) -> None:
    async with memory(state) as one:
        await one.compute.validate_sandbox_create(replace(SPEC, gpu=GpuRequest(count=8)))
        with pytest.raises(FailedPrecondition):
            await one.compute.validate_sandbox_create(replace(SPEC, gpu=GpuRequest(count=9)))


async def test_issued_tokens_live_as_long_as_is_set_and_are_new_after_that(state: Path) -> None:
    async with memory(state, issued={"long": 300, "short": 1.5}) as one:
        resolve = one.credentials.resolve_credential
        lasting, first = await resolve("long"), await resolve("short")
        assert await resolve("long") == lasting
        with anyio.fail_after(10):
            while (second := await resolve("short")).token == first.token:  # noqa: ASYNC110
                await anyio.sleep(0.01)

    assert first.expires_at is not None
    assert second.expires_at is not None
    assert second.expires_at > first.expires_at


# Process.


async def test_verbs_on_processes_are_seen_by_their_driver(root: Path) -> None:
    place = ("process", root)
    async with serving(root) as client:
        await client.create_sandbox(box("a", environment={"WISH": "granted"}))
        await client.create_sandbox(box("b"))
        for each in ("a", "b"):
            await becomes(client, each, "Running")
        workload = await do(place, "workload", "a")
        await do(place, "foreign")
        resources = (await do(place, "list_resources"))["resources"]
        await do(place, "exit_main", "a")
        await becomes(client, "a", "ContainerExited")
        await do(place, "remove", "b")
        await becomes(client, "b", "Gone")
        await client.delete_sandbox(box("a").ref)
        left = (await do(place, "list_resources"))["resources"]

    assert workload["command"] == ["sleep", "1000"]
    assert workload["environment"]["WISH"] == "granted"
    assert [each for each in resources if each.startswith("directory/")] == [
        "directory/a",
        "directory/b",
    ]
    assert {each.split("/")[1] for each in resources if each.startswith("process/")} == {"a", "b"}
    assert left == []
    assert inhabitants(root) == []


async def test_a_sandbox_whose_directory_is_removed_ends_without_a_driver_too(root: Path) -> None:
    async with serving(root) as client:
        await client.create_sandbox(box("a"))
        await becomes(client, "a", "Running")
    assert inhabitants(root)
    shutil.rmtree(root)
    await until(lambda: not inhabitants(root))


async def test_images_of_processes_fail_and_dawdle_on_purpose(root: Path) -> None:
    def of(image: str, sandbox_id: str) -> SandboxSpec:
        return box(sandbox_id, template=SandboxTemplate(image=image))

    async with serving(root) as client:
        await client.create_sandbox(of("process/lengthy", "a"))
        await client.create_sandbox(of("process/unpullable", "b"))
        await becomes(client, "b", "CommandNotFound")
        assert (await look(client, "a"))[0] == "Starting"
        await becomes(client, "a", "Running")
        await client.create_sandbox(of("process/lengthy", "c"))
        assert await client.delete_sandbox(box("c").ref)
        assert (await look(client, "c"))[0] == "Gone"
