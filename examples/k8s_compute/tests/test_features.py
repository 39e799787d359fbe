"""Every feature, proved on a real cluster: a create at the socket, then what the API server has.

Each test is a row of what the two drivers before this one could do. "pod" tests read the pod that
the controller has made, after all admission.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from examples.k8s_compute.tests.pods import agent, claim, environment, init, mount, volume
from examples.k8s_compute.tests.world import LIGHT, V1BETA1, World, eventually
from openshell_drivers import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    SandboxRef,
    SandboxSpec,
    Secret,
)
from openshell_drivers.client import Connection
from openshell_drivers.compute import (
    ComputeResources,
    GpuRequest,
    PlatformEvent,
    Sandbox,
    SandboxDeleted,
    SandboxHappening,
    SandboxSeen,
    SandboxTemplate,
)
from openshell_drivers.naming import object_name
from tests.peers.kube import Access, ApiError
from tests.peers.kube.cluster import Cluster
from tests.peers.kube.plugin import make_namespace

# A driver that ends while a TLS handshake goes on leaves that socket to the garbage collector: the
# HTTP library does not close it when it is cancelled.
pytestmark = [pytest.mark.kube, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

V1ALPHA1: Final = "agents.x-k8s.io/v1alpha1"
ONE: Final = SandboxSpec(id="id-1", name="one", workspace="team")
OBJECT: Final = "team--one"


def wish(**template: Any) -> SandboxSpec:
    """Ask for a sandbox with such a template."""
    return replace(ONE, template=SandboxTemplate(**{"image": "example.org/base:1", **template}))


def annotated(**annotations: str) -> SandboxSpec:
    """Ask for a sandbox whose pod kwok treats specially: ``slow="2s"`` is kwok.test/slow."""
    notes = {f"kwok.test/{key}": value for key, value in annotations.items()}
    return wish(platform_config={"annotations": notes})


async def pod_of(
    world: World, socket: Path, spec: SandboxSpec = ONE, *, pod: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Create a sandbox, and read the pod back that the controller has made of it."""
    return await pod_with(world, socket, spec, pod={**LIGHT, **(pod or {})})


async def pod_with(
    world: World, socket: Path, spec: SandboxSpec = ONE, **changes: Any
) -> dict[str, Any]:
    """Do the same under any configuration."""
    async with world.caller(socket, **changes) as caller:
        await caller.compute.create_sandbox(spec)
        assert await eventually(lambda: len(world.objects("pods")) == 1)
    (pod,) = world.objects("pods")
    return pod


def condition(sandbox: Sandbox) -> tuple[str, str, str]:
    """Give the status, reason and message of what tells how a sandbox is: Suspended, or Ready."""
    assert sandbox.status is not None
    told = {each.type: each for each in sandbox.status.conditions}
    found = told.get("Suspended") or told["Ready"]
    return found.status, found.reason, found.message


def is_ready(sandbox: Sandbox) -> bool:
    """Whether compute is running."""
    return condition(sandbox)[:2] == ("True", "Running")


async def until(caller: Connection, holds: Callable[[Sandbox], bool]) -> list[Sandbox]:
    """Watch until the sandbox is so; give all that was seen of it."""
    seen = []
    with anyio.fail_after(30):
        async with aclosing(caller.compute.watch_sandboxes()) as events:
            async for event in events:
                if isinstance(event, SandboxSeen):
                    seen.append(event.sandbox)
                    if holds(event.sandbox):
                        return seen
    raise AssertionError("the watch has ended")


async def until_gone(caller: Connection, sandbox_id: str) -> None:
    """Watch until the sandbox is deleted."""
    with anyio.fail_after(30):
        async with aclosing(caller.compute.watch_sandboxes()) as events:
            async for event in events:
                if isinstance(event, SandboxDeleted) and event.sandbox_id == sandbox_id:
                    return
    raise AssertionError("the watch has ended")


def make_class(kube: Access, path: str, name: str, **body: Any) -> None:
    """Make an object of the whole cluster, unless another test has."""
    try:
        kube.api("POST", path, {"metadata": {"name": name}, **body})
    except ApiError as error:
        if error.status != 409:
            raise


def spoken(item: dict[str, Any]) -> str:
    """Say in which version the pod template was written."""
    (version,) = {
        each["apiVersion"]
        for each in item["metadata"]["managedFields"]
        if "f:podTemplate" in each["fieldsV1"].get("f:spec", {})
    }
    return str(version)


# Row: CRD and API version.


@pytest.mark.parametrize(
    ("asked", "version"),
    [("auto", V1BETA1), ("v1beta1", V1BETA1), ("v1alpha1", V1ALPHA1)],
)
async def test_version_of_the_resource(
    world: World, socket_path: Path, asked: str, version: str
) -> None:
    await pod_with(world, socket_path, api_version=asked)
    assert spoken(world.only_sandbox()) == version


def serve_v1beta1(kube: Access, served: bool) -> None:
    """Have the cluster serve v1beta1, or not; return when that is so."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/sandboxes.agents.x-k8s.io"
    versions = [each["name"] for each in kube.api("GET", path)["spec"]["versions"]]
    where = f"/spec/versions/{versions.index('v1beta1')}/served"
    change = [{"op": "replace", "path": where, "value": served}]
    kube.api("PATCH", path, change, content_type="application/json-patch+json")


def served_versions(kube: Access) -> set[str]:
    return {each["groupVersion"] for each in kube.api("GET", "/apis/agents.x-k8s.io")["versions"]}


async def listed(caller: Connection) -> set[str]:
    return {each.id for each in await caller.compute.list_sandboxes()}


async def test_a_version_that_goes_and_comes_back_while_the_driver_runs(
    own_kube: Cluster, socket_path: Path, short_dir: Path
) -> None:
    world = World(own_kube, make_namespace(own_kube))
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(ONE)
        serve_v1beta1(own_kube, False)
        try:
            assert await eventually(lambda: served_versions(own_kube) == {V1ALPHA1})
            async with world.caller(short_dir / "new" / "s") as fresh:
                await fresh.compute.create_sandbox(replace(ONE, id="id-2", name="two"))
                assert await listed(fresh) == {"id-1", "id-2"}
            await until(caller, lambda seen: seen.id == "id-2")
            await caller.compute.create_sandbox(replace(ONE, id="id-3", name="three"))
            assert await listed(caller) == {"id-1", "id-2", "id-3"}
        finally:
            serve_v1beta1(own_kube, True)
        assert await eventually(lambda: V1BETA1 in served_versions(own_kube))
        await until(caller, lambda seen: seen.id == "id-3" and is_ready(seen))
        made = {each["metadata"]["name"]: spoken(each) for each in world.sandboxes()}
        assert made == {OBJECT: V1BETA1, "team--two": V1ALPHA1, "team--three": V1ALPHA1}
        assert await caller.compute.delete_sandbox(ONE.ref)
        await until(caller, lambda seen: seen.id == "id-3")
        assert await eventually(lambda: len(world.sandboxes()) == 2)


# Rows: object name, identity labels, lookup.


@pytest.mark.parametrize("name", ["one", "One", "x" * 64, "a--b"])
async def test_name_of_the_object(world: World, socket_path: Path, name: str) -> None:
    pod = await pod_of(world, socket_path, replace(ONE, name=name))
    made = world.only_sandbox()
    assert made["metadata"]["name"] == pod["metadata"]["name"] == object_name("team", name)
    assert (made["metadata"]["name"] == f"team--{name}") == (name == "one")


async def test_identity_labels(world: World, socket_path: Path) -> None:
    extra = {"kagenti.io/type": "agent", "kagenti.io/team": "t1", "kagenti.io/inject": "disabled"}
    user = {"app": "x", "kagenti.io/team": "theirs", "openshell.ai/managed-by": "me"}
    pod = await pod_with(
        world, socket_path, wish(labels=user), gateway_id="gateway-1", extra_labels=extra
    )
    own = {
        "openshell.ai/managed-by": "openshell",
        "openshell.ai/sandbox-id": "id-1",
        "openshell.ai/sandbox-name": "one",
        "openshell.ai/sandbox-workspace": "team",
        "openshell.ai/gateway-id": "gateway-1",
    }
    made = world.only_sandbox()["metadata"]
    assert made["labels"] == {**extra, "app": "x", **own}
    assert pod["metadata"]["labels"].items() >= {**extra, "app": "x", **own}.items()
    for notes in (made["annotations"], pod["metadata"]["annotations"]):
        assert notes["openshell.ai/sandbox-id"] == "id-1"
        assert notes["openshell.ai/sandbox-name"] == "one"
        assert notes["openshell.ai/sandbox-workspace"] == "team"
    assert pod["metadata"]["annotations"]["openshell.io/sandbox-id"] == "id-1"


async def test_lookup_by_id_whatever_the_name(world: World, socket_path: Path) -> None:
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(ONE)
        await caller.compute.create_sandbox(replace(ONE, id="id-2", workspace="other"))
        await caller.compute.stop_sandbox(SandboxRef(id="id-2", name="three"))
        modes = {
            each["metadata"]["name"]: each["spec"]["operatingMode"] for each in world.sandboxes()
        }
        assert modes == {OBJECT: "Running", "other--one": "Suspended"}
        with pytest.raises(NotFound):
            await caller.compute.stop_sandbox(SandboxRef(id="id-3", name="one"))


# Rows of the pod.


async def test_pod_supervisor_by_init_container(world: World, socket_path: Path) -> None:
    supervisor = {"image": "example.org/supervisor:1", "pull_policy": "Always"}
    pod = await pod_of(world, socket_path, pod={"supervisor": supervisor})
    installer = init(pod, "openshell-supervisor-install")
    assert installer is not None
    assert installer["image"] == "example.org/supervisor:1"
    assert installer["imagePullPolicy"] == "Always"
    assert installer["command"] == [
        "/openshell-sandbox",
        "copy-self",
        "/opt/openshell/bin/openshell-sandbox",
    ]
    assert volume(pod, "openshell-supervisor-bin") == {"emptyDir": {}}
    assert agent(pod)["command"] == ["/opt/openshell/bin/openshell-sandbox"]
    assert mount(pod, "openshell-supervisor-bin") == {
        "mountPath": "/opt/openshell/bin",
        "readOnly": True,
    }


async def test_pod_supervisor_by_image_volume(world: World, socket_path: Path) -> None:
    supervisor = {
        "delivery": "image-volume",
        "image": "example.org/supervisor:1",
        "pull_policy": "Never",
    }
    pod = await pod_of(world, socket_path, pod={"supervisor": supervisor})
    assert "initContainers" not in pod["spec"]
    source = {"reference": "example.org/supervisor:1", "pullPolicy": "Never"}
    assert volume(pod, "openshell-supervisor-bin") == {"image": source}
    assert agent(pod)["command"] == ["/opt/openshell/bin/openshell-sandbox"]


async def test_pod_command_and_environment(world: World, socket_path: Path) -> None:
    spec = replace(
        wish(environment={"BELOW": "template", "BOTH": "template"}),
        environment={"BOTH": "spec", "RAW": "$(HOME) $$"},
        command=("sh", "-c", "echo $$"),
        tty=True,
        log_level="debug",
        sandbox_token=Secret("canary-token"),
    )
    settings = {
        "endpoint": "https://gateway.example:8080",
        "environment": {"ANTHROPIC_BASE_URL": "https://inference.local"},
        "environment_from_secrets": {"SHARED": {"secret": "gateway", "key": "handshake"}},
    }
    pod = await pod_of(world, socket_path, spec, pod=settings)
    values = environment(pod)
    assert values["OPENSHELL_ENDPOINT"] == "https://gateway.example:8080"
    assert values["OPENSHELL_SANDBOX_ID"] == "id-1"
    assert values["OPENSHELL_LOG_LEVEL"] == "debug"
    assert values["OPENSHELL_SANDBOX_COMMAND"] == "sleep infinity"
    assert values["OPENSHELL_SSH_SOCKET_PATH"] == "/run/openshell/ssh.sock"
    assert values["OPENSHELL_TELEMETRY_ENABLED"] == "false"
    assert values["ANTHROPIC_BASE_URL"] == "https://inference.local"
    assert '"command": ["sh", "-c", "echo $$"]' in values["OPENSHELL_MAIN_PROCESS_SPEC"].replace(
        '","', '", "'
    ).replace('":[', '": [')
    assert {values["BELOW"], values["BOTH"], values["RAW"]} == {"template", "spec", "$(HOME) $$"}
    (shared,) = [each for each in agent(pod)["env"] if each["name"] == "SHARED"]
    assert shared["valueFrom"] == {"secretKeyRef": {"name": "gateway", "key": "handshake"}}
    assert "canary-token" not in f"{pod} {world.only_sandbox()} {world.objects('secrets')}"


async def test_pod_image_of_the_request_and_pull_policies(world: World, socket_path: Path) -> None:
    pod = await pod_of(world, socket_path, wish(), pod={"image_pull_policy": "Always"})
    assert agent(pod)["image"] == "example.org/base:1"
    assert agent(pod)["imagePullPolicy"] == "Always"
    installer = init(pod, "openshell-supervisor-install")
    assert installer is not None
    assert installer["imagePullPolicy"] == "Always"  # Kubernetes' own, for the tag "latest"


async def test_pod_default_image(world: World, socket_path: Path) -> None:
    pod = await pod_with(world, socket_path, default_image="example.org/fallback:2")
    assert agent(pod)["image"] == "example.org/fallback:2"
    assert agent(pod)["imagePullPolicy"] == "IfNotPresent"


async def test_pod_pull_secrets(world: World, socket_path: Path) -> None:
    pod = await pod_of(world, socket_path, pod={"image_pull_secrets": ["one", "two"]})
    assert pod["spec"]["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


async def test_pod_service_account(world: World, socket_path: Path) -> None:
    world.kube.api(
        "POST",
        f"/api/v1/namespaces/{world.namespace}/serviceaccounts",
        {"metadata": {"name": "boxes"}},
    )
    pod = await pod_of(world, socket_path, pod={"service_account": "boxes"})
    assert pod["spec"]["serviceAccountName"] == "boxes"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not [each for each in pod["spec"]["volumes"] if "kube-api-access" in each["name"]]


@pytest.mark.parametrize(("asked", "given"), [(60, 600), (7200, 7200), (100_000, 86_400)])
async def test_pod_projected_token(world: World, socket_path: Path, asked: int, given: int) -> None:
    token = {"audience": "gateway-2", "ttl_seconds": asked, "path": "/run/own/token"}
    pod = await pod_of(world, socket_path, pod={"sa_token": token})
    projected = volume(pod, "openshell-sa-token")
    assert projected == {
        "projected": {
            "defaultMode": 0o400,
            "sources": [
                {
                    "serviceAccountToken": {
                        "audience": "gateway-2",
                        "expirationSeconds": given,
                        "path": "token",
                    }
                }
            ],
        }
    }
    assert mount(pod, "openshell-sa-token") == {"mountPath": "/run/own", "readOnly": True}
    assert environment(pod)["OPENSHELL_K8S_SA_TOKEN_FILE"] == "/run/own/token"


async def test_pod_client_tls_in_one_secret(world: World, socket_path: Path) -> None:
    pod = await pod_of(
        world, socket_path, pod={"client_tls": {"layout": "single", "secret": "tls"}}
    )
    assert volume(pod, "openshell-client-tls") == {
        "secret": {"secretName": "tls", "defaultMode": 0o400}
    }
    assert mount(pod, "openshell-client-tls") == {
        "mountPath": "/etc/openshell-tls/client",
        "readOnly": True,
    }
    assert environment(pod)["OPENSHELL_TLS_KEY"] == "/etc/openshell-tls/client/tls.key"


async def test_pod_client_tls_in_two_secrets(world: World, socket_path: Path) -> None:
    tls = {"layout": "split", "ca_secret": "authority", "client_secret": "own"}
    pod = await pod_of(world, socket_path, pod={"client_tls": tls})
    assert volume(pod, "openshell-tls-ca") == {
        "secret": {
            "secretName": "authority",
            "defaultMode": 0o400,
            "items": [{"key": "ca.crt", "path": "ca.crt"}],
        }
    }
    assert volume(pod, "openshell-tls-client") == {
        "secret": {"secretName": "own", "defaultMode": 0o400}
    }
    paths = [mount(pod, name) for name in ("openshell-tls-ca", "openshell-tls-client")]
    assert [each and each["mountPath"] for each in paths] == ["/tls/ca", "/tls/client"]
    values = environment(pod)
    assert values["OPENSHELL_TLS_CA"] == "/tls/ca/ca.crt"
    assert values["OPENSHELL_TLS_CERT"] == "/tls/client/tls.crt"


async def test_pod_security_context(world: World, socket_path: Path) -> None:
    pod = await pod_of(world, socket_path)
    assert agent(pod)["securityContext"] == {
        "runAsUser": 0,
        "capabilities": {"add": ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYSLOG"]},
    }
    assert "hostUsers" not in pod["spec"]
    assert environment(pod)["OPENSHELL_SANDBOX_UID"] == "1000"
    assert environment(pod)["OPENSHELL_SANDBOX_GID"] == "1000"


async def test_pod_privileged_with_apparmor_and_capabilities_of_the_operator(
    world: World, socket_path: Path
) -> None:
    security = {
        "privileged": True,
        "apparmor": "Localhost/box",
        "capabilities": ["NET_RAW"],
        "uid": 2000,
        "gid": 3000,
    }
    pod = await pod_of(world, socket_path, pod={"security": security})
    context = agent(pod)["securityContext"]
    assert context["privileged"] is True
    assert context["appArmorProfile"] == {"type": "Localhost", "localhostProfile": "box"}
    assert "NET_RAW" in context["capabilities"]["add"]
    assert environment(pod)["OPENSHELL_SANDBOX_UID"] == "2000"
    assert environment(pod)["OPENSHELL_SANDBOX_GID"] == "3000"


@pytest.mark.parametrize(
    ("default", "asked", "host_users"),
    [(False, True, False), (True, None, False), (True, False, True)],
)
async def test_pod_user_namespaces(
    world: World, socket_path: Path, default: bool, asked: bool | None, host_users: bool
) -> None:
    security = {"security": {"user_namespaces": default}}
    pod = await pod_of(world, socket_path, wish(user_namespaces=asked), pod=security)
    assert pod["spec"]["hostUsers"] is host_users
    more = {"SETUID", "SETGID", "DAC_READ_SEARCH"}
    has = more <= {*agent(pod)["securityContext"]["capabilities"]["add"]}
    assert has is not host_users


async def test_pod_user_from_openshifts_annotations(world: World, socket_path: Path) -> None:
    notes = {
        "openshift.io/sa.scc.uid-range": "1000680000/10000",
        "openshift.io/sa.scc.supplemental-groups": "1000690000/10000",
    }
    path = f"/api/v1/namespaces/{world.namespace}"
    world.kube.api("PATCH", path, {"metadata": {"annotations": notes}})
    values = environment(await pod_of(world, socket_path))
    assert values["OPENSHELL_SANDBOX_UID"] == "1000680000"
    assert values["OPENSHELL_SANDBOX_GID"] == "1000690000"


# Row: volumes.


async def test_workspace_claim_is_bound_kept_over_a_stop_and_gone_after_a_delete(
    world: World, socket_path: Path
) -> None:
    settings = {"workspace": {"size": "3Gi", "storage_class": "standard"}}
    async with world.caller(socket_path, pod=settings) as caller:
        await caller.compute.create_sandbox(ONE)
        await until(caller, is_ready)
        (made,) = world.objects("persistentvolumeclaims")
        assert made["status"]["phase"] == "Bound"
        assert made["spec"]["resources"]["requests"] == {"storage": "3Gi"}
        assert made["spec"]["accessModes"] == ["ReadWriteOnce"]
        (pod,) = world.objects("pods")
        assert volume(pod, "workspace") == {
            "persistentVolumeClaim": {"claimName": made["metadata"]["name"]}
        }
        assert mount(pod, "workspace") == {"mountPath": "/sandbox"}
        seeding = init(pod, "workspace-init")
        assert seeding is not None
        assert seeding["args"] == ["/sandbox", "1000:1000"]
        await caller.compute.stop_sandbox(ONE.ref)
        assert world.objects("pods") == []
        await caller.compute.start_sandbox(ONE.ref)
        await until(caller, is_ready)
        (kept,) = world.objects("persistentvolumeclaims")
        assert kept["metadata"]["uid"] == made["metadata"]["uid"]
        assert await caller.compute.delete_sandbox(ONE.ref)
        assert await eventually(lambda: world.objects("persistentvolumeclaims") == [])
        assert await eventually(lambda: world.sandboxes() == [])


async def test_pod_workspace_in_an_empty_dir(world: World, socket_path: Path) -> None:
    settings = {"workspace": {"volume": "empty-dir", "size": "1Gi", "mount_path": "/srv/box"}}
    pod = await pod_of(world, socket_path, pod=settings)
    assert volume(pod, "workspace") == {"emptyDir": {"sizeLimit": "1Gi"}}
    assert mount(pod, "workspace") == {"mountPath": "/srv/box"}
    assert world.objects("persistentvolumeclaims") == []


def make_claim(world: World, name: str, labels: dict[str, str]) -> None:
    """Make a claim that a sandbox may want to attach."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    path = f"/api/v1/namespaces/{world.namespace}/persistentvolumeclaims"
    world.kube.api("POST", path, {"metadata": {"name": name, "labels": labels}, "spec": spec})


ATTACHABLE: Final = {
    "openshell.ai/sandbox-attachable": "true",
    "openshell.ai/sandbox-attachable-workspace": "team",
}


async def test_pod_mounts_of_the_request(world: World, socket_path: Path) -> None:
    make_claim(world, "pvc-data", ATTACHABLE)
    spec = wish(driver_config=claim(sub_path="a/b"))
    pod = await pod_with(world, socket_path, spec, allow_driver_config=True)
    assert volume(pod, "data") == {
        "persistentVolumeClaim": {"claimName": "pvc-data", "readOnly": True}
    }
    assert mount(pod, "data") == {"mountPath": "/data", "readOnly": True, "subPath": "a/b"}


async def test_pod_mounts_are_writable_if_asked(world: World, socket_path: Path) -> None:
    make_claim(world, "pvc-data", {"mine": "team"})
    asked = claim(read_only=False)
    asked["volumes"][0]["persistent_volume_claim"]["read_only"] = False
    labels = {"mine": "${workspace}"}
    pod = await pod_with(
        world,
        socket_path,
        wish(driver_config=asked),
        allow_driver_config=True,
        admission_labels=labels,
    )
    assert volume(pod, "data") == {"persistentVolumeClaim": {"claimName": "pvc-data"}}
    assert mount(pod, "data") == {"mountPath": "/data"}


# Rows: resources, GPU.


async def test_pod_resources_of_all_sources(world: World, socket_path: Path) -> None:
    spec = wish(
        resources=ComputeResources(cpu_limit="2", cpu_request="500m", memory_limit="1Gi"),
        platform_config={"resources_raw": {"limits": {"ephemeral-storage": "1Gi", "cpu": "9"}}},
        driver_config={
            "containers": {"agent": {"resources": {"requests": {"ephemeral-storage": "1Mi"}}}}
        },
    )
    own = {**LIGHT, "resources": {"limits": {"memory": "8Gi"}, "requests": {"memory": "1Mi"}}}
    pod = await pod_with(world, socket_path, spec, pod=own, allow_driver_config=True)
    assert agent(pod)["resources"] == {
        "limits": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "1Gi"},
        "requests": {"cpu": "500m", "memory": "1Mi", "ephemeral-storage": "1Mi"},
    }


async def test_pod_default_resources(world: World, socket_path: Path) -> None:
    settings = {
        "resources": {"limits": {"cpu": "4"}},
        "init_resources": {"limits": {"memory": "64Mi"}},
    }
    pod = await pod_of(world, socket_path, pod=settings)
    assert agent(pod)["resources"] == {"limits": {"cpu": "4"}, "requests": {"cpu": "4"}}
    installer = init(pod, "openshell-supervisor-install")
    assert installer is not None
    assert installer["resources"]["requests"] == {"memory": "64Mi"}


@pytest.mark.parametrize(("count", "given"), [(None, "1"), (3, "3")])
async def test_gpus_put_the_pod_on_a_node_that_has_them(
    world: World, socket_path: Path, count: int | None, given: str
) -> None:
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(replace(ONE, gpu=GpuRequest(count=count)))
        await until(caller, is_ready)
    (pod,) = world.objects("pods")
    assert agent(pod)["resources"]["limits"] == {"nvidia.com/gpu": given}
    assert pod["spec"]["nodeName"] == "node-gpu"


@pytest.mark.parametrize(
    ("resource", "count", "why"),
    [
        ("nvidia.com/gpu", 5, "no node has 5 of nvidia.com/gpu; the most is 4"),
        ("amd.com/gpu", 1, "no node has amd.com/gpu"),
    ],
)
async def test_gpus_that_no_node_has_are_refused(
    world: World, socket_path: Path, resource: str, count: int, why: str
) -> None:
    async with world.caller(socket_path, gpu_resource=resource) as caller:
        spec = replace(ONE, gpu=GpuRequest(count=count))
        for ask in (caller.compute.validate_sandbox_create, caller.compute.create_sandbox):
            with pytest.raises(FailedPrecondition, match=why):
                await ask(spec)
    assert world.sandboxes() == []


async def test_gpus_without_the_right_to_look_are_refused_with_what_to_do(
    world: World, socket_path: Path
) -> None:
    token = world.kube.service_account_token(world.namespace, "default")
    kubeconfig = world.kube.kubeconfig_for(token=token)
    async with world.caller(socket_path, kubeconfig=kubeconfig) as caller:
        with pytest.raises(FailedPrecondition, match=r"may not list nodes \(RBAC\)"):
            await caller.compute.validate_sandbox_create(replace(ONE, gpu=GpuRequest()))


# Rows: runtime class, scheduling, annotations, host aliases.


RUNTIME_CLASSES: Final = "/apis/node.k8s.io/v1/runtimeclasses"


@pytest.mark.parametrize(
    ("template", "given"),
    [
        ({}, "features-default"),
        ({"driver_config": {"pod": {"runtime_class_name": "features-driver"}}}, "features-driver"),
        (
            {
                "driver_config": {"pod": {"runtime_class_name": "features-driver"}},
                "platform_config": {"runtime_class_name": "features-platform"},
            },
            "features-platform",
        ),
    ],
)
async def test_pod_runtime_class(
    world: World, socket_path: Path, template: dict[str, Any], given: str
) -> None:
    make_class(world.kube, RUNTIME_CLASSES, given, handler="runsc")
    pod = await pod_with(
        world,
        socket_path,
        wish(**template),
        pod={**LIGHT, "runtime_class": "features-default"},
        allow_driver_config=True,
    )
    assert pod["spec"]["runtimeClassName"] == given


async def test_pod_scheduling(world: World, socket_path: Path) -> None:
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    make_class(world.kube, classes, "features-high", value=1000)
    settings = {
        **LIGHT,
        "node_selector": {"kubernetes.io/hostname": "node-cpu"},
        "tolerations": [{"key": "own", "operator": "Exists"}],
        "priority_class": "features-low",
    }
    asked = {
        "priority_class_name": "features-high",
        "tolerations": [
            {"key": "gpu", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60}
        ],
    }
    async with world.caller(socket_path, pod=settings, allow_driver_config=True) as caller:
        await caller.compute.create_sandbox(wish(driver_config={"pod": asked}))
        await until(caller, is_ready)
        elsewhere = {"pod": {"node_selector": {"kubernetes.io/hostname": "node-gpu"}}}
        with pytest.raises(FailedPrecondition, match="sandboxes run elsewhere here"):
            await caller.compute.create_sandbox(
                replace(wish(driver_config=elsewhere), id="id-2", name="two")
            )
    (pod,) = world.objects("pods")
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "node-cpu"}
    assert pod["spec"]["nodeName"] == "node-cpu"
    assert (pod["spec"]["priorityClassName"], pod["spec"]["priority"]) == ("features-high", 1000)
    tolerated = pod["spec"]["tolerations"]
    assert {"key": "own", "operator": "Exists"} in tolerated
    wished = {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute"}
    assert {**wished, "tolerationSeconds": 60} in tolerated


async def test_pod_annotations(world: World, socket_path: Path) -> None:
    asked = {"note": "ü", "team": "theirs", "openshell.io/sandbox-id": "another"}
    pod = await pod_of(
        world,
        socket_path,
        wish(platform_config={"annotations": asked}),
        pod={"annotations": {"team": "ours"}},
    )
    notes = pod["metadata"]["annotations"]
    assert (notes["note"], notes["team"], notes["openshell.io/sandbox-id"]) == ("ü", "ours", "id-1")


async def test_pod_host_aliases_and_resolver(world: World, socket_path: Path) -> None:
    aliases = [{"ip": "10.1.2.3", "hostnames": ["host.openshell.internal"]}]
    pod = await pod_of(world, socket_path, pod={"host_aliases": aliases})
    assert pod["spec"]["hostAliases"] == aliases
    assert pod["spec"]["dnsConfig"] == {"options": [{"name": "ndots", "value": "1"}]}
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30


# Rows: stop and start, delete.


@pytest.mark.parametrize(("version", "group"), [("v1beta1", V1BETA1), ("v1alpha1", V1ALPHA1)])
async def test_stop_and_start(world: World, socket_path: Path, version: str, group: str) -> None:
    def mode() -> tuple[str, int]:
        (old,) = world.objects("sandboxes", group=V1ALPHA1)
        return world.only_sandbox()["spec"]["operatingMode"], old["spec"]["replicas"]

    async with world.caller(socket_path, api_version=version) as caller:
        await caller.compute.create_sandbox(ONE)
        await until(caller, is_ready)
        assert mode() == ("Running", 1)
        (before,) = world.objects("pods")
        await caller.compute.stop_sandbox(ONE.ref)
        assert mode() == ("Suspended", 0)
        assert world.objects("pods") == []
        await caller.compute.stop_sandbox(ONE.ref)
        await caller.compute.start_sandbox(ONE.ref)
        await until(caller, is_ready)
        assert mode() == ("Running", 1)
        (after,) = world.objects("pods")
        assert after["metadata"]["uid"] != before["metadata"]["uid"]
        assert spoken(world.only_sandbox()) == group


async def test_delete_leaves_nothing(world: World, socket_path: Path) -> None:
    launch = Secret(
        '{"supervisor": {"session_id": "s", "gateway_token": "canary"}, "gateway_id": "g",'
        ' "verification_keys": []}'
    )
    async with world.caller(socket_path, pod={}) as caller:
        await caller.compute.create_sandbox(replace(ONE, launch_authentication=launch))
        await until(caller, is_ready)
        assert len(world.objects("secrets")) == 2
        assert await caller.compute.delete_sandbox(ONE.ref)

        def left() -> list[Any]:
            kinds = ("pods", "secrets", "persistentvolumeclaims", "services")
            return [each for kind in kinds for each in world.objects(kind)]

        assert await eventually(lambda: left() == [])
        with anyio.fail_after(30):
            while await listed(caller):  # noqa: ASYNC110  # the watch brings it
                await anyio.sleep(0.05)
        assert world.sandboxes() == []
        assert not await caller.compute.delete_sandbox(ONE.ref)


# Row: status.


async def test_status_starting_then_ready(world: World, socket_path: Path) -> None:
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(annotated(slow="1s"))
        seen = await until(caller, is_ready)
        words = [condition(each)[:2] for each in seen]
        assert words[-1] == ("True", "Running")
        assert {*words[:-1]} <= {("False", "Starting"), ("False", "DependenciesNotReady")}
        assert words[:-1]


async def test_status_instance_is_the_pod_and_another_one_after_a_restart(
    world: World, socket_path: Path
) -> None:
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(ONE)
        instances = []
        for _ in range(2):
            await until(caller, is_ready)
            status = (await caller.compute.get_sandbox(ONE.ref)).status
            assert status is not None
            (pod,) = world.objects("pods")
            assert status.instance_id == pod["metadata"]["uid"]
            instances.append(status.instance_id)
            await caller.compute.stop_sandbox(ONE.ref)
            await caller.compute.start_sandbox(ONE.ref)
        assert instances[0] != instances[1]


async def test_status_stopping_then_stopped(world: World, socket_path: Path) -> None:
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(annotated(linger="1s"))
        await until(caller, is_ready)
        # By somebody else: of its own stops the server says so without being told.
        world.patch("sandboxes", OBJECT, {"spec": {"operatingMode": "Suspended"}}, group=V1BETA1)
        await until(caller, lambda seen: condition(seen)[1] == "PodTerminating")
        assert len(world.objects("pods")) == 1
        await until(caller, lambda seen: condition(seen)[1] == "Stopped")
        assert world.objects("pods") == []


@pytest.mark.parametrize("code", [0, 3])
async def test_status_exited(world: World, socket_path: Path, code: int) -> None:
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(ONE)
        await until(caller, is_ready)
        world.patch("pods", OBJECT, {"metadata": {"annotations": {"kwok.test/exit": f"{code}"}}})
        seen = await until(caller, lambda each: condition(each)[1] == "ContainerExited")
        assert f"code {code}" in condition(seen[-1])[2]
        (pod,) = world.objects("pods")
        await caller.compute.start_sandbox(ONE.ref)
        await until(caller, is_ready)
        (again,) = world.objects("pods")
        assert again["metadata"]["uid"] != pod["metadata"]["uid"]


async def test_status_failed_when_an_image_cannot_be_pulled_for_too_long(
    world: World, socket_path: Path
) -> None:
    async with world.caller(socket_path, image_pull_patience=1.0) as caller:
        await caller.compute.create_sandbox(wish(image="example.org/unpullable:1"))
        seen = await until(caller, lambda each: condition(each)[1] == "ImagePullFailed")
        before = {condition(each)[1:] for each in seen[:-1]}
        assert before & {
            ("ContainerStarting", "ErrImagePull"),
            ("ContainerStarting", "ImagePullBackOff"),
        }


async def test_status_of_an_image_trouble_within_patience_passes(
    world: World, socket_path: Path
) -> None:
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(wish(image="example.org/unpullable:1"))
        seen = await until(caller, lambda each: condition(each)[2] == "ImagePullBackOff")
        assert condition(seen[-1])[:2] == ("False", "ContainerStarting")


async def test_status_deleting(world: World, socket_path: Path) -> None:
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(annotated(linger="1s"))
        await until(caller, is_ready)
        path = f"/apis/{V1BETA1}/namespaces/{world.namespace}/sandboxes/{OBJECT}"
        world.kube.api("DELETE", path, {"propagationPolicy": "Foreground"})  # by somebody else
        seen = await until(caller, lambda each: each.status is not None and each.status.deleting)
        assert condition(seen[-1])[1] == "Deleting"
        assert len(world.sandboxes()) == 1
        await until_gone(caller, ONE.id)
        assert world.sandboxes() == []


# Row: events.


async def events_until(caller: Connection, last: str) -> list[PlatformEvent]:
    """Watch until an event with this reason; give all events."""
    told = []
    with anyio.fail_after(30):
        async with aclosing(caller.compute.watch_sandboxes()) as events:
            async for event in events:
                if isinstance(event, SandboxHappening):
                    told.append(event.event)
                    if event.event.reason == last:
                        return told
    raise AssertionError("the watch has ended")


async def test_events_with_progress(world: World, socket_path: Path) -> None:
    told: list[PlatformEvent] = []

    async def follow() -> None:
        told.extend(await events_until(caller, "Started"))

    async with world.caller(socket_path) as caller, anyio.create_task_group() as tasks:
        await until_watching(caller)
        tasks.start_soon(follow)
        await caller.compute.create_sandbox(wish())
    by_reason = {each.reason: each for each in told}
    assert by_reason["Scheduled"].metadata["openshell.progress.complete_step"] == (
        "requesting_sandbox"
    )
    assert by_reason["Pulled"].metadata["openshell.progress.complete_step"] == "pulling_image"
    started = by_reason["Started"]
    assert started.metadata["openshell.progress.complete_step"] == "starting_sandbox"
    assert (started.source, started.type) == ("kubelet", "Normal")
    (kept,) = [each for each in world.objects("events") if each["reason"] == "Started"]
    assert started.message == kept["message"]


async def test_events_of_trouble_are_warnings(world: World, socket_path: Path) -> None:
    told: list[PlatformEvent] = []

    async def follow() -> None:
        told.extend(await events_until(caller, "Failed"))

    async with world.caller(socket_path) as caller, anyio.create_task_group() as tasks:
        await until_watching(caller)
        tasks.start_soon(follow)
        await caller.compute.create_sandbox(wish(image="example.org/unpullable:1"))
    assert told[-1].type == "Warning"
    assert "example.org/unpullable:1" in told[-1].message
    assert told[-1].metadata["openshell.progress.active_step"] == "pulling_image"


async def until_watching(caller: Connection) -> None:
    """Wait until the driver sees the cluster: from then on events count."""
    await caller.compute.list_sandboxes()


# Row: gateway scoping.


async def test_another_gateways_sandboxes_are_neither_seen_nor_touched(
    world: World, short_dir: Path
) -> None:
    async with (
        world.caller(short_dir / "a" / "s", gateway_id="ours") as ours,
        world.caller(short_dir / "b" / "s", gateway_id="theirs") as theirs,
    ):
        await ours.compute.create_sandbox(ONE)
        await until(ours, is_ready)
        for refused in (theirs.compute.get_sandbox, theirs.compute.stop_sandbox):
            with pytest.raises(NotFound):
                await refused(ONE.ref)
        assert not await theirs.compute.delete_sandbox(ONE.ref)
        with pytest.raises(AlreadyExists):
            await theirs.compute.create_sandbox(ONE)
        assert await listed(theirs) == set()
        made = world.only_sandbox()
        assert made["metadata"]["labels"]["openshell.ai/gateway-id"] == "ours"
        assert made["spec"]["operatingMode"] == "Running"
        assert await listed(ours) == {"id-1"}
