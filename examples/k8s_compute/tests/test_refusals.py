"""What a real cluster refuses, as a gateway's user reads it: what is wrong, and no secret.

Every test holds each answer, each log line and each state's message against canaries in the values
of the request.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import pytest
from openshell_compute_k8s._failures import ApiRefusal
from openshell_compute_k8s._transport import Request, Transport

from examples.k8s_compute.tests.pods import claim
from examples.k8s_compute.tests.world import LIGHT, V1BETA1, World, eventually
from openshell_drivers import (
    AlreadyExists,
    DriverError,
    FailedPrecondition,
    SandboxSpec,
    Secret,
)
from openshell_drivers.client import Connection
from openshell_drivers.compute import GpuRequest, Sandbox, SandboxSeen, SandboxTemplate
from tests.peers.kube import ApiError

# A driver that ends while a TLS handshake goes on leaves that socket to the garbage collector: the
# HTTP library does not close it when it is cancelled.
pytestmark = [pytest.mark.kube, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

CANARY: Final = "canary-8b1f"
LAUNCH: Final = Secret(
    f'{{"supervisor": {{"session_id": "{CANARY}-session", "gateway_token": "{CANARY}-gateway"}},'
    ' "gateway_id": "g", "verification_keys": []}'
)
ONE: Final = SandboxSpec(
    id="id-1",
    name="one",
    workspace="team",
    environment={"API_KEY": f"{CANARY}-spec"},
    template=SandboxTemplate(
        image="example.org/base:1", environment={"PASSWORD": f"{CANARY}-template"}
    ),
    command=("run", f"--token={CANARY}-command"),
    sandbox_token=Secret(f"{CANARY}-token"),
    launch_authentication=LAUNCH,
)
ATTACHABLE: Final = {
    "openshell.ai/sandbox-attachable": "true",
    "openshell.ai/sandbox-attachable-workspace": "team",
}
ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"


def wish(**template: Any) -> SandboxSpec:
    """Ask for a sandbox with such a template, and the canaries."""
    return replace(ONE, template=replace(ONE.template, **template))


def said(sandbox: Sandbox) -> tuple[str, str, str]:
    """Give the status, reason and message of what tells how a sandbox is."""
    assert sandbox.status is not None
    told = {each.type: each for each in sandbox.status.conditions}
    found = told.get("Suspended") or told["Ready"]
    return found.status, found.reason, found.message


class Listener:
    """Hears all that the driver says, for the canaries in it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG")
        self._caplog = caplog
        self._heard: list[str] = []

    async def refused(
        self,
        ask: Callable[[SandboxSpec], Any],
        spec: SandboxSpec = ONE,
        kind: type[DriverError] = FailedPrecondition,
    ) -> str:
        """Have a request refused, and give the message."""
        with pytest.raises(kind) as info:
            await ask(spec)
        self._heard.append(f"{info.value!r} {info.value}")
        return info.value.message

    async def until(self, caller: Connection, holds: Callable[[Sandbox], bool]) -> Sandbox:
        """Watch until the sandbox is so, and give it."""
        with anyio.fail_after(30):
            async with aclosing(caller.compute.watch_sandboxes()) as events:
                async for event in events:
                    self._heard.append(repr(event))
                    if isinstance(event, SandboxSeen) and holds(event.sandbox):
                        return event.sandbox
        raise AssertionError("the watch has ended")

    def require_no_canary(self) -> None:
        """Find no canary in what was heard, nor in what was logged."""
        records = self._caplog.get_records("call")
        logged = [f"{each.getMessage()} {each.__dict__}" for each in records]
        assert any("openshell_drivers.rpc" in each for each in logged)
        assert CANARY not in " ".join([*self._heard, *logged])


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[Listener]:
    """Listen during the test, and look for canaries afterwards."""
    listener = Listener(caplog)
    yield listener
    listener.require_no_canary()


def limit(world: World, name: str, **hard: str) -> None:
    """Make a quota that holds from now on."""
    amounts = {key.replace("_", "."): value for key, value in hard.items()}
    path = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
    world.kube.api("POST", path, {"metadata": {"name": name}, "spec": {"hard": amounts}})


async def until_counted(world: World) -> None:
    """Wait until the quotas of the namespace hold."""
    assert await eventually(
        lambda: all(each["status"].get("used") for each in world.objects("resourcequotas"))
    )


SANDBOXES: Final = "count/sandboxes.agents.x-k8s.io"


async def test_quota_of_sandboxes(world: World, socket_path: Path, heard: Listener) -> None:
    limit(world, "few", **{SANDBOXES.replace(".", "_"): "1"})
    await until_counted(world)
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(ONE)
        two = replace(ONE, id="id-2", name="two")
        message = await heard.refused(caller.compute.create_sandbox, two)
        for part in ("quota: few", f"requested: {SANDBOXES}=1", f"limited: {SANDBOXES}=1"):
            assert part in message
        assert [each.id for each in await caller.compute.list_sandboxes()] == ["id-1"]
        assert await caller.compute.delete_sandbox(ONE.ref)
        assert await eventually(lambda: world.sandboxes() == [])
        assert await eventually(
            lambda: world.objects("resourcequotas")[0]["status"]["used"][SANDBOXES] == "0"
        )
        await caller.compute.create_sandbox(two)
        assert world.only_sandbox()["metadata"]["name"] == "team--two"


def count_anew(world: World, number: int) -> None:
    """Change the quota as a controller does that counts: what admission has read is old then."""
    path = f"/api/v1/namespaces/{world.namespace}/resourcequotas/enough"
    notes = {"example.org/counted": str(number)}
    world.kube.api("PATCH", path, {"metadata": {"annotations": notes}})


@pytest.fixture
def conflicts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write down what the API server says with each 409."""
    said, send = list[str](), Transport.send

    async def noting(self: Transport, request: Request, **more: Any) -> bytes:
        try:
            return await send(self, request, **more)
        except ApiRefusal as refusal:
            if refusal.code == 409:
                said.append(refusal.status.message)
            raise

    monkeypatch.setattr(Transport, "send", noting)
    return said


async def test_many_creates_at_once_within_a_quota_all_succeed(
    world: World, socket_path: Path, heard: Listener, conflicts: list[str]
) -> None:
    """Admission answers 409 to all that it has counted together, when somebody else has counted
    meanwhile. Here somebody does until it has."""
    many = 40
    limit(world, "enough", pods=str(many), **{SANDBOXES.replace(".", "_"): str(many)})
    await until_counted(world)
    failures: list[str] = []

    async def create(number: int) -> None:
        spec = replace(ONE, id=f"id-{number}", name=f"n-{number}", launch_authentication=None)
        try:
            await caller.compute.create_sandbox(spec)
        except DriverError as error:
            failures.append(error.message)

    async def count() -> None:
        numbers = itertools.count()
        while not conflicts:
            await anyio.to_thread.run_sync(count_anew, world, next(numbers))

    async with world.caller(socket_path) as caller, anyio.create_task_group() as counting:
        for _ in range(8):
            counting.start_soon(count)
        async with anyio.create_task_group() as creating:
            for number in range(many):
                creating.start_soon(create, number)
        counting.cancel_scope.cancel()
    assert failures == []
    assert len(world.sandboxes()) == many


async def test_quota_of_pods_is_told_while_the_sandbox_waits(
    world: World, socket_path: Path, heard: Listener
) -> None:
    limit(world, "no-pods", pods="0")
    await until_counted(world)
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(ONE)
        seen = await heard.until(caller, lambda each: "quota" in said(each)[2])
        status, reason, message = said(seen)
        assert (status, reason) == ("False", "ReconcilerError")
        for part in ("exceeded quota: no-pods", "requested: pods=1", "limited: pods=0"):
            assert part in message
        assert world.objects("pods") == []
        path = f"/api/v1/namespaces/{world.namespace}/resourcequotas/no-pods"
        world.kube.api("DELETE", path)
        await heard.until(caller, lambda each: said(each)[0] == "True")  # it was not for good


async def test_a_namespace_that_is_missing(
    world: World, socket_path: Path, heard: Listener
) -> None:
    async with world.caller(socket_path, namespace="nobody-has-it") as caller:
        message = await heard.refused(caller.compute.create_sandbox)
        assert message.startswith("namespace nobody-has-it takes no sandbox")
        assert "it is not there" in message
        assert await caller.compute.list_sandboxes() == ()


async def test_a_namespace_that_is_being_deleted(
    world: World, socket_path: Path, heard: Listener
) -> None:
    path = f"/api/v1/namespaces/{world.namespace}"
    world.kube.api("PATCH", path, {"metadata": {"finalizers": ["example.org/hold"]}})
    world.kube.api("DELETE", path)
    try:
        async with world.caller(socket_path) as caller:
            message = await heard.refused(caller.compute.create_sandbox)
            assert "it is being deleted" in message
            assert world.namespace in message
        assert world.sandboxes() == []
    finally:
        # The fixture deletes it once more, so it has to be there a little longer.
        world.kube.api("PATCH", path, {"metadata": {"finalizers": None}})


async def restricted(world: World) -> None:
    """Have the namespace take restricted pods only."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    path = f"/api/v1/namespaces/{world.namespace}"
    world.kube.api("PATCH", path, {"metadata": {"labels": labels}})


async def test_pod_security_keeps_the_sandbox_waiting(
    world: World, socket_path: Path, heard: Listener
) -> None:
    await restricted(world)
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(ONE)
        seen = await heard.until(caller, lambda each: said(each)[1] == "ReconcilerError")
        assert said(seen)[2]
        assert world.objects("pods") == []
        assert await caller.compute.delete_sandbox(ONE.ref)
        assert await eventually(lambda: world.sandboxes() == [])


async def test_pod_security_is_told(world: World, socket_path: Path, heard: Listener) -> None:
    await restricted(world)
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(ONE)
        seen = await heard.until(caller, lambda each: said(each)[1] == "ReconcilerError")
        assert 'violates PodSecurity "restricted' in said(seen)[2]


@pytest.mark.parametrize("setting", ["runtime_class", "priority_class", "service_account"])
async def test_what_only_the_making_of_the_pod_finds_keeps_the_sandbox_waiting(
    world: World, socket_path: Path, heard: Listener, setting: str
) -> None:
    async with world.caller(socket_path, pod={**LIGHT, setting: "nobody-has-it"}) as caller:
        await caller.compute.create_sandbox(ONE)
        seen = await heard.until(caller, lambda each: said(each)[1] == "ReconcilerError")
        assert said(seen)[0] == "False"
        assert said(seen)[2]
        assert world.objects("pods") == []


async def test_a_node_that_is_missing_is_told(
    world: World, socket_path: Path, heard: Listener
) -> None:
    async with world.caller(socket_path, pod={**LIGHT, "node_selector": {"no": "where"}}) as caller:
        await caller.compute.create_sandbox(ONE)
        seen = await heard.until(caller, lambda each: "Unschedulable" in said(each)[2])
        assert "didn't match Pod's node affinity/selector" in said(seen)[2]
        assert said(seen)[0] == "False"


# Admission policies of the cluster.


@asynccontextmanager
async def denying(world: World, reason: str, resource: str = "sandboxes") -> AsyncIterator[str]:
    """Have the cluster deny a kind of object here, with its values in the words; give the name."""
    name = f"{world.namespace}-{resource}"
    rules = {
        "apiGroups": ["agents.x-k8s.io" if resource == "sandboxes" else ""],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": [resource],
    }
    containers = "object.spec.podTemplate.spec" if resource == "sandboxes" else "object.spec"
    words = f"'no: ' + {containers}.containers[0].env.map(e, has(e.value) ? e.value : '').join(' ')"
    policy = {
        "matchConstraints": {"resourceRules": [rules]},
        "matchConditions": [
            {"name": "here", "expression": f"request.namespace == '{world.namespace}'"}
        ],
        "validations": [{"expression": "false", "messageExpression": words, "reason": reason}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    policies = f"{ADMISSION}/validatingadmissionpolicies"
    bindings = f"{ADMISSION}/validatingadmissionpolicybindings"
    world.kube.api("POST", policies, {"metadata": {"name": name}, "spec": policy})
    world.kube.api("POST", bindings, {"metadata": {"name": name}, "spec": binding})
    try:
        assert await eventually(lambda: denies(world, resource))
        yield name
    finally:
        world.kube.remove(f"{bindings}/{name}")
        world.kube.remove(f"{policies}/{name}")


def denies(world: World, resource: str) -> bool:
    """Whether the policy is in force by now."""
    pod = {"containers": [{"name": "a", "image": "a", "env": [{"name": "A", "value": "told"}]}]}
    body: dict[str, Any] = {"metadata": {"name": "probe"}, "spec": pod}
    root = "/api/v1"
    if resource == "sandboxes":
        root = f"/apis/{V1BETA1}"
        body |= {"apiVersion": V1BETA1, "kind": "Sandbox", "spec": {"podTemplate": {"spec": pod}}}
    path = f"{root}/namespaces/{world.namespace}/{resource}"
    try:
        world.kube.api("POST", path, body, query={"dryRun": "All"})
    except ApiError as error:
        return "no: told" in str(error)
    return False


@pytest.mark.parametrize("reason", ["Forbidden", "Invalid", "RequestEntityTooLarge"])
async def test_a_policy_that_denies_the_sandbox_is_named(
    world: World, socket_path: Path, heard: Listener, reason: str
) -> None:
    async with denying(world, reason) as policy, world.caller(socket_path) as caller:
        message = await heard.refused(caller.compute.create_sandbox)
        assert f"namespace {world.namespace} takes no sandbox" in message
        assert policy in message
    assert world.sandboxes() == []
    assert world.objects("secrets") == []


async def test_a_policy_that_denies_the_pod_is_told_without_values(
    world: World, socket_path: Path, heard: Listener
) -> None:
    async with denying(world, "Forbidden", "pods"), world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(ONE)
        seen = await heard.until(caller, lambda each: said(each)[1] == "ReconcilerError")
        assert said(seen)[2] == "the sandbox controller reports an error"
        (condition,) = [
            each for each in world.only_sandbox()["status"]["conditions"] if each["type"] == "Ready"
        ]
        assert CANARY in condition["message"]  # so there was something to be kept


# Names that are taken.


async def test_a_name_that_is_taken(world: World, socket_path: Path, heard: Listener) -> None:
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(ONE)
        before = world.only_sandbox()["metadata"]
        create = caller.compute.create_sandbox
        await heard.refused(create, replace(ONE, id="id-2"), AlreadyExists)
        await heard.refused(create, ONE, AlreadyExists)
        assert world.only_sandbox()["metadata"]["uid"] == before["uid"]
        assert {each["metadata"]["name"] for each in world.objects("secrets")} == {
            "team--one-supervisor",
            "team--one-public",
        }


async def test_a_name_that_somebody_elses_resource_has(
    world: World, socket_path: Path, heard: Listener
) -> None:
    pod = {"containers": [{"name": "a", "image": "example.org/base:1"}]}
    body = {
        "apiVersion": V1BETA1,
        "kind": "Sandbox",
        "metadata": {"name": "team--one"},
        "spec": {"podTemplate": {"spec": pod}},
    }
    path = f"/apis/{V1BETA1}/namespaces/{world.namespace}/sandboxes"
    theirs = world.kube.api("POST", path, body)["metadata"]
    async with world.caller(socket_path) as caller:
        await heard.refused(caller.compute.create_sandbox, ONE, AlreadyExists)
        assert not await caller.compute.delete_sandbox(ONE.ref)
        assert await caller.compute.list_sandboxes() == ()
    after = world.only_sandbox()["metadata"]
    assert (after["uid"], "deletionTimestamp" in after) == (theirs["uid"], False)


# Claims of somebody else.


def make_claim(world: World, labels: dict[str, str]) -> None:
    """Make a claim that the request wants to attach."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    path = f"/api/v1/namespaces/{world.namespace}/persistentvolumeclaims"
    world.kube.api("POST", path, {"metadata": {"name": "pvc-data", "labels": labels}, "spec": spec})


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({}, "openshell.ai/sandbox-attachable"),
        ({**ATTACHABLE, "openshell.ai/sandbox-attachable": "false"}, "sandbox-attachable"),
        (
            {**ATTACHABLE, "openshell.ai/sandbox-attachable-workspace": "other"},
            "openshell.ai/sandbox-attachable-workspace",
        ),
        (None, "there is no claim pvc-data"),
    ],
    ids=["no labels", "not attachable", "another workspace's", "missing"],
)
async def test_a_claim_that_may_not_be_attached(
    world: World, socket_path: Path, heard: Listener, labels: dict[str, str] | None, why: str
) -> None:
    if labels is not None:
        make_claim(world, labels)
    spec = wish(driver_config=claim())
    async with world.caller(socket_path, allow_driver_config=True) as caller:
        for ask in (caller.compute.validate_sandbox_create, caller.compute.create_sandbox):
            message = await heard.refused(ask, replace(spec, sandbox_token=None))
            assert why in message
            assert "pvc-data" in message
    assert world.sandboxes() == []


async def test_a_claim_whose_leave_was_withdrawn_is_not_attached_by_a_start(
    world: World, socket_path: Path, heard: Listener
) -> None:
    make_claim(world, ATTACHABLE)
    spec = replace(wish(driver_config=claim()), sandbox_token=None)
    async with world.caller(socket_path, allow_driver_config=True) as caller:
        await caller.compute.create_sandbox(spec)
        labels = dict.fromkeys(ATTACHABLE)
        world.patch("persistentvolumeclaims", "pvc-data", {"metadata": {"labels": labels}})
        await caller.compute.start_sandbox(spec.ref)  # it runs (COMP-START-01)
        await caller.compute.stop_sandbox(spec.ref)
        with pytest.raises(FailedPrecondition, match="claim pvc-data lacks the label"):
            await caller.compute.start_sandbox(spec.ref)
        assert world.only_sandbox()["spec"]["operatingMode"] == "Suspended"
        world.patch("persistentvolumeclaims", "pvc-data", {"metadata": {"labels": ATTACHABLE}})
        await caller.compute.start_sandbox(spec.ref)
        assert world.only_sandbox()["spec"]["operatingMode"] == "Running"


async def test_a_claim_needs_a_workspace(world: World, socket_path: Path, heard: Listener) -> None:
    make_claim(world, ATTACHABLE)
    spec = replace(wish(driver_config=claim()), workspace="")
    async with world.caller(socket_path, allow_driver_config=True) as caller:
        message = await heard.refused(caller.compute.create_sandbox, spec)
        assert "only a sandbox of a workspace may attach it" in message


async def test_any_claim_may_be_attached_without_admission(
    world: World, socket_path: Path, heard: Listener
) -> None:
    make_claim(world, {})
    async with world.caller(
        socket_path, allow_driver_config=True, admission_enabled=False
    ) as caller:
        await caller.compute.create_sandbox(wish(driver_config=claim()))
        await heard.until(caller, lambda each: said(each)[0] == "True")


async def test_a_driver_config_without_leave(
    world: World, socket_path: Path, heard: Listener
) -> None:
    make_claim(world, ATTACHABLE)
    async with world.caller(socket_path) as caller:
        await heard.refused(caller.compute.create_sandbox, wish(driver_config=claim()))
    assert world.sandboxes() == []


# GPUs.


async def test_more_gpus_than_any_node_has(
    world: World, socket_path: Path, heard: Listener
) -> None:
    async with world.caller(socket_path) as caller:
        spec = replace(ONE, gpu=GpuRequest(count=9))
        message = await heard.refused(caller.compute.create_sandbox, spec)
        assert message == "no node has 9 of nvidia.com/gpu; the most is 4"


async def test_more_gpus_than_are_free_wait(
    world: World, socket_path: Path, heard: Listener
) -> None:
    """Without the check they are created, and the scheduler tells what is missing."""
    async with world.caller(socket_path, check_gpu_capacity=False) as caller:
        await caller.compute.create_sandbox(replace(ONE, gpu=GpuRequest(count=9)))
        seen = await heard.until(caller, lambda each: "Unschedulable" in said(each)[2])
        assert "Insufficient nvidia.com/gpu" in said(seen)[2]


# Rights.


async def test_an_account_without_rights(world: World, socket_path: Path, heard: Listener) -> None:
    token = world.kube.service_account_token(world.namespace, "default")
    kubeconfig = world.kube.kubeconfig_for(token=token)
    async with world.caller(socket_path, kubeconfig=kubeconfig) as caller:
        message = await heard.refused(caller.compute.create_sandbox, kind=DriverError)
        assert "RBAC" in message
    assert world.sandboxes() == []


async def test_a_kubeconfig_that_impersonates_does_not_have_more_rights(
    world: World, socket_path: Path, heard: Listener
) -> None:
    account = f"system:serviceaccount:{world.namespace}:default"
    kubeconfig = world.kube.kubeconfig_for(user=account)
    async with world.caller(socket_path, kubeconfig=kubeconfig) as caller:
        with suppress(DriverError):
            await caller.compute.create_sandbox(ONE)
    assert world.sandboxes() == []
