"""The rights in ``deploy`` are those that the driver uses: all of them, and no others."""

from __future__ import annotations

import copy
import json
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from openshell_compute_k8s import KubernetesDriver

from examples.k8s_compute.tests.deployment import ACCOUNT, AUDIENCE, Object, Tenant, deployed
from openshell_drivers import FailedPrecondition, PermissionDenied, SandboxSpec, Secret
from openshell_drivers.client import Connection, connect
from openshell_drivers.compute import GpuRequest, SandboxTemplate
from openshell_drivers.server import running
from openshell_drivers.testing.gateway import (
    Gateway,
    GatewayAdmission,
    GatewayOptions,
    UserError,
)
from tests.peers.kube import Access
from tests.peers.processes import wait_until

pytestmark = pytest.mark.kube

Right = tuple[str, str, str]
"""A verb, a group and a resource."""

SANDBOXES: Final = "/apis/agents.x-k8s.io/v1beta1"
RIGHTS: Final = "/apis/rbac.authorization.k8s.io/v1"
POLICIES: Final = "/apis/networking.k8s.io/v1"
CLAIM: Final = "notes"
WITH_CLAIM: Final[Mapping[str, Any]] = {
    "volumes": [{"name": "notes", "persistent_volume_claim": {"claim_name": CLAIM}}],
    "containers": {"agent": {"volume_mounts": [{"name": "notes", "mount_path": "/notes"}]}},
}


@asynccontextmanager
async def gateway_of(
    tenant: Tenant, socket: Path, workspace: str = "default", **more: Any
) -> AsyncIterator[Gateway]:
    """Run the tenant's driver under a gateway that allows ``driver_config`` if the driver does."""
    config = tenant.config(**more)
    options = GatewayOptions(
        admission=GatewayAdmission(allow_driver_config=config.allow_driver_config)
    )
    async with (
        running(KubernetesDriver(config), socket=socket),
        Gateway(socket, options=options, workspace=workspace) as gateway,
    ):
        yield gateway


async def live(gateway: Gateway, tenant: Tenant, namespace: str, name: str = "one") -> None:
    """Take a sandbox through all that a gateway does with one."""
    await gateway.create(name)
    await gateway.wait_for(name, "Ready")
    record = gateway.record(name)
    assert record is not None
    pods = tenant.kube.api("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    [pod] = [
        each["metadata"]["name"]
        for each in pods
        if each["metadata"]["annotations"].get("openshell.ai/sandbox-id") == record.id
    ]
    token = tenant.kube.service_account_token(
        namespace, "openshell-sandbox", audiences=[AUDIENCE], pod=pod
    )
    assert (await gateway.issue_token(Secret(token))).id == record.id
    await gateway.stop(name)
    await gateway.start(name)
    await gateway.wait_for(name, "Ready")
    await gateway.delete(name)
    await gateway.wait_gone(name)


def granted(objects: Iterable[Object]) -> set[Right]:
    """All that roles grant."""
    return {
        (verb, group, resource)
        for each in objects
        if each["kind"] in {"Role", "ClusterRole"}
        for rule in each["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def used(tenant: Tenant) -> set[Right]:
    """All that the tenant's account has asked for; what everybody may ask left out.

    A server-side apply that creates is a patch to the audit log; `create` is asked for within.
    """
    rights = set()
    for event in tenant.kube.audited(tenant.name, ACCOUNT):
        about = event.get("objectRef")
        if about is None:
            assert event["requestURI"] == "/apis/agents.x-k8s.io"
            continue
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        rights.add((event["verb"], about.get("apiGroup", ""), resource))
        if "fieldManager" in event["requestURI"] and event["responseStatus"]["code"] == 201:
            rights.add(("create", about.get("apiGroup", ""), resource))
    return rights


def denied(tenant: Tenant) -> set[Right]:
    """What of it was denied."""
    return {
        (event["verb"], event["objectRef"].get("apiGroup", ""), event["objectRef"]["resource"])
        for event in tenant.kube.audited(tenant.name, ACCOUNT)
        if event["annotations"].get("authorization.k8s.io/decision") == "forbid"
    }


def written(tenant: Tenant) -> set[str]:
    """The namespaces in which the tenant's account has written."""
    return {
        event["objectRef"].get("namespace", "")
        for event in tenant.kube.audited(tenant.name, ACCOUNT)
        if event["verb"] not in {"get", "list", "watch"}
    }


def cluster_roles(tenant: Tenant) -> list[Object]:
    """The cluster roles that the tenant's account is bound to, as they are in the cluster."""
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    bound = {
        each["roleRef"]["name"]
        for each in tenant.objects
        if each["kind"] in {"ClusterRoleBinding", "RoleBinding"}
        and each["roleRef"]["kind"] == "ClusterRole"
    }
    return [
        {"kind": "ClusterRole", **tenant.kube.api("GET", f"{path}/{name}")}
        for name in sorted(bound)
    ]


def make_claim(kube: Access, namespace: str, workspace: str = "default") -> None:
    labels = {
        "openshell.ai/sandbox-attachable": "true",
        "openshell.ai/sandbox-attachable-workspace": workspace,
    }
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    kube.api(
        "POST",
        f"/api/v1/namespaces/{namespace}/persistentvolumeclaims",
        {"metadata": {"name": CLAIM, "labels": labels}, "spec": spec},
    )


async def everything(gateway: Gateway, tenant: Tenant, namespace: str) -> None:
    """Have the driver do all that it can do in one namespace."""
    await live(gateway, tenant, namespace)
    template = SandboxTemplate(driver_config=WITH_CLAIM)
    await gateway.create("two", spec=SandboxSpec(id="", name="two", template=template))
    await gateway.wait_for("two", "Ready")
    await gateway.delete("two")
    await gateway.wait_gone("two")


async def test_a_shared_tenant_has_what_it_uses(
    kube: Access, tmp_path: Path, socket_path: Path
) -> None:
    with deployed(kube, tmp_path, "team1") as tenant:
        make_claim(kube, tenant.name)
        async with gateway_of(tenant, socket_path, allow_driver_config=True) as gateway:
            await everything(gateway, tenant, tenant.name)
            await gateway.create("gpus", gpu=GpuRequest(count=2))
            await gateway.wait_for("gpus", "Ready")
            with pytest.raises(UserError, match=r"no node has 9 of nvidia\.com/gpu"):
                await gateway.create("more", gpu=GpuRequest(count=9))
        assert denied(tenant) == set()
        assert used(tenant) == granted([*tenant.objects, *cluster_roles(tenant)])


BIND: Final = ("bind", "rbac.authorization.k8s.io", "clusterroles")
"""Asked for within the request that binds, and so in no audit log: without it that is refused."""


@pytest.mark.parametrize("template", ["team3", "team4", "team6"])
async def test_a_tenant_of_many_namespaces_has_what_it_uses(
    kube: Access, tmp_path: Path, socket_path: Path, template: str
) -> None:
    with deployed(kube, tmp_path, template) as tenant:
        place = f"{tenant.name}-agents"
        home = f"/api/v1/namespaces/{tenant.name}"
        secret = {"metadata": {"name": "openshell-client-tls"}, "stringData": {"tls.key": "canary"}}
        kube.api("POST", f"{home}/secrets", secret)
        if template != "team4":
            with account_of(tenant) as account:
                require_confined(account)
        async with gateway_of(
            tenant, socket_path, workspace="agents", allow_driver_config=True
        ) as gateway:
            await gateway.ensure_workspace("agents")
            make_claim(kube, place, workspace="agents")
            await everything(gateway, tenant, place)
            if template == "team6":
                (bound,) = kube.api("GET", f"{RIGHTS}/namespaces/{place}/rolebindings")["items"]
                assert bound["roleRef"]["name"] == "openshell-sandbox-scc"
            await gateway.delete_workspace("agents")
        assert denied(tenant) == set()
        assert tenant.name not in written(tenant)  # beside the gateway's keys
        rights = used(tenant) | ({BIND} if template == "team6" else set())
        assert rights == granted([*tenant.objects, *cluster_roles(tenant)])


async def test_sandboxes_may_live_apart_from_the_gateway(
    kube: Access, tmp_path: Path, socket_path: Path
) -> None:
    with deployed(kube, tmp_path, "team2") as tenant:
        async with gateway_of(tenant, socket_path) as gateway:
            await live(gateway, tenant, f"{tenant.name}-sandboxes")
        assert denied(tenant) == set()
        places = {
            event["objectRef"].get("namespace")
            for event in kube.audited(tenant.name, ACCOUNT)
            if "objectRef" in event
        }
        assert places == {None, f"{tenant.name}-sandboxes"}  # none: a TokenReview


LEAST: Final = [
    {
        "apiGroups": ["agents.x-k8s.io"],
        "resources": ["sandboxes"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "update"]},
]


async def test_without_the_optional_rights_it_serves_and_says_what_is_missing(
    kube: Access, tmp_path: Path, socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with deployed(kube, tmp_path, "team1", rules=LEAST) as tenant:
        make_claim(kube, tenant.name)
        async with gateway_of(tenant, socket_path, allow_driver_config=True) as gateway:
            await gateway.create("one")
            await gateway.wait_for("one", "Ready")
            token = tenant.kube.service_account_token(
                tenant.name, "openshell-sandbox", audiences=[AUDIENCE]
            )
            with pytest.raises(UserError, match=r"may not create TokenReviews .RBAC."):
                await gateway.issue_token(Secret(token))
            with pytest.raises(UserError, match=r"may not list nodes .RBAC..*check_gpu_capacity"):
                await gateway.create("gpu", gpu=GpuRequest(count=1))
            wish = SandboxSpec(
                id="", name="two", template=SandboxTemplate(driver_config=WITH_CLAIM)
            )
            with pytest.raises(UserError, match=r"may not read claim notes .RBAC."):
                await gateway.create("two", spec=wish)
            await gateway.stop("one")
            await gateway.start("one")
            await gateway.wait_for("one", "Ready")
            await gateway.delete("one")
            await gateway.wait_gone("one")
        assert denied(tenant) == {
            ("create", "authentication.k8s.io", "tokenreviews"),
            ("list", "", "nodes"),
            ("list", "", "pods"),
            ("get", "", "pods"),
            ("list", "", "events"),
            ("get", "", "persistentvolumeclaims"),
            ("get", "", "namespaces"),
        }
    warned = {each.message for each in caplog.records if each.levelname == "WARNING"}
    assert warned == {"pods cannot be observed", "events cannot be observed"}


async def test_update_does_where_patch_is_not_allowed(
    kube: Access, tmp_path: Path, socket_path: Path
) -> None:
    rules = copy.deepcopy(LEAST)
    rules[0]["verbs"] = ["get", "list", "watch", "create", "update", "delete"]
    with deployed(kube, tmp_path, "team1", rules=rules) as tenant:
        async with gateway_of(tenant, socket_path) as gateway:
            await gateway.create("one")
            await gateway.wait_for("one", "Ready")
            await gateway.stop("one")
            await gateway.start("one")
            await gateway.wait_for("one", "Ready")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("create", "FAILED_PRECONDITION: .* takes no sandbox: .* may not create sandboxes .RBAC."),
        ("list", "the backend cannot be observed: .* may not list sandboxes .RBAC."),
    ],
)
async def test_without_a_right_that_is_needed_its_user_reads_why(
    kube: Access, tmp_path: Path, socket_path: Path, missing: str, said: str
) -> None:
    rules = copy.deepcopy(LEAST)
    rules[0]["verbs"].remove(missing)
    with deployed(kube, tmp_path, "team1", rules=rules) as tenant:
        async with gateway_of(tenant, socket_path) as gateway:
            with pytest.raises(UserError, match=said):
                await gateway.create("one")


@asynccontextmanager
async def caller_of(tenant: Tenant, socket: Path, **more: Any) -> AsyncIterator[Connection]:
    """Run the tenant's driver, and call it without a gateway."""
    driver = KubernetesDriver(tenant.config(**more))
    async with running(driver, socket=socket), connect(socket) as connection:
        yield connection


async def require_said(caller: Connection, said: str, *, validated: bool) -> None:
    """Have a create say what is missing with the one code whose text a gateway passes on
    (COMP-CREATE-06), and EnsureWorkspace with its own (COMP-WS-02)."""
    wish = SandboxSpec(id="one", name="one", workspace="agents")
    with pytest.raises(FailedPrecondition, match=said):
        await caller.compute.create_sandbox(wish)
    if validated:
        with pytest.raises(FailedPrecondition, match=said):
            await caller.compute.validate_sandbox_create(wish)
    with pytest.raises(PermissionDenied, match=said):
        await caller.compute.ensure_workspace("agents")
    assert not await caller.compute.list_sandboxes()


async def test_a_secret_that_may_not_be_copied_is_named_to_the_user(
    kube: Access, tmp_path: Path, socket_path: Path
) -> None:
    said = r"could not read Secret unforeseen: .* may not get secrets .RBAC."
    with deployed(kube, tmp_path, "team3") as tenant:
        pod = {**tenant.config().pod.model_dump(mode="json"), "image_pull_secrets": ["unforeseen"]}
        async with caller_of(tenant, socket_path, pod=pod) as caller:
            await require_said(caller, said, validated=False)
        made = {each["metadata"]["name"] for each in kube.api("GET", "/api/v1/namespaces")["items"]}
        assert f"{tenant.name}-agents" not in made


async def test_a_role_that_may_not_be_given_is_named_to_the_user(
    kube: Access, tmp_path: Path, socket_path: Path
) -> None:
    """Whoever may bind one role can give no other that has more than its own rights."""
    said = r"takes no RoleBinding: the driver's account may not bind the role .RBAC."
    with deployed(kube, tmp_path, "team6") as tenant:
        rules = tenant.config().workspaces.model_dump() | {"account_roles": ["cluster-admin"]}
        async with caller_of(tenant, socket_path, workspaces=rules) as caller:
            await require_said(caller, said, validated=False)


async def test_a_workspace_that_may_not_be_written_in_is_told_so(
    kube: Access, tmp_path: Path, socket_path: Path
) -> None:
    said = r"takes no ServiceAccount: .* may not (patch|create) serviceaccounts .RBAC."
    with (
        deployed(kube, tmp_path, "team3") as tenant,
        bound_without(tenant, "openshell-compute-managed", "serviceaccounts"),
    ):
        async with caller_of(tenant, socket_path) as caller:
            await require_said(caller, said, validated=False)


async def test_namespaces_whose_labels_may_not_be_read_are_told_so(
    kube: Access, tmp_path: Path, socket_path: Path
) -> None:
    said = r"could not read the workspace's namespace: .* may not get namespaces .RBAC."
    with (
        deployed(kube, tmp_path, "team4") as tenant,
        bound_without(tenant, "openshell-compute-observe", "namespaces"),
    ):
        async with caller_of(tenant, socket_path) as caller:
            await require_said(caller, said, validated=True)


@contextmanager
def bound_without(tenant: Tenant, role: str, resource: str) -> Iterator[None]:
    """Bind the tenant's account to a cluster role less one resource."""
    api, own = tenant.kube.api, f"{role}-{tenant.name}"
    binding = f"{RIGHTS}/clusterrolebindings/{role}:{tenant.name}"
    rules = [
        rule
        for rule in api("GET", f"{RIGHTS}/clusterroles/{role}")["rules"]
        if resource not in rule["resources"]
    ]
    api("POST", f"{RIGHTS}/clusterroles", {"metadata": {"name": own}, "rules": rules})
    before = api("GET", binding)
    api("DELETE", binding)
    bound = {"metadata": {"name": before["metadata"]["name"]}, "subjects": before["subjects"]}
    reference = {**before["roleRef"], "name": own}
    api("POST", f"{RIGHTS}/clusterrolebindings", {**bound, "roleRef": reference})
    try:
        yield
    finally:
        tenant.kube.remove(f"{RIGHTS}/clusterroles/{own}")


# What the account may not do.


@dataclass(frozen=True)
class Account:
    """Who asks the API server with a token of its own."""

    client: httpx.Client

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Ask for something, of which nothing is done."""
        kind = "merge-patch+json" if method == "PATCH" else "json"
        return self.client.request(
            method,
            path,
            params={"dryRun": "All"},
            content=json.dumps(body or {}),
            headers={"Content-Type": f"application/{kind}"},
        )

    def may(self, method: str, path: str) -> bool:
        """Say whether the account may, whatever else is wrong with an empty request."""
        answer = self.ask(method, path)
        assert answer.status_code in {200, 400, 403, 404, 409, 415, 422}, answer.text
        return answer.status_code != 403


@pytest.fixture
def tenants(kube: Access, tmp_path: Path) -> Iterator[tuple[Tenant, Tenant]]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with (
        deployed(kube, tmp_path / "one", "team1") as one,
        deployed(kube, tmp_path / "two", "team1") as two,
    ):
        yield one, two


@contextmanager
def account_of(tenant: Tenant) -> Iterator[Account]:
    headers = {"Authorization": f"Bearer {tenant.token}"}
    with httpx.Client(
        base_url=tenant.kube.server,
        headers=headers,
        verify=ssl.create_default_context(cafile=str(tenant.kube.ca_file)),
        trust_env=False,
    ) as client:
        yield Account(client)


IN_ANY_NAMESPACE: Final = [
    ("GET", "/api/v1/namespaces/{}/secrets"),
    ("GET", "/api/v1/namespaces/{}/secrets/openshell-server-tls"),
    ("DELETE", "/api/v1/namespaces/{}/secrets/openshell-server-tls"),
    ("PATCH", "/api/v1/namespaces/{}/secrets/openshell-server-tls"),
    ("GET", "/api/v1/namespaces/{}/configmaps"),
    ("POST", "/api/v1/namespaces/{}/pods"),
    ("DELETE", "/api/v1/namespaces/{}/pods/any"),
    ("POST", "/api/v1/namespaces/{}/pods/any/exec"),
    ("GET", "/api/v1/namespaces/{}/pods/any/log"),
    ("POST", "/api/v1/namespaces/{}/serviceaccounts"),
    ("POST", "/api/v1/namespaces/{}/serviceaccounts/openshell-sandbox/token"),
    ("GET", "/api/v1/namespaces/{}/persistentvolumeclaims"),
    ("DELETE", "/api/v1/namespaces/{}/persistentvolumeclaims/any"),
    ("DELETE", "/api/v1/namespaces/{}"),
    ("PATCH", "/api/v1/namespaces/{}"),
    ("PUT", SANDBOXES + "/namespaces/{}/sandboxes/any"),
    ("PUT", SANDBOXES + "/namespaces/{}/sandboxes/any/status"),
    ("DELETE", SANDBOXES + "/namespaces/{}/sandboxes"),
    ("POST", RIGHTS + "/namespaces/{}/roles"),
    ("PUT", RIGHTS + "/namespaces/{}/roles/openshell-compute"),
    ("POST", RIGHTS + "/namespaces/{}/rolebindings"),
]
IN_ITS_OWN: Final = [
    ("GET", SANDBOXES + "/namespaces/{}/sandboxes"),
    ("POST", SANDBOXES + "/namespaces/{}/sandboxes"),
    ("DELETE", SANDBOXES + "/namespaces/{}/sandboxes/any"),
    ("GET", "/api/v1/namespaces/{}/pods"),
    ("GET", "/api/v1/namespaces/{}/events"),
    ("POST", "/api/v1/namespaces/{}/secrets"),
    ("GET", "/api/v1/namespaces/{}/persistentvolumeclaims/any"),
    ("GET", "/api/v1/namespaces/{}"),
]
IN_THE_CLUSTER: Final = [
    ("GET", "/api/v1/namespaces"),
    ("POST", "/api/v1/namespaces"),
    ("GET", "/api/v1/secrets"),
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/nodes/node-gpu"),
    ("PATCH", "/api/v1/nodes/node-gpu"),
    ("GET", SANDBOXES + "/sandboxes"),
    ("POST", RIGHTS + "/clusterroles"),
    ("POST", RIGHTS + "/clusterrolebindings"),
    ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
]


def test_an_account_has_its_own_namespace_only(tenants: tuple[Tenant, Tenant]) -> None:
    one, two = (each.name for each in tenants)
    wanted = [(method, path, one) for method, path in IN_ITS_OWN]
    wanted += [(method, path, place) for method, path in IN_ANY_NAMESPACE for place in (one, two)]
    wanted += [(method, path, two) for method, path in IN_ITS_OWN]
    wanted += [(method, path, "") for method, path in IN_THE_CLUSTER]
    with account_of(tenants[0]) as account:
        allowed = [each for each in wanted if account.may(each[0], each[1].format(each[2]))]
    assert allowed == [(method, path, one) for method, path in IN_ITS_OWN]


def sandbox(namespace: str) -> Object:
    spec = {"podTemplate": {"spec": {"containers": [{"name": "agent", "image": "any"}]}}}
    return {
        "apiVersion": "agents.x-k8s.io/v1beta1",
        "kind": "Sandbox",
        "metadata": {"name": "any", "namespace": namespace},
        "spec": spec,
    }


def is_confined(account: Account, method: str, path: str, body: object = None) -> bool:
    """Whether the policy denies it, and not the account's rights."""
    answer = account.ask(method, path, body)
    assert answer.status_code != 403, answer.text
    return answer.status_code == 422 and "of its own gateway only" in answer.text


def require_confined(account: Account) -> None:
    """Wait until the policy holds: it takes the server a moment to load one."""
    path = f"{SANDBOXES}/namespaces/kube-system/sandboxes"
    assert wait_until(lambda: is_confined(account, "POST", path, sandbox("kube-system")), 30)


def test_managed_rights_are_confined(kube: Access, tmp_path: Path) -> None:
    """The cluster roles allow all namespaces; the admission policy does not."""
    with deployed(kube, tmp_path, "team6") as tenant, account_of(tenant) as account:
        for name, gateway in (("own", tenant.name), ("foreign", "somebody")):
            labels = {"openshell.ai/gateway-id": gateway}
            body = {"metadata": {"name": f"{tenant.name}-{name}", "labels": labels}}
            kube.api("POST", "/api/v1/namespaces", body)
        own, foreign = (f"{tenant.name}-{each}" for each in ("own", "foreign"))
        place = f"{SANDBOXES}/namespaces/{{}}/sandboxes"
        require_confined(account)
        assert is_confined(account, "POST", place.format(foreign), sandbox(foreign))
        assert not is_confined(account, "POST", place.format(own), sandbox(own))
        secret = {"metadata": {"name": "any"}}
        assert is_confined(account, "POST", f"/api/v1/namespaces/{foreign}/secrets", secret)
        assert not is_confined(account, "POST", f"/api/v1/namespaces/{own}/secrets", secret)
        bound = {
            "metadata": {"name": "any"},
            "roleRef": {"kind": "ClusterRole", "name": "openshell-sandbox-scc"},
        }
        assert is_confined(account, "POST", f"{RIGHTS}/namespaces/{foreign}/rolebindings", bound)
        assert not is_confined(account, "POST", f"{RIGHTS}/namespaces/{own}/rolebindings", bound)
        assert is_confined(account, "DELETE", f"/api/v1/namespaces/{foreign}")
        assert not is_confined(account, "DELETE", f"/api/v1/namespaces/{own}")
        unmarked: Object = {"metadata": {"name": f"{tenant.name}-new"}}
        assert is_confined(account, "POST", "/api/v1/namespaces", unmarked)
        unmarked["metadata"]["labels"] = {"openshell.ai/gateway-id": tenant.name}
        assert not is_confined(account, "POST", "/api/v1/namespaces", unmarked)
        for name in (own, foreign):
            kube.remove(f"/api/v1/namespaces/{name}")


def test_the_right_to_bind_is_confined_by_itself(kube: Access, tmp_path: Path) -> None:
    """A tenant that is managed no more, and whose binding was left."""
    with deployed(kube, tmp_path, "team6") as tenant, account_of(tenant) as account:
        require_confined(account)
        binding = f"{RIGHTS}/clusterrolebindings/openshell-compute-managed:{tenant.name}"
        kube.api("DELETE", binding)
        role = {"kind": "ClusterRole", "name": "openshell-sandbox-scc"}
        body = {"metadata": {"name": "any"}, "roleRef": role}
        path = f"{RIGHTS}/namespaces/kube-system/rolebindings"
        assert wait_until(lambda: not account.may("POST", "/api/v1/namespaces"), 30)
        assert is_confined(account, "POST", path, body)


def test_a_managed_account_writes_nothing_beside_its_gateway(kube: Access, tmp_path: Path) -> None:
    """At home are the gateway's keys and its network policy."""
    with deployed(kube, tmp_path, "team6") as tenant, account_of(tenant) as account:
        home, fence = tenant.name, "openshell-gateway"
        secrets, place = f"/api/v1/namespaces/{home}/secrets", f"{SANDBOXES}/namespaces/{home}"
        policies = f"{POLICIES}/namespaces/{home}/networkpolicies"
        accounts = f"/api/v1/namespaces/{home}/serviceaccounts"
        keys = {"metadata": {"name": "openshell-server-tls"}, "stringData": {"tls.key": "canary"}}
        kube.api("POST", secrets, keys)
        kube.api("POST", f"{place}/sandboxes", sandbox(home))
        require_confined(account)
        mine = {**keys, "stringData": {"tls.key": "mine"}}
        role = {"kind": "ClusterRole", "name": "openshell-sandbox-scc"}
        bound = {"metadata": {"name": "any"}, "roleRef": role}
        opened = {"metadata": {"name": "opened"}, "spec": {"podSelector": {}, "ingress": [{}]}}
        wanted: list[tuple[str, str, Object]] = [
            ("PUT", f"{secrets}/openshell-server-tls", mine),
            ("PATCH", f"{secrets}/openshell-server-tls", mine),
            ("POST", secrets, {"metadata": {"name": "any"}}),
            ("PATCH", f"{policies}/{fence}", {"spec": {"ingress": [{}]}}),
            ("POST", policies, opened),
            ("PATCH", f"{accounts}/{ACCOUNT}", {"automountServiceAccountToken": True}),
            ("POST", accounts, {"metadata": {"name": "any"}}),
            ("POST", f"{RIGHTS}/namespaces/{home}/rolebindings", bound),
            ("POST", f"{place}/sandboxes", {**sandbox(home), "metadata": {"name": "other"}}),
            ("PATCH", f"{place}/sandboxes/any", {"metadata": {"labels": {"a": "b"}}}),
            ("DELETE", f"{place}/sandboxes/any", {}),
        ]
        allowed = [each[:2] for each in wanted if not is_confined(account, *each)]
    assert allowed == []
