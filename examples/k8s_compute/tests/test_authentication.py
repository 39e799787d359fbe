"""Whose token it is: only a pod that the sandbox's controller has made proves to be the sandbox."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final

import pytest
from openshell_compute_k8s import KubernetesConfig
from openshell_compute_k8s._names import own_labels

from examples.k8s_compute.tests.scripted import SANDBOXES, Answer, Script, driver_of
from examples.k8s_compute.tests.world import V1BETA1, World, eventually
from openshell_drivers import (
    DriverError,
    FailedPrecondition,
    PermissionDenied,
    SandboxSpec,
    Secret,
    Unauthenticated,
    Unavailable,
)
from openshell_drivers.client import Connection

TOKEN: Final = Secret("canary.canary.canary")
REVIEWS: Final = "POST /apis/authentication.k8s.io/v1/tokenreviews"
PODS: Final = "GET /api/v1/namespaces/ns/pods"
ONE: Final = SandboxSpec(id="one", name="one", workspace="w")
REFUSED: Final = (PermissionDenied, Unauthenticated)


def reviewed(
    account: str = "openshell-sandbox", pod: str = "w--one", namespace: str = "ns"
) -> Answer:
    """A token of a pod."""
    bound = {
        "authentication.kubernetes.io/pod-name": [pod],
        "authentication.kubernetes.io/pod-uid": ["p"],
    }
    user = {"username": f"system:serviceaccount:{namespace}:{account}", "extra": bound}
    return {
        "status": {"authenticated": True, "audiences": ["openshell-gateway"], "user": user},
    }


def pod(name: str = "w--one", **owner: Any) -> Answer:
    """A pod as the controller makes it; `owner` changes its reference."""
    reference = {
        "apiVersion": V1BETA1,
        "kind": "Sandbox",
        "name": "w--one",
        "uid": "s",
        "controller": True,
        **owner,
    }
    return {"metadata": {"name": name, "uid": "p", "ownerReferences": [reference]}}


def sandbox(account: str | None = "openshell-sandbox", **annotations: str) -> Answer:
    """A sandbox as the driver makes it; `annotations` are added."""
    labels = own_labels(ONE, KubernetesConfig())
    notes = {"openshell.ai/sandbox-id": "one", "openshell.ai/sandbox-workspace": "w", **annotations}
    template = {"serviceAccountName": account} if account is not None else {}
    return {
        "metadata": {
            "name": "w--one",
            "namespace": "ns",
            "uid": "s",
            "labels": labels,
            "annotations": notes,
        },
        "spec": {"podTemplate": {"spec": {**template, "containers": []}}},
    }


def labelled(**labels: str | None) -> Answer:
    """A sandbox with other labels of OpenShell's: changed, added, or (None) taken off."""
    made = copy.deepcopy(sandbox())
    for key, value in labels.items():
        name = f"openshell.ai/{key.replace('_', '-')}"
        if value is None:
            del made["metadata"]["labels"][name]
        else:
            made["metadata"]["labels"][name] = value
    return made


def script(review: Answer, of_pod: Answer, of_sandbox: Answer) -> Script:
    """Have an API server that knows these."""
    told = Script()
    told.on(REVIEWS, review)
    told.on(f"{PODS}/{of_pod.get('metadata', {}).get('name', 'w--one')}", of_pod)
    told.on(f"GET {SANDBOXES}/w--one", of_sandbox)
    return told


async def ask(told: Script, folder: Path, **changes: Any) -> tuple[str, str]:
    """Authenticate, and give the id and the runtime identity."""
    async with driver_of(told, folder, **changes) as driver:
        try:
            found = await driver.authenticate_sandbox(TOKEN)
        except DriverError as error:
            refusal = error
        else:
            return found.sandbox_id, found.runtime_identity
    assert "canary" not in f"{refusal!r} {refusal}"
    raise refusal


@pytest.mark.parametrize(
    ("review", "of_pod", "of_sandbox"),
    [
        (reviewed(), pod(), sandbox()),
        (reviewed(), pod(apiVersion="agents.x-k8s.io/v1alpha1"), sandbox()),
        (reviewed(pod="warm"), pod("warm"), sandbox(**{"agents.x-k8s.io/pod-name": "warm"})),
        (reviewed(), pod(), sandbox(**{"agents.x-k8s.io/pod-name": ""})),
        (reviewed("earlier"), pod(), sandbox("earlier")),
        (reviewed("default"), pod(), sandbox(None)),
        (reviewed("default"), pod(), sandbox("")),
        (reviewed(), pod(), labelled(gateway_id="somebody")),
    ],
    ids=[
        "as ever",
        "the older version",
        "a pod from a pool",
        "no name of a pod",
        "made with another setting",
        "no account",
        "an empty account",
        "any gateway's, where none is configured",
    ],
)
async def test_the_sandboxs_own_pod_proves_to_be_it(
    short_dir: Path, review: Answer, of_pod: Answer, of_sandbox: Answer
) -> None:
    assert await ask(script(review, of_pod, of_sandbox), short_dir) == ("one", "k8s:ns:s")


@pytest.mark.parametrize(
    ("review", "of_pod", "of_sandbox"),
    [
        (reviewed(pod="other"), pod("other"), sandbox()),
        (reviewed(), pod(), sandbox(**{"agents.x-k8s.io/pod-name": "warm"})),
        (reviewed("default"), pod(), sandbox()),
        (reviewed("openshell-sandbox"), pod(), sandbox(None)),
        (reviewed(), pod(apiVersion="example.org/v1"), sandbox()),
        (reviewed(), pod(apiVersion="v1"), sandbox()),
        (reviewed(), pod(apiVersion="agents.x-k8s.io"), sandbox()),
        (reviewed(), pod(apiVersion="agents.x-k8s.io.example.org/v1"), sandbox()),
        (reviewed(), pod(kind="SandboxClaim"), sandbox()),
        (reviewed(), pod(controller=False), sandbox()),
        (reviewed(), pod(uid="earlier"), sandbox()),
        (reviewed(), pod(), labelled(managed_by=None)),
        (reviewed(), pod(), labelled(managed_by="somebody")),
        (reviewed(), pod(), labelled(sandbox_id=None)),
        (reviewed(), pod(), labelled(unfinished="true")),
        (reviewed(), pod(), labelled(unfinished="")),
        (reviewed("openshell-sandbox", namespace="other"), pod(), sandbox()),
    ],
    ids=[
        "another name",
        "the name of the sandbox where the pod has another",
        "another account",
        "an account where there is none",
        "another group",
        "the core group",
        "a group without version",
        "a group that begins like it",
        "another kind",
        "an owner that does not control",
        "a predecessor",
        "not managed",
        "managed by somebody else",
        "no id in the labels",
        "unfinished",
        "unfinished, whatever the value",
        "another namespace",
    ],
)
async def test_any_other_pod_proves_nothing(
    short_dir: Path, review: Answer, of_pod: Answer, of_sandbox: Answer
) -> None:
    with pytest.raises(REFUSED):
        await ask(script(review, of_pod, of_sandbox), short_dir)


@pytest.mark.parametrize("label", [None, "theirs"])
async def test_a_sandbox_of_another_gateway_proves_nothing(
    short_dir: Path, label: str | None
) -> None:
    made = labelled(gateway_id="ours") if label is None else labelled(gateway_id=label)
    if label is None:
        del made["metadata"]["labels"]["openshell.ai/gateway-id"]
    with pytest.raises(PermissionDenied):
        await ask(script(reviewed(), pod(), made), short_dir, gateway_id="ours")


@pytest.mark.parametrize(
    ("workspace", "mode"), [("", "managed"), ("", "operator"), ("No Label", "operator")]
)
async def test_a_workspace_that_has_no_namespace_is_a_refusal_of_the_credential(
    short_dir: Path, workspace: str, mode: str
) -> None:
    made = sandbox(**{"openshell.ai/sandbox-workspace": workspace})
    made["metadata"]["labels"]["openshell.ai/gateway-id"] = "ours"
    rules = {"mode": mode, "prefix": "ns", "allow": ["ns"]}
    told = script(reviewed(), pod(), made)
    with pytest.raises(PermissionDenied):
        await ask(told, short_dir, gateway_id="ours", workspaces=rules)


FORBIDDEN: Final = {"code": 403, "reason": "Forbidden", "message": "cannot get resource canary"}


@pytest.mark.parametrize(
    ("review", "of_pod", "of_sandbox", "said"),
    [
        (FORBIDDEN, pod(), sandbox(), "may not create TokenReviews .RBAC."),
        (reviewed(), FORBIDDEN, sandbox(), "may not read the pod or sandbox .* .RBAC."),
        (reviewed(), pod(), FORBIDDEN, "may not read the pod or sandbox .* .RBAC."),
    ],
    ids=["the review", "the pod", "the sandbox"],
)
async def test_a_right_that_the_driver_lacks_is_its_own_trouble_and_not_the_sandboxs(
    short_dir: Path, review: Answer, of_pod: Answer, of_sandbox: Answer, said: str
) -> None:
    with pytest.raises(FailedPrecondition, match=said):
        await ask(script(review, of_pod, of_sandbox), short_dir)


async def test_of_a_namespace_that_is_not_the_drivers_nothing_is_read(short_dir: Path) -> None:
    """It may not, and a foreign credential is no trouble of the driver's (COMP01-AUTH-02)."""
    told = Script()
    told.on(REVIEWS, reviewed(namespace="theirs"))
    told.on("GET /api/v1/namespaces/theirs/pods/w--one", FORBIDDEN)
    with pytest.raises(PermissionDenied):
        await ask(told, short_dir)
    assert told.lines() == [REVIEWS]


@pytest.mark.parametrize(
    ("of_pod", "of_sandbox"), [(FORBIDDEN, sandbox()), (pod(), FORBIDDEN)], ids=["pod", "sandbox"]
)
async def test_a_namespace_that_an_operator_has_not_opened_has_no_sandboxes(
    short_dir: Path, of_pod: Answer, of_sandbox: Answer
) -> None:
    told = script(reviewed(), of_pod, of_sandbox)
    rules = {"mode": "operator", "allow": ["other"]}
    with pytest.raises(PermissionDenied):
        await ask(told, short_dir, gateway_id="ours", workspaces=rules)


@pytest.mark.parametrize("code", [401, 500])
async def test_an_api_server_that_does_not_serve_is_no_refusal(short_dir: Path, code: int) -> None:
    told = script({"code": code}, pod(), sandbox())
    with pytest.raises(Unavailable):
        await ask(told, short_dir)


async def test_a_version_that_is_not_served_any_more_is_no_refusal(short_dir: Path) -> None:
    missing = {"code": 404, "reason": "NotFound", "details": {}}
    with pytest.raises(Unavailable):
        await ask(script(reviewed(), pod(), missing), short_dir)
    gone = {"code": 404, "reason": "NotFound", "details": {"name": "w--one", "kind": "sandboxes"}}
    with pytest.raises(PermissionDenied):
        await ask(script(reviewed(), pod(), gone), short_dir)


# On a real cluster.

AUDIENCE: Final = ["openshell-gateway"]


def forge(world: World, name: str, owner: Answer, account: str = "openshell-sandbox") -> Secret:
    """Make a pod that says that the sandbox owns it, and give its token."""
    reference = {key: owner[key] for key in ("name", "uid")}
    reference |= {"apiVersion": V1BETA1, "kind": "Sandbox"}
    spec = {"serviceAccountName": account, "containers": [{"name": "a", "image": "a"}]}
    metadata = {"name": name, "ownerReferences": [{**reference, "controller": True}]}
    path = f"/api/v1/namespaces/{world.namespace}/pods"
    world.kube.api("POST", path, {"metadata": metadata, "spec": spec})
    return token_of(world, name, account)


def token_of(world: World, name: str, account: str = "openshell-sandbox") -> Secret:
    """Give a token that is bound to a pod."""
    return Secret(
        world.kube.service_account_token(world.namespace, account, audiences=AUDIENCE, pod=name)
    )


async def denied(caller: Connection, token: Secret) -> None:
    with pytest.raises(PermissionDenied):
        await caller.compute.authenticate_sandbox(token)


@pytest.mark.kube
@pytest.mark.parametrize("version", ["v1beta1", "v1alpha1"])
async def test_a_pod_that_only_says_so_does_not_become_a_sandbox(
    world: World, socket_path: Path, version: str
) -> None:
    async with world.caller(socket_path, api_version=version) as caller:
        identity = await caller.compute.create_sandbox(ONE)
        assert await eventually(lambda: len(world.objects("pods")) == 1)
        about = world.only_sandbox()["metadata"]
        found = await caller.compute.authenticate_sandbox(token_of(world, "w--one"))
        assert (found.sandbox_id, found.runtime_identity) == ("one", identity)
        for account in ("openshell-sandbox", "default"):
            await denied(caller, forge(world, f"forged-{account}", about, account))


@pytest.mark.kube
async def test_a_sandbox_that_was_taken_over_proves_itself(world: World, socket_path: Path) -> None:
    async with world.caller(socket_path) as caller:
        await caller.compute.create_sandbox(ONE)
        assert await eventually(lambda: len(world.objects("pods")) == 1)
    changes = {"gateway_id": "ours", "adopt_unlabelled": True}
    async with world.caller(socket_path, **changes) as caller:
        mark = "openshell.ai/gateway-id=ours"
        assert await eventually(lambda: len(world.sandboxes(mark)) == 1)
        found = await caller.compute.authenticate_sandbox(token_of(world, "w--one"))
        assert found.sandbox_id == "one"
