"""The whole life of a sandbox, under every gateway, on a real cluster; read back from there."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from openshell_compute_k8s import KubernetesConfig
from openshell_compute_k8s._holder import Holder
from openshell_compute_k8s._seen import Seen

from examples.k8s_compute.tests.world import V1BETA1, World, eventually
from openshell_drivers import AlreadyExists, FailedPrecondition, SandboxRef, SandboxSpec, Secret
from openshell_drivers.client import Connection, connect
from openshell_drivers.compute import SandboxTemplate
from openshell_drivers.testing.gateway import PRESETS, Gateway
from tests.peers.kube import Access
from tests.peers.kube.plugin import make_namespace

pytestmark = pytest.mark.kube


def condition(item: dict[str, Any], kind: str) -> str:
    """The status of one of a resource's conditions."""
    found = {each["type"]: each["status"] for each in item["status"].get("conditions", [])}
    return str(found.get(kind, ""))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("version", ["v1beta1", "v1alpha1"])
async def test_the_whole_loop(world: World, socket_path: Path, preset: str, version: str) -> None:
    async with (
        world.serving(socket_path, api_version=version),
        Gateway(socket_path, preset=preset) as gateway,
    ):
        await gateway.create("one")
        await gateway.wait_for("one", "Ready")
        made = world.only_sandbox()
        (pod,) = world.objects("pods")
        assert pod["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
        assert (condition(made, "Ready"), pod["status"]["phase"]) == ("True", "Running")
        if preset != "fork-mvp":
            await gateway.stop("one")
            stopped = world.only_sandbox()
            assert world.objects("pods") == []
            assert stopped["spec"]["operatingMode"] == "Suspended"
            assert condition(stopped, "Suspended") == "True"
            await gateway.start("one")
            await gateway.wait_for("one", "Ready")
            again = world.only_sandbox()
            assert again["metadata"]["uid"] == made["metadata"]["uid"]
            assert world.objects("pods")[0]["metadata"]["uid"] != pod["metadata"]["uid"]
        await gateway.delete("one")
        await gateway.wait_gone("one")
        assert world.sandboxes() == []
        assert world.objects("pods") == []


async def test_a_stop_that_follows_a_start_at_once_stops_what_was_started(
    world: World, socket_path: Path
) -> None:
    spec = SandboxSpec(id="one", name="one", workspace="default")
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(spec)
        await caller.compute.stop_sandbox(spec.ref)
        for _ in range(5):
            await caller.compute.start_sandbox(spec.ref)
            await caller.compute.stop_sandbox(spec.ref)
            assert world.only_sandbox()["spec"]["operatingMode"] == "Suspended"
            assert world.objects("pods") == []


async def test_a_stop_does_not_rely_on_what_the_watch_has_yet_to_bring(
    world: World, socket_path: Path
) -> None:
    spec = SandboxSpec(id="one", name="one", workspace="default")
    async with world.serving(socket_path) as driver, connect(socket_path) as caller:
        await caller.compute.create_sandbox(spec)
        await caller.compute.stop_sandbox(spec.ref)
        cluster = await driver._ready()
        stopped = cluster._view.find("one")
        assert stopped is not None
        await caller.compute.start_sandbox(spec.ref)
        assert await cluster._view.until("one", lambda: is_wanted(cluster._view.find("one")), 30)
        cluster._view.put(stopped)  # as if the start had not been seen yet
        await cluster.running.stop(spec.ref)
        assert world.only_sandbox()["spec"]["operatingMode"] == "Suspended"


def is_wanted(seen: Seen | None) -> bool:
    """Whether a sandbox is meant to run."""
    return seen is not None and seen.wanted


async def test_progress_is_told_from_the_clusters_events(world: World, socket_path: Path) -> None:
    async with world.serving(socket_path), Gateway(socket_path) as gateway:
        await gateway.create("one")
        await gateway.wait_for("one", "Ready")

        def told() -> set[str]:
            return {
                f"{key.rpartition('.')[2]}={value}"
                for entry in gateway.journal
                if entry.event is not None
                for key, value in entry.event.metadata.items()
            }

        await gateway.stop("one")  # by then the kubelet's events have come
        assert {"active_step=requesting_sandbox", "complete_step=pulling_image"} <= told()
        assert "complete_step=starting_sandbox" in told()


async def test_a_sandbox_is_found_by_its_id_and_has_its_workspace_in_its_name(
    world: World, socket_path: Path
) -> None:
    async with world.caller(socket_path) as caller:
        for number, workspace in enumerate(("default", "other")):
            spec = SandboxSpec(id=f"id-{number}", name="same", workspace=workspace)
            await caller.compute.create_sandbox(spec)
        names = {each["metadata"]["name"] for each in world.sandboxes()}
        assert names == {"default--same", "other--same"}
        assert await caller.compute.delete_sandbox(SandboxRef(id="id-0", name="wrong"))
        with pytest.raises(AlreadyExists):
            await caller.compute.create_sandbox(
                SandboxSpec(id="id-2", name="same", workspace="other")
            )
        labels = world.sandboxes("openshell.ai/sandbox-id=id-1")[0]["metadata"]["labels"]
        assert labels["openshell.ai/sandbox-name"] == "same"
        assert labels["openshell.ai/sandbox-workspace"] == "other"
        assert labels["openshell.ai/managed-by"] == "openshell"


async def test_long_names_are_hashed_and_come_back_whole(world: World, socket_path: Path) -> None:
    name, workspace = "Ünïcode " + "n" * 200, "w" * 100
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(SandboxSpec(id="one", name=name, workspace=workspace))
        found = await caller.compute.get_sandbox(SandboxRef(id="one"))
        assert (found.name, found.workspace) == (name, workspace)
        made = world.only_sandbox()["metadata"]
        assert len(made["name"]) <= 63
        assert made["annotations"]["openshell.ai/sandbox-name"] == name


async def test_a_name_is_waited_for_while_the_sandbox_that_had_it_is_going(
    world: World, socket_path: Path
) -> None:
    slow = SandboxTemplate(image="one", platform_config={"annotations": {"kwok.test/linger": "2s"}})
    spec = SandboxSpec(id="one", name="one", workspace="default", template=slow)
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(spec)
        assert await eventually(lambda: len(world.objects("pods")) == 1)
        first = world.only_sandbox()["metadata"]["uid"]
        assert await caller.compute.delete_sandbox(spec.ref)
        assert "deletionTimestamp" in world.only_sandbox()["metadata"]
        await caller.compute.create_sandbox(replace(spec, id="two"))
        assert world.only_sandbox()["metadata"]["uid"] != first


async def test_what_a_killed_create_left_unfinished_is_no_sandbox_and_in_nobodys_way(
    world: World, socket_path: Path
) -> None:
    spec = SandboxSpec(id="one", name="one", workspace="default")
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(spec)
        left = world.only_sandbox()
        mark = {"metadata": {"labels": {"openshell.ai/unfinished": "true"}}}
        world.patch("sandboxes", left["metadata"]["name"], mark, group=V1BETA1)
    async with world.caller(socket_path) as caller:
        assert await caller.compute.list_sandboxes() == ()
        await caller.compute.create_sandbox(spec)
        made = world.only_sandbox()["metadata"]
        assert made["uid"] != left["metadata"]["uid"]
        assert "openshell.ai/unfinished" not in made["labels"]


async def test_what_a_killed_driver_left_unfinished_is_removed_by_the_next_one(
    world: World, socket_path: Path
) -> None:
    dead = Holder(**{**asdict(Holder.this()), "pid": "4194305"}).write()
    alive = Holder.this().write()
    elsewhere = Holder("elsewhere", "b", "n", "1", "1").write()
    async with world.caller(socket_path) as caller:
        for name, holder in (("a", dead), ("b", alive), ("c", elsewhere)):
            await caller.compute.create_sandbox(SandboxSpec(id=name, name=name, workspace="w"))
            marks = {
                "labels": {"openshell.ai/unfinished": "true"},
                "annotations": {"openshell.ai/creating": holder},
            }
            world.patch("sandboxes", f"w--{name}", {"metadata": marks}, group=V1BETA1)
    async with world.caller(socket_path) as caller:

        def left() -> set[str]:
            return {each["metadata"]["name"] for each in world.sandboxes()}

        assert await eventually(lambda: left() == {"w--b", "w--c"})
        assert await caller.compute.list_sandboxes() == ()


async def test_launch_authentication_is_split_into_secrets_of_the_sandbox(
    world: World, socket_path: Path
) -> None:
    launch = (
        '{"supervisor": {"session_id": "s", "gateway_token": "canary-1"}, "gateway_id": "g",'
        ' "verification_keys": []}'
    )
    spec = SandboxSpec(
        id="one",
        name="one",
        workspace="default",
        launch_authentication=Secret(launch),
        sandbox_token=Secret("canary-2"),
    )
    async with world.caller(socket_path) as caller:
        identity = await caller.compute.create_sandbox(spec)
        made = world.only_sandbox()
        secrets = {each["metadata"]["name"]: each for each in world.objects("secrets")}
        assert set(secrets) == {"default--one-supervisor", "default--one-public"}
        for each in secrets.values():
            (owner,) = each["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["uid"]) == ("Sandbox", made["metadata"]["uid"])
        assert identity == f"k8s:{world.namespace}:{made['metadata']['uid']}"
        everything = f"{made} {world.objects('pods')} {secrets['default--one-public']}"
        assert "canary" not in everything
        assert "canary-2" not in str(secrets)

        await caller.compute.stop_sandbox(spec.ref)
        fresh = Secret(launch.replace("canary-1", "canary-3"))
        await caller.compute.start_sandbox(spec.ref, launch_authentication=fresh, generation_id="2")
        before, after = secrets["default--one-supervisor"], None
        for each in world.objects("secrets"):
            if each["metadata"]["name"] == "default--one-supervisor":
                after = each
        assert after is not None
        assert after["data"] != before["data"]
        assert await caller.compute.delete_sandbox(spec.ref)
        assert await eventually(lambda: world.objects("secrets") == [])


async def test_a_token_of_its_pod_authenticates_a_sandbox_and_no_other(
    world: World, socket_path: Path
) -> None:
    async with world.serving(socket_path), Gateway(socket_path) as gateway:
        await gateway.create("one")
        await gateway.wait_for("one", "Ready")
        (pod,) = world.objects("pods")
        token = world.kube.service_account_token(
            world.namespace,
            "openshell-sandbox",
            audiences=["openshell-gateway"],
            pod=pod["metadata"]["name"],
        )
        record = await gateway.issue_token(Secret(token))
        assert record.name == "one"


async def test_another_process_knows_which_start_was_made_and_of_what(
    world: World, socket_path: Path
) -> None:
    """A retry is no second start (COMP01-START-01), and another object no sandbox of the gateway's
    (COMP01-ID-02)."""
    spec = SandboxSpec(id="one", name="one", workspace="default")
    async with world.caller(socket_path) as caller:
        identity = await caller.compute.create_sandbox(spec)
        await caller.compute.stop_sandbox(spec.ref)
        await caller.compute.start_sandbox(spec.ref, generation_id="g-1")
        started = world.only_sandbox()["metadata"]["resourceVersion"]
        assert started
    async with world.caller(socket_path) as caller:
        other = f"k8s:{world.namespace}:another"
        with pytest.raises(FailedPrecondition, match="not the one that the gateway knows"):
            await caller.compute.start_sandbox(
                spec.ref, generation_id="g-2", expected_runtime_identity=other
            )
        again = await caller.compute.start_sandbox(
            spec.ref, generation_id="g-1", expected_runtime_identity=identity
        )
        assert again == identity
        assert world.only_sandbox()["metadata"]["annotations"]["openshell.ai/start"] == "g-1"
        await caller.compute.stop_sandbox(spec.ref)
        assert "openshell.ai/start" not in world.only_sandbox()["metadata"]["annotations"]
        await caller.compute.start_sandbox(spec.ref, generation_id="g-1")
        assert world.only_sandbox()["spec"]["operatingMode"] == "Running"


async def test_a_run_that_has_ended_is_not_started_again_by_a_retry_to_another_process(
    world: World, socket_path: Path
) -> None:
    spec = SandboxSpec(id="one", name="one", workspace="default")
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(spec)
        await caller.compute.stop_sandbox(spec.ref)
        await caller.compute.start_sandbox(spec.ref, generation_id="g-1")
        assert await eventually(lambda: world.objects("pods") != [])
        world.patch("pods", "default--one", {"metadata": {"annotations": {"kwok.test/exit": "0"}}})
        assert await eventually(lambda: has_ended(world))
        (run,) = world.objects("pods")
    async with world.caller(socket_path) as caller:
        await caller.compute.start_sandbox(spec.ref, generation_id="g-1")
        (same,) = world.objects("pods")
        assert same["metadata"]["uid"] == run["metadata"]["uid"]
        await caller.compute.start_sandbox(spec.ref, generation_id="g-2")
        assert await eventually(lambda: world.objects("pods") != [])
        (new,) = world.objects("pods")
        assert new["metadata"]["uid"] != run["metadata"]["uid"]


def has_ended(world: World) -> bool:
    """Whether the one pod's run is over."""
    phases = [each["status"]["phase"] for each in world.objects("pods")]
    return phases in (["Succeeded"], ["Failed"])


async def test_the_wish_to_wait_for_the_creating_client_is_not_replayed_at_a_start(
    world: World, socket_path: Path
) -> None:
    def main_process() -> dict[str, Any]:
        (container,) = world.only_sandbox()["spec"]["podTemplate"]["spec"]["containers"]
        values = {each["name"]: each.get("value", "") for each in container["env"]}
        found: dict[str, Any] = json.loads(values["OPENSHELL_MAIN_PROCESS_SPEC"].replace("$$", "$"))
        return found

    spec = SandboxSpec(
        id="one", name="one", command=("echo", "$HOME"), await_main_process_attachment=True
    )
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(spec)
        assert main_process()["await_main_process_attachment"] is True
        await caller.compute.stop_sandbox(spec.ref)
        await caller.compute.start_sandbox(spec.ref)
        assert main_process() == {"version": 1, "command": ["echo", "$HOME"], "tty": False}


async def test_tenants_with_the_same_names_do_not_touch_each_other(
    kube: Access, world: World, short_dir: Path
) -> None:
    other = World(kube, make_namespace(kube))
    ours, theirs = short_dir / "a" / "s", short_dir / "b" / "s"
    async with (
        world.serving(ours, gateway_id="ours"),
        other.serving(theirs, gateway_id="theirs"),
        Gateway(ours) as one,
        Gateway(theirs) as two,
    ):
        for gateway in (one, two):
            await gateway.create("same")
            await gateway.wait_for("same", "Ready")
        await one.stop("same")
        assert other.only_sandbox()["spec"]["operatingMode"] == "Running"
        await one.delete("same")
        await one.wait_gone("same")
        assert len(other.objects("pods")) == 1
        assert [record.phase for record in two.records] == ["Ready"]
        words = " ".join(map(str, two.journal))
        assert "Stopp" not in words
        assert "Delet" not in words


async def test_gateways_in_one_namespace_do_not_see_each_other(
    world: World, short_dir: Path
) -> None:
    ours, theirs = short_dir / "a" / "s", short_dir / "b" / "s"
    async with (
        world.caller(ours, gateway_id="ours") as one,
        world.caller(theirs, gateway_id="theirs") as other,
    ):
        spec = SandboxSpec(id="one", name="one", workspace="default")
        await one.compute.create_sandbox(spec)
        assert [each.id for each in await one.compute.list_sandboxes()] == ["one"]
        assert await other.compute.list_sandboxes() == ()
        assert not await other.compute.delete_sandbox(spec.ref)
        assert len(world.sandboxes()) == 1


async def test_an_unlabelled_sandbox_is_adopted_if_the_operator_wants(
    world: World, short_dir: Path
) -> None:
    spec = SandboxSpec(id="one", name="one", workspace="default")
    async with world.caller(short_dir / "a" / "s") as before:
        await before.compute.create_sandbox(spec)
        assert await eventually(lambda: len(world.objects("pods")) == 1)
    adopting: dict[str, Any] = {"gateway_id": "ours", "adopt_unlabelled": True}
    async with (
        world.serving(short_dir / "b" / "s", **adopting),
        Gateway(short_dir / "b" / "s") as gateway,
    ):
        await gateway.wait_watching()

        def labelled() -> bool:
            made = world.only_sandbox()
            of_pods = made["spec"]["podTemplate"]["metadata"]["labels"]
            return all(
                "openshell.ai/gateway-id" in each for each in (made["metadata"]["labels"], of_pods)
            )

        assert await eventually(labelled)
        async with connect(short_dir / "b" / "s") as caller:  # and its pod is known
            (pod,) = world.objects("pods")
            with anyio.fail_after(30):
                wanted = [pod["metadata"]["uid"]]
                while await instances(caller) != wanted:  # noqa: ASYNC110  # the watch brings it
                    await anyio.sleep(0.05)


async def instances(caller: Connection) -> list[str]:
    """The instances of all sandboxes."""
    found = await caller.compute.list_sandboxes()
    return [each.status.instance_id for each in found if each.status is not None]


def test_the_configuration_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="gateway_id must be set"):
        KubernetesConfig(workspaces={"mode": "managed", "prefix": "a-"})  # type: ignore[arg-type]
