"""Workspaces as namespaces, on a real cluster: what is made, what is refused, what stays listed."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from openshell_compute_k8s import _workspaces
from openshell_compute_k8s._api import Api
from openshell_compute_k8s._sinks import SandboxSink

from examples.k8s_compute.tests.world import V1BETA1, World, eventually
from openshell_drivers import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    SandboxRef,
    SandboxSpec,
    Unavailable,
)
from openshell_drivers.client import Connection
from openshell_drivers.compute import (
    Sandbox,
    SandboxDeleted,
    SandboxHappening,
    SandboxSeen,
)
from tests.peers.kube import Access, ApiError

# A driver that ends while a TLS handshake goes on leaves that socket to the garbage collector: the
# HTTP library does not close it when it is cancelled.
pytestmark = [pytest.mark.kube, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

NAMESPACES: Final = "/api/v1/namespaces"
OWNER: Final = "openshell.ai/gateway-id"
NOTE: Final = "openshell.ai/sandbox-workspace"
SCC: Final = {
    "openshift.io/sa.scc.mcs": "s0:c27,c4",
    "openshift.io/sa.scc.uid-range": "1000680000/10000",
    "openshift.io/sa.scc.supplemental-groups": "1000690000/10000",
}


def spec(workspace: str, number: int = 1, **fields: Any) -> SandboxSpec:
    """Ask for a sandbox in a workspace."""
    name = f"s-{number}"
    sandbox_id = f"{workspace if workspace.isalpha() and workspace.isascii() else 'x'}-{number}"
    return SandboxSpec(id=sandbox_id, name=name, workspace=workspace, **fields)


class Tenants:
    """Namespaces of one test's own, beside that of the driver."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kube = world.kube
        self.prefix = f"{world.namespace[5:]}-"
        self.gateway = world.namespace

    def managed(self, **rules: Any) -> dict[str, Any]:
        """Configure a driver that makes namespaces."""
        return self.mode("managed", prefix=self.prefix, **rules)

    def mode(self, mode: str, **rules: Any) -> dict[str, Any]:
        """Configure a driver for workspaces of any kind."""
        return {"gateway_id": self.gateway, "workspaces": {"mode": mode, **rules}}

    @asynccontextmanager
    async def caller(self, socket: Path, **rules: Any) -> AsyncIterator[Connection]:
        """Call a driver that makes namespaces."""
        async with self.world.caller(socket, **self.managed(**rules)) as caller:
            yield caller

    def name(self, workspace: str) -> str:
        """Name the namespace of a workspace."""
        return self.prefix + workspace

    def make(self, workspace: str, **metadata: Any) -> dict[str, Any]:
        """Make the namespace of a workspace as somebody else would."""
        body = {"metadata": {"name": self.name(workspace), **metadata}}
        return self.kube.api("POST", NAMESPACES, body)

    def read(self, workspace: str) -> dict[str, Any] | None:
        """Read a workspace's namespace back, if there is one."""
        return read(self.kube, f"{NAMESPACES}/{self.name(workspace)}")

    def metadata(self, workspace: str) -> dict[str, Any]:
        """Read the metadata of a workspace's namespace back."""
        found = self.read(workspace)
        assert found is not None
        metadata: dict[str, Any] = found["metadata"]
        return metadata

    def within(self, workspace: str, plural: str, group: str = "") -> list[dict[str, Any]]:
        """Read all objects of a kind in a workspace back."""
        root = f"/apis/{group}" if group else "/api/v1"
        path = f"{root}/namespaces/{self.name(workspace)}/{plural}"
        found: list[dict[str, Any]] = self.kube.api("GET", path)["items"]
        return found

    def sandboxes(self, workspace: str) -> list[dict[str, Any]]:
        """Read the Sandbox resources of a workspace back."""
        return self.within(workspace, "sandboxes", V1BETA1)

    def hold(self, workspace: str, *finalizers: str) -> None:
        """Keep the namespace from going when it is deleted, or (with nothing) let it go."""
        change = {"metadata": {"finalizers": [*finalizers] or None}}
        self.kube.api("PATCH", f"{NAMESPACES}/{self.name(workspace)}", change)

    def delete(self, workspace: str) -> None:
        """Delete the namespace of a workspace as somebody else would."""
        self.kube.api("DELETE", f"{NAMESPACES}/{self.name(workspace)}")

    async def until_gone(self, workspace: str) -> None:
        """Wait until the namespace is gone."""
        assert await eventually(lambda: self.read(workspace) is None)


def read(kube: Access, path: str) -> dict[str, Any] | None:
    """Read an object back; None if there is none."""
    try:
        return kube.api("GET", path)
    except ApiError as error:
        if error.status != 404:
            raise
        return None


@pytest.fixture
def tenants(world: World) -> Iterator[Tenants]:
    """A prefix of the test's own, and what has it deleted afterwards."""
    tenants = Tenants(world)
    yield tenants
    for each in world.kube.api("GET", NAMESPACES)["items"]:
        if each["metadata"]["name"].startswith(tenants.prefix):
            world.kube.remove(f"{NAMESPACES}/{each['metadata']['name']}")


async def listed(caller: Connection) -> set[str]:
    """The ids that a gateway is told."""
    return {each.id for each in await caller.compute.list_sandboxes()}


def is_ready(sandbox: Sandbox) -> bool:
    """Whether compute is running."""
    assert sandbox.status is not None
    told = {each.type: each for each in sandbox.status.conditions}
    return "Suspended" not in told and told["Ready"].status == "True"


async def until(caller: Connection, sandbox_id: str, holds: Callable[[Sandbox], bool]) -> None:
    """Watch until a sandbox is so."""
    with anyio.fail_after(30):
        async with aclosing(caller.compute.watch_sandboxes()) as events:
            async for event in events:
                if not isinstance(event, SandboxSeen) or event.sandbox.id != sandbox_id:
                    continue
                if holds(event.sandbox):
                    return
    raise AssertionError("the watch has ended")


async def until_deleted(caller: Connection, sandbox_id: str) -> None:
    """Watch until a sandbox is not there any more."""
    with anyio.fail_after(30):
        async with aclosing(caller.compute.watch_sandboxes()) as events:
            if sandbox_id not in await listed(caller):
                return
            async for event in events:
                if event == SandboxDeleted(sandbox_id=sandbox_id):
                    return
    raise AssertionError("the watch has ended")


# Managed: what a create makes.


async def test_a_create_in_a_fresh_workspace_makes_its_namespace(
    tenants: Tenants, socket_path: Path
) -> None:
    world = tenants.world
    home = f"{NAMESPACES}/{world.namespace}"
    world.kube.api("PATCH", home, {"metadata": {"annotations": {**SCC, "not": "copied"}}})
    for name in ("pull", "tls", "more"):
        body = {"metadata": {"name": name}, "stringData": {"key": name}}
        world.kube.api("POST", f"{home}/secrets", body)
    world.kube.api("POST", f"{home}/secrets", {"metadata": {"name": "private"}})
    pod = {
        "workspace": {"volume": "none"},
        "image_pull_secrets": ["pull", "missing"],
        "client_tls": {"layout": "single", "secret": "tls"},
    }
    rules = tenants.managed(
        copy_secrets=["more"], gateway_pods={"app": "gateway"}, namespace_labels={"tier": "boxes"}
    )
    async with world.caller(socket_path, pod=pod, **rules) as caller:
        await caller.compute.create_sandbox(spec("a"))
        await until(caller, "a-1", is_ready)
    made = tenants.metadata("a")
    assert made["labels"].items() >= {"tier": "boxes", OWNER: tenants.gateway, NOTE: "a"}.items()
    assert made["labels"]["openshell.ai/managed-by"] == "openshell"
    assert made["annotations"] == {**SCC, NOTE: "a"}
    accounts = {each["metadata"]["name"]: each for each in tenants.within("a", "serviceaccounts")}
    assert accounts["openshell-sandbox"]["automountServiceAccountToken"] is False
    secrets = {each["metadata"]["name"]: each["data"] for each in tenants.within("a", "secrets")}
    originals = {each["metadata"]["name"]: each for each in world.objects("secrets")}
    assert secrets == {name: originals[name]["data"] for name in ("pull", "tls", "more")}
    (policy,) = tenants.within("a", "networkpolicies", "networking.k8s.io/v1")
    gateway = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
        "podSelector": {"matchLabels": {"app": "gateway"}},
    }
    assert policy["spec"]["podSelector"] == {}
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    ssh = {"from": [gateway], "ports": [{"protocol": "TCP", "port": 2222}]}
    assert policy["spec"]["ingress"] == [ssh]
    api = {"to": [gateway], "ports": [{"protocol": "TCP", "port": 8080}]}
    assert policy["spec"]["egress"][0] == api
    (found,) = tenants.sandboxes("a")
    assert found["metadata"]["name"] == "a--s-1"
    (container,) = found["spec"]["podTemplate"]["spec"]["containers"]
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert values["OPENSHELL_SANDBOX_UID"] == "1000680000"  # by the namespace's annotations
    assert world.sandboxes() == []


async def test_no_network_policy_without_gateway_pods(tenants: Tenants, socket_path: Path) -> None:
    async with tenants.caller(socket_path) as caller:
        await caller.compute.ensure_workspace("a")
    assert tenants.within("a", "networkpolicies", "networking.k8s.io/v1") == []
    enforced = tenants.metadata("a")["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "privileged"


MODELS: Final = {
    "to": [{"namespaceSelector": {"matchLabels": {"team": "models"}}}],
    "ports": [{"protocol": "TCP", "port": 8000}],
}


@pytest.mark.parametrize(
    ("egress", "rules"), [("any", [{}]), ([MODELS], [MODELS]), ([], [])], ids=["any", "own", "none"]
)
async def test_what_sandboxes_reach_is_configured(
    tenants: Tenants, socket_path: Path, egress: Any, rules: list[Any]
) -> None:
    fence = {"gateway_pods": {"app": "gateway"}, "gateway_port": 17670, "egress": egress}
    async with tenants.caller(socket_path, **fence) as caller:
        await caller.compute.ensure_workspace("a")
    (policy,) = tenants.within("a", "networkpolicies", "networking.k8s.io/v1")
    gateway, names, *others = policy["spec"]["egress"]
    assert [each["port"] for each in gateway["ports"]] == [17670]
    assert {each["port"] for each in names["ports"]} == {53, 5353}
    assert others == rules


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"cidr": "nonsense"}, "refuses"),
        ({"cird": "10.1.0.0/16"}, "a field that Kubernetes does not know"),
        ("10.1.0.0/16", "a value of the wrong type"),
    ],
)
async def test_an_egress_rule_that_the_server_refuses_is_told_to_the_user(
    tenants: Tenants, socket_path: Path, block: Any, said: str
) -> None:
    fence = {"gateway_pods": {"app": "gateway"}, "egress": [{"to": [{"ipBlock": block}]}]}
    async with tenants.caller(socket_path, **fence) as caller:
        with pytest.raises(FailedPrecondition, match=f"takes no NetworkPolicy: .*{said}"):
            await caller.compute.create_sandbox(spec("a"))


async def test_the_sandboxes_account_is_given_the_roles_it_needs(
    tenants: Tenants, socket_path: Path
) -> None:
    roles = ["view", "system:auth-delegator"]
    async with tenants.caller(socket_path, account_roles=roles) as caller:
        await caller.compute.ensure_workspace("a")
        theirs = {
            "metadata": {"name": "view"},
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "somebody"}],
        }
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{tenants.name('a')}/rolebindings"
        tenants.kube.api("POST", path, theirs)
        await caller.compute.ensure_workspace("a")
        left = tenants.kube.api("GET", f"{path}/view")["subjects"]
        assert [each["name"] for each in left] == ["somebody"]
        tenants.kube.api("DELETE", f"{path}/view")
    found = tenants.within("a", "rolebindings", "rbac.authorization.k8s.io/v1")
    account = {
        "kind": "ServiceAccount",
        "name": "openshell-sandbox",
        "namespace": tenants.name("a"),
    }
    assert {each["roleRef"]["name"]: each["subjects"] for each in found} == {
        role: [account] for role in roles
    }


async def test_ensure_is_idempotent_and_leaves_what_somebody_has_added(
    tenants: Tenants, socket_path: Path
) -> None:
    async with tenants.caller(socket_path) as caller:
        await caller.compute.ensure_workspace("a")
        uid = tenants.metadata("a")["uid"]
        path = f"{NAMESPACES}/{tenants.name('a')}"
        tenants.kube.api("PATCH", path, {"metadata": {"labels": {"added": "by-hand"}}})
        tenants.kube.api("DELETE", f"{path}/serviceaccounts/openshell-sandbox")
        await caller.compute.ensure_workspace("a")
        again = tenants.metadata("a")
        assert (again["uid"], again["labels"]["added"]) == (uid, "by-hand")
        names = {each["metadata"]["name"] for each in tenants.within("a", "serviceaccounts")}
        assert "openshell-sandbox" in names


async def test_twenty_ensures_at_once_by_two_instances_of_a_driver(
    tenants: Tenants, short_dir: Path
) -> None:
    async with (
        tenants.caller(short_dir / "a" / "s") as one,
        tenants.caller(short_dir / "b" / "s") as other,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(10):
            tasks.start_soon(one.compute.ensure_workspace, "a")
            tasks.start_soon(other.compute.ensure_workspace, "a")
    assert tenants.metadata("a")["labels"][OWNER] == tenants.gateway
    names = {each["metadata"]["name"] for each in tenants.within("a", "serviceaccounts")}
    assert "openshell-sandbox" in names


async def test_creates_at_once_in_fresh_workspaces(tenants: Tenants, socket_path: Path) -> None:
    wanted = [spec(workspace, number) for workspace in ("a", "b", "c") for number in (1, 2, 3)]
    async with tenants.caller(socket_path) as caller:
        async with anyio.create_task_group() as tasks:
            for each in wanted:
                tasks.start_soon(caller.compute.create_sandbox, each)
        assert await listed(caller) == {each.id for each in wanted}
    assert [len(tenants.sandboxes(each)) for each in ("a", "b", "c")] == [3, 3, 3]


@pytest.mark.parametrize("workspace", ["Team A", "w" * 60, "ü"])
async def test_a_workspace_whose_name_is_no_label_has_a_namespace_of_its_own(
    tenants: Tenants, socket_path: Path, workspace: str
) -> None:
    async with tenants.caller(socket_path) as caller:
        await caller.compute.create_sandbox(spec(workspace))
        (found,) = await caller.compute.list_sandboxes()
        assert (found.workspace, found.name) == (workspace, "s-1")
        (made,) = [
            each["metadata"]
            for each in tenants.kube.api("GET", NAMESPACES)["items"]
            if each["metadata"]["name"].startswith(tenants.prefix)
        ]
        assert made["annotations"][NOTE] == workspace
        assert await caller.compute.delete_sandbox(spec(workspace).ref)


# Managed: what is kept up.


def put_secret(tenants: Tenants, name: str, **values: str) -> None:
    """Make a Secret that is to be copied, or give it these values and no others."""
    path = f"{NAMESPACES}/{tenants.world.namespace}/secrets"
    body = {"metadata": {"name": name}, "stringData": values}
    if read(tenants.kube, f"{path}/{name}") is None:
        tenants.kube.api("POST", path, body)
    else:
        tenants.kube.api("PUT", f"{path}/{name}", body)


def copied(tenants: Tenants, workspace: str) -> dict[str, dict[str, str]]:
    """Read the Secrets of a workspace back."""
    return {
        each["metadata"]["name"]: {
            key: base64.b64decode(value).decode() for key, value in each.get("data", {}).items()
        }
        for each in tenants.within(workspace, "secrets")
    }


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the API server; watches left out."""
    asked: list[str] = []
    call = Api.call

    async def noted(self: Api, method: str, path: str, *args: Any, **more: Any) -> Any:
        asked.append(f"{method} {path}")
        return await call(self, method, path, *args, **more)

    monkeypatch.setattr(Api, "call", noted)
    return asked


async def test_a_create_in_a_workspace_that_is_ready_is_one_request(
    tenants: Tenants, socket_path: Path, asked: list[str]
) -> None:
    put_secret(tenants, "pull", key="old")
    async with tenants.caller(socket_path, copy_secrets=["pull"]) as caller:
        await caller.compute.create_sandbox(spec("a"))
        asked.clear()
        await caller.compute.create_sandbox(spec("a", 2))
    place = f"/apis/{V1BETA1}/namespaces/{tenants.name('a')}/sandboxes"
    assert [each for each in asked if not each.endswith("/sandboxes")] == []
    assert asked.count(f"POST {place}") == 1


async def test_creates_at_once_in_a_fresh_workspace_make_it_once(
    tenants: Tenants, socket_path: Path, asked: list[str]
) -> None:
    async with tenants.caller(socket_path) as caller, anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(caller.compute.create_sandbox, spec("a", number))
    account = f"{NAMESPACES}/{tenants.name('a')}/serviceaccounts/openshell-sandbox"
    assert asked.count(f"PATCH {account}") == 1


async def test_a_secret_that_was_missing_is_copied_by_the_first_create_that_finds_it(
    tenants: Tenants, socket_path: Path
) -> None:
    async with tenants.caller(socket_path, copy_secrets=["late"]) as caller:
        await caller.compute.create_sandbox(spec("a"))
        assert copied(tenants, "a") == {}
        put_secret(tenants, "late", key="value")
        await caller.compute.create_sandbox(spec("a", 2))
    assert copied(tenants, "a") == {"late": {"key": "value"}}


async def test_copies_are_renewed_by_creates_after_a_while(
    tenants: Tenants, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_secret(tenants, "pull", key="old", more="old")
    async with tenants.caller(socket_path, copy_secrets=["pull"]) as caller:
        await caller.compute.create_sandbox(spec("a"))
        put_secret(tenants, "pull", key="new")
        await caller.compute.create_sandbox(spec("a", 2))
        assert copied(tenants, "a") == {"pull": {"key": "old", "more": "old"}}
        await caller.compute.ensure_workspace("a")  # at once
        assert copied(tenants, "a") == {"pull": {"key": "new"}}
    monkeypatch.setattr(_workspaces, "READY_FOR", 0.0)
    async with tenants.caller(socket_path, copy_secrets=["pull"]) as caller:
        await caller.compute.create_sandbox(spec("a", 3))
        put_secret(tenants, "pull", key="newer")
        await caller.compute.create_sandbox(spec("a", 4))
        assert copied(tenants, "a") == {"pull": {"key": "newer"}}


# Managed: what is somebody else's.


async def test_a_namespace_of_somebody_else_is_refused_and_left_alone(
    tenants: Tenants, socket_path: Path
) -> None:
    before = tenants.make("a", labels={"theirs": "yes"})["metadata"]
    async with tenants.caller(socket_path, gateway_pods={"app": "gateway"}) as caller:
        for attempt in (
            caller.compute.create_sandbox(spec("a")),
            caller.compute.ensure_workspace("a"),
        ):
            with pytest.raises(FailedPrecondition, match="belongs to somebody else"):
                await attempt
        await caller.compute.delete_workspace("a")
    after = tenants.metadata("a")
    assert after["uid"] == before["uid"]
    assert "deletionTimestamp" not in after
    assert after["labels"].items() >= {"theirs": "yes"}.items()
    assert OWNER not in after["labels"]
    assert tenants.sandboxes("a") == []
    assert tenants.within("a", "networkpolicies", "networking.k8s.io/v1") == []
    assert await eventually(lambda: len(tenants.within("a", "serviceaccounts")) == 1)


async def test_a_namespace_of_another_gateway_or_workspace_is_refused_and_left_alone(
    tenants: Tenants, socket_path: Path
) -> None:
    tenants.make("a", labels={OWNER: "theirs"}, annotations={NOTE: "a"})
    tenants.make("b", labels={OWNER: tenants.gateway}, annotations={NOTE: "not-b"})
    async with tenants.caller(socket_path) as caller:
        for workspace in ("a", "b"):
            with pytest.raises(FailedPrecondition, match="belongs to somebody else"):
                await caller.compute.create_sandbox(spec(workspace))
            await caller.compute.delete_workspace(workspace)
            assert "deletionTimestamp" not in tenants.metadata(workspace)
            assert tenants.sandboxes(workspace) == []


async def test_gateways_with_prefixes_of_their_own_share_a_workspaces_name(
    tenants: Tenants, short_dir: Path
) -> None:
    other = {**tenants.managed(), "gateway_id": f"{tenants.gateway}-2"}
    other["workspaces"] = {"mode": "managed", "prefix": f"{tenants.prefix}2-"}
    async with (
        tenants.caller(short_dir / "a" / "s") as one,
        tenants.world.caller(short_dir / "b" / "s", **other) as two,
    ):
        await one.compute.create_sandbox(spec("a"))
        await two.compute.create_sandbox(spec("a"))
        await two.compute.create_sandbox(spec("a", 2))
        assert await listed(one) == {"a-1"}
        assert await listed(two) == {"a-1", "a-2"}
        assert await one.compute.delete_sandbox(spec("a").ref)
        assert await listed(two) == {"a-1", "a-2"}
        assert len(tenants.sandboxes("2-a")) == 2
        await two.compute.ensure_workspace("b")
        await one.compute.delete_workspace("2-b")  # that namespace is the other gateway's
        assert "deletionTimestamp" not in tenants.metadata("2-b")


# Managed: the end of a workspace.


async def test_a_workspace_is_deleted_when_it_is_empty_and_made_again(
    tenants: Tenants, socket_path: Path
) -> None:
    async with tenants.caller(socket_path) as caller:
        await caller.compute.create_sandbox(spec("a"))
        first = tenants.metadata("a")["uid"]
        with pytest.raises(FailedPrecondition, match="still has sandboxes"):
            await caller.compute.delete_workspace("a")
        assert "deletionTimestamp" not in tenants.metadata("a")
        assert await caller.compute.delete_sandbox(spec("a").ref)
        await until_deleted(caller, "a-1")
        assert tenants.sandboxes("a") == []
        assert tenants.within("a", "pods") == []
        await caller.compute.delete_workspace("a")
        await tenants.until_gone("a")
        await caller.compute.delete_workspace("a")  # what is not there is no error
        await caller.compute.create_sandbox(spec("a", 2))
        assert tenants.metadata("a")["uid"] != first
        assert await listed(caller) == {"a-2"}


async def test_an_unknown_workspace_is_deleted_without_an_error(
    tenants: Tenants, socket_path: Path
) -> None:
    async with tenants.caller(socket_path) as caller:
        await caller.compute.delete_workspace("never")
    assert tenants.read("never") is None


async def test_a_workspace_is_not_deleted_while_the_watch_lags_behind_a_create(
    tenants: Tenants, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tenants.caller(socket_path) as caller:
        await caller.compute.ensure_workspace("a")
        assert await listed(caller) == set()
        monkeypatch.setattr(SandboxSink, "changed", lambda _self, _item: None)
        await caller.compute.create_sandbox(spec("a"))
        with suppress(FailedPrecondition):
            await caller.compute.delete_workspace("a")
    assert not is_ending(tenants, "a")


async def test_a_delete_and_a_create_at_once_lose_no_sandbox(
    tenants: Tenants, socket_path: Path
) -> None:
    workspaces = "abcdef"
    made: set[str] = set()

    async def create(workspace: str) -> None:
        with suppress(FailedPrecondition, Unavailable):
            await caller.compute.create_sandbox(spec(workspace))
            made.add(workspace)

    async def delete(workspace: str) -> None:
        with suppress(FailedPrecondition):
            await caller.compute.delete_workspace(workspace)

    async with tenants.caller(socket_path) as caller:
        for workspace in workspaces:
            await caller.compute.ensure_workspace(workspace)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(create, workspace)
                tasks.start_soon(delete, workspace)
        ending = {each for each in workspaces if is_ending(tenants, each)}
        assert not made & ending


def is_ending(tenants: Tenants, workspace: str) -> bool:
    """Whether a namespace is going, or gone."""
    found = tenants.read(workspace)
    return found is None or "deletionTimestamp" in found["metadata"]


async def test_a_successor_of_the_namespace_that_was_looked_at_is_not_deleted(
    tenants: Tenants, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, path = Api.call, f"{NAMESPACES}/{tenants.name('a')}"

    async def replaced_just_before(
        self: Api, method: str, where: str, *args: Any, **more: Any
    ) -> Any:
        if (method, where) == ("DELETE", path):
            tenants.delete("a")
            await tenants.until_gone("a")
            tenants.make("a")
        return await call(self, method, where, *args, **more)

    async with tenants.caller(socket_path) as caller:
        await caller.compute.ensure_workspace("a")
        monkeypatch.setattr(Api, "call", replaced_just_before)
        await caller.compute.delete_workspace("a")
    after = tenants.metadata("a")
    assert OWNER not in after.get("labels", {})
    assert "deletionTimestamp" not in after


async def test_a_namespace_deleted_behind_the_drivers_back_is_made_again(
    tenants: Tenants, socket_path: Path
) -> None:
    async with tenants.caller(socket_path) as caller:
        await caller.compute.ensure_workspace("a")
        first = tenants.metadata("a")["uid"]
        tenants.hold("a", "example.org/hold")
        tenants.delete("a")
        for _ in range(2):
            # What has to be done is to wait. The first answer is of a create that had not looked.
            with pytest.raises((FailedPrecondition, Unavailable), match="being deleted"):
                await caller.compute.create_sandbox(spec("a"))
            with pytest.raises(Unavailable, match="is being deleted; try again when it is gone"):
                await caller.compute.ensure_workspace("a")
            assert tenants.metadata("a")["uid"] == first
        tenants.hold("a")
        await tenants.until_gone("a")
        await caller.compute.create_sandbox(spec("a"))
        await until(caller, "a-1", is_ready)  # so its service account is there, too
        assert tenants.metadata("a")["uid"] != first
        assert await listed(caller) == {"a-1"}


async def test_sandboxes_that_went_with_their_namespace_are_told_to_be_deleted(
    tenants: Tenants, socket_path: Path
) -> None:
    async with tenants.caller(socket_path) as caller:
        for workspace in ("a", "b"):
            await caller.compute.create_sandbox(spec(workspace))
        tenants.delete("a")
        await until_deleted(caller, "a-1")
        assert tenants.sandboxes("a") == []
        assert await listed(caller) == {"b-1"}


# Managed: life in many namespaces.


async def test_sandboxes_of_all_workspaces_are_watched_and_stopped_and_deleted(
    tenants: Tenants, socket_path: Path
) -> None:
    happened: dict[str, set[str]] = {"a-1": set(), "b-1": set()}

    async def follow() -> None:
        async with aclosing(caller.compute.watch_sandboxes()) as events:
            async for event in events:
                if isinstance(event, SandboxHappening):
                    happened[event.sandbox_id].add(event.event.reason)
                    if all("Started" in each for each in happened.values()):
                        return

    async with tenants.caller(socket_path) as caller:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                assert await listed(caller) == set()
                tasks.start_soon(follow)
                for workspace in ("a", "b"):
                    await caller.compute.create_sandbox(spec(workspace))
        for workspace in ("a", "b"):
            await until(caller, f"{workspace}-1", is_ready)
        await caller.compute.stop_sandbox(spec("b").ref)
        modes = [tenants.sandboxes(each)[0]["spec"]["operatingMode"] for each in ("a", "b")]
        assert modes == ["Running", "Suspended"]
        assert tenants.within("b", "pods") == []
        await caller.compute.start_sandbox(spec("b").ref)
        await until(caller, "b-1", is_ready)
        assert await caller.compute.delete_sandbox(spec("a").ref)
        with anyio.fail_after(30):
            while await listed(caller) != {"b-1"}:  # noqa: ASYNC110  # the watch brings it
                await anyio.sleep(0.05)
        assert tenants.sandboxes("a") == []


async def test_a_second_sandbox_of_a_name_is_refused_in_its_workspace_only(
    tenants: Tenants, socket_path: Path
) -> None:
    async with tenants.caller(socket_path) as caller:
        await caller.compute.create_sandbox(spec("a"))
        await caller.compute.create_sandbox(spec("b"))
        with pytest.raises(AlreadyExists):
            await caller.compute.create_sandbox(replace(spec("a"), id="another"))
        assert await listed(caller) == {"a-1", "b-1"}


async def test_a_restarted_driver_sees_all_workspaces(tenants: Tenants, short_dir: Path) -> None:
    async with tenants.caller(short_dir / "a" / "s") as caller:
        for workspace in ("a", "b"):
            await caller.compute.create_sandbox(spec(workspace))
    async with tenants.caller(short_dir / "b" / "s") as caller:
        assert await listed(caller) == {"a-1", "b-1"}
        with pytest.raises(FailedPrecondition, match="still has sandboxes"):
            await caller.compute.delete_workspace("a")


async def test_a_request_without_a_workspace_needs_a_default(
    tenants: Tenants, short_dir: Path
) -> None:
    nameless = replace(spec(""), id="nameless")
    async with tenants.caller(short_dir / "a" / "s") as caller:
        for ask in (caller.compute.validate_sandbox_create, caller.compute.create_sandbox):
            with pytest.raises(FailedPrecondition, match="a workspace is needed"):
                await ask(nameless)
        assert await listed(caller) == set()
    async with tenants.caller(short_dir / "b" / "s", default="main") as caller:
        await caller.compute.create_sandbox(nameless)
        (found,) = await caller.compute.list_sandboxes()
        assert (found.id, found.workspace) == ("nameless", "")
        assert len(tenants.sandboxes("main")) == 1
        assert tenants.metadata("main")["annotations"][NOTE] == "main"
        with pytest.raises(FailedPrecondition, match="still has sandboxes"):
            await caller.compute.delete_workspace("main")


# Operator: who may be used.


@asynccontextmanager
async def operated(tenants: Tenants, socket: Path, **rules: Any) -> AsyncIterator[Connection]:
    """Call a driver that may use namespaces which somebody else makes."""
    rules = {"prefix": tenants.prefix, **rules}
    async with tenants.world.caller(socket, **tenants.mode("operator", **rules)) as caller:
        yield caller


def prepared(tenants: Tenants, *workspaces: str, **labels: str) -> None:
    """Make namespaces as an operator does, with the account of sandboxes."""
    for workspace in workspaces:
        tenants.make(workspace, labels=labels)
        path = f"{NAMESPACES}/{tenants.name(workspace)}/serviceaccounts"
        for account in ("default", "openshell-sandbox"):
            body = {"metadata": {"name": account}}
            try:
                tenants.kube.api("POST", path, body)
            except ApiError as error:
                if error.status != 409:
                    raise


async def require_refused(caller: Connection, tenants: Tenants, workspace: str) -> None:
    """Have every way into a workspace refused, without a trace."""
    why = f"namespace {tenants.name(workspace)} is not allowed for sandboxes"
    for attempt in (
        caller.compute.validate_sandbox_create(spec(workspace)),
        caller.compute.create_sandbox(spec(workspace)),
        caller.compute.ensure_workspace(workspace),
    ):
        with pytest.raises(FailedPrecondition, match=why):
            await attempt
    if tenants.read(workspace) is not None:
        assert tenants.sandboxes(workspace) == []


async def test_allow_list(tenants: Tenants, socket_path: Path) -> None:
    prepared(tenants, "a", "b")
    async with operated(tenants, socket_path, allow=[tenants.name("a")]) as caller:
        await caller.compute.create_sandbox(spec("a"))
        await caller.compute.ensure_workspace("a")
        await until(caller, "a-1", is_ready)
        for workspace in ("b", "missing"):
            await require_refused(caller, tenants, workspace)
        await caller.compute.delete_workspace("a")
        assert "deletionTimestamp" not in tenants.metadata("a")
        assert tenants.read("missing") is None
        assert await listed(caller) == {"a-1"}


async def test_allowed_but_missing_is_refused_and_not_made(
    tenants: Tenants, socket_path: Path
) -> None:
    async with operated(tenants, socket_path, allow=[tenants.name("a")]) as caller:
        with pytest.raises(FailedPrecondition, match=f"namespace {tenants.name('a')}"):
            await caller.compute.create_sandbox(spec("a"))
        assert tenants.read("a") is None
        assert await listed(caller) == set()


async def test_a_workspace_that_can_be_no_namespace_is_refused(
    tenants: Tenants, socket_path: Path
) -> None:
    async with operated(tenants, socket_path, allow=[tenants.name("a")]) as caller:
        with pytest.raises(InvalidArgument, match="cannot be that of a namespace"):
            await caller.compute.create_sandbox(spec("Team A"))


async def test_allow_file_is_followed(tenants: Tenants, short_dir: Path) -> None:
    prepared(tenants, "a", "b")
    file = short_dir / "allowed"
    async with operated(tenants, short_dir / "run" / "s", allow_file=file) as caller:
        await require_refused(caller, tenants, "a")  # the file is not there yet
        file.write_text(f"# ours\n{tenants.name('a')}  # the first\n\n")
        await caller.compute.create_sandbox(spec("a"))
        await require_refused(caller, tenants, "b")
        part = short_dir / "part"
        part.write_text(f"{tenants.name('b')}\n")
        part.rename(file)
        await caller.compute.create_sandbox(spec("b"))
        await require_not_again(caller, tenants, "a")
        for unreadable in (b"\xff\xfe", b"x" * (2**20 + 1)):
            file.write_bytes(unreadable)
            await require_not_again(caller, tenants, "b")
        file.unlink()
        file.mkdir()
        await require_not_again(caller, tenants, "b")
        assert await listed(caller) == {"a-1", "b-1"}
        await caller.compute.stop_sandbox(spec("a").ref)
        await caller.compute.start_sandbox(spec("a").ref)
        await until(caller, "a-1", is_ready)
        assert await caller.compute.delete_sandbox(spec("a").ref)
        assert await eventually(lambda: tenants.sandboxes("a") == [])


async def require_not_again(caller: Connection, tenants: Tenants, workspace: str) -> None:
    """Have another sandbox refused, and the one that is there kept and listed."""
    with pytest.raises(FailedPrecondition, match="is not allowed for sandboxes"):
        await caller.compute.create_sandbox(spec(workspace, 2))
    assert f"{workspace}-1" in await listed(caller)
    assert (await caller.compute.get_sandbox(SandboxRef(id=f"{workspace}-1"))).name == "s-1"
    assert len(tenants.sandboxes(workspace)) == 1


@pytest.mark.parametrize("value", ["true", "own"])
async def test_allow_label(tenants: Tenants, socket_path: Path, value: str) -> None:
    label = "example.org/sandboxes"
    prepared(tenants, "a", **{label: tenants.gateway if value == "own" else value})
    prepared(tenants, "b", **{label: "another-gateway"})
    prepared(tenants, "c", **{label: "false"})
    async with operated(tenants, socket_path, allow_label=label) as caller:
        await caller.compute.create_sandbox(spec("a"))
        for workspace in ("b", "c", "missing"):
            await require_refused(caller, tenants, workspace)
        path = f"{NAMESPACES}/{tenants.name('a')}"
        tenants.kube.api("PATCH", path, {"metadata": {"labels": {label: None}}})
        await require_not_again(caller, tenants, "a")


async def test_gateways_in_one_allowed_namespace_do_not_see_each_other(
    tenants: Tenants, socket_path: Path
) -> None:
    prepared(tenants, "a")
    rules = tenants.mode("operator", prefix=tenants.prefix, allow=[tenants.name("a")])
    other = socket_path.parent.parent / "b" / "s"
    async with (
        tenants.world.caller(socket_path, **rules) as one,
        tenants.world.caller(other, **{**rules, "gateway_id": f"{tenants.gateway}-b"}) as two,
    ):
        await one.compute.create_sandbox(spec("a"))
        await two.compute.create_sandbox(spec("a", 2))
        assert await listed(one) == {"a-1"}
        assert await listed(two) == {"a-2"}


async def test_shared_workspaces_need_nothing_made(world: World, socket_path: Path) -> None:
    async with world.caller(socket_path) as caller:
        await caller.compute.ensure_workspace("a")
        await caller.compute.create_sandbox(spec("a"))
        await caller.compute.delete_workspace("a")
        assert await listed(caller) == {"a-1"}
    home = world.kube.api("GET", f"{NAMESPACES}/{world.namespace}")
    assert "deletionTimestamp" not in home["metadata"]
    assert len(world.sandboxes()) == 1
