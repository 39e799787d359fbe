"""What a resource and its pod show, in the words every gateway reads alike."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openshell_compute_k8s._objects import Pod, Sandbox
from openshell_compute_k8s._seen import Seen, SeenPod, observe, read_pod, read_sandbox

NAMED = {
    "openshell.ai/sandbox-id": "id",
    "openshell.ai/sandbox-name": "name",
    "openshell.ai/sandbox-workspace": "default",
}
POD_OF = [{"kind": "Sandbox", "name": "default--name", "uid": "u", "controller": True}]


def condition(kind: str, status: str, reason: str = "R", at: int = 2, text: str = "") -> Any:
    """One condition, about a generation."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": text,
        "observedGeneration": at,
        "lastTransitionTime": "2026-11-22T10:00:00Z",
    }


def sandbox(*conditions: Any, mode: str = "Running", **about: Any) -> Seen:
    """A resource in its second generation."""
    metadata = {"name": "default--name", "namespace": "ns", "uid": "u", "generation": 2}
    item = {
        "metadata": {**metadata, "annotations": NAMED, **about},
        "spec": {"operatingMode": mode, "podTemplate": {"spec": {"containers": []}}},
        "status": {"conditions": list(conditions)},
    }
    seen = read_sandbox(msgspec.json.decode(msgspec.json.encode(item), type=Sandbox))
    assert seen is not None
    return seen


def pod(phase: str = "Running", *, state: Any = None, **about: Any) -> SeenPod:
    """Its pod."""
    item = {
        "metadata": {"name": "p", "uid": "pod-u", "ownerReferences": POD_OF, **about},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": "agent", "state": state or {"running": {}}}],
        },
    }
    found = read_pod(msgspec.json.decode(msgspec.json.encode(item), type=Pod))
    assert found is not None
    return found


def kind(seen: Seen, of: SeenPod | None = None, *, given_up: bool = False) -> str:
    """The state's kind."""
    return observe(seen, of, given_up=given_up, pods_known=True).state.kind


READY = condition("Ready", "True", "DependenciesReady")
WAITING = condition("Ready", "False", "DependenciesNotReady", text="Pod exists")


@pytest.mark.parametrize(
    ("seen", "of", "expected"),
    [
        (sandbox(), None, "starting"),
        (sandbox(READY), pod(), "ready"),
        (sandbox(WAITING), pod("Pending"), "transient"),
        (sandbox(condition("Ready", "True", at=1)), pod(), "starting"),
        (sandbox(condition("Ready", "Unknown")), pod(), "unknown"),
        (sandbox(condition("Ready", "False", "SandboxExpired")), None, "failed"),
        (sandbox(condition("Ready", "False", "SomethingNew")), pod(), "transient"),
        (sandbox(condition("Ready", "False", "MultiplePods")), pod(), "transient"),
        (sandbox(READY, deletionTimestamp="2026-11-22T10:00:00Z"), pod(), "deleting"),
        (sandbox(READY, mode="Suspended"), pod(), "stopping"),
        (sandbox(condition("Suspended", "True"), mode="Suspended"), None, "stopped"),
        (sandbox(condition("Suspended", "True"), mode="Suspended"), pod(), "stopping"),
        (sandbox(condition("Suspended", "True", at=1), mode="Suspended"), None, "stopping"),
        (sandbox(condition("Suspended", "False"), mode="Suspended"), None, "stopping"),
        (sandbox(condition("Suspended", "True")), None, "starting"),
        (sandbox(condition("Suspended", "True", at=1), READY), pod(), "ready"),
        (sandbox(READY), pod("Succeeded"), "exited"),
        (sandbox(READY), pod("Failed"), "exited"),
        (sandbox(condition("Finished", "True", "PodFailed")), None, "exited"),
        (sandbox(condition("Finished", "True", at=1), WAITING), None, "transient"),
        (sandbox(READY), pod(deletionTimestamp="2026-11-22T10:00:00Z"), "starting"),
        (
            sandbox(WAITING),
            pod("Pending", state={"waiting": {"reason": "InvalidImageName"}}),
            "failed",
        ),
        (
            sandbox(WAITING),
            pod("Pending", state={"waiting": {"reason": "ImagePullBackOff"}}),
            "transient",
        ),
    ],
)
def test_every_state(seen: Seen, of: SeenPod | None, expected: str) -> None:
    assert kind(seen, of) == expected


def test_an_image_that_could_not_be_pulled_for_too_long_is_a_failure() -> None:
    pulling = pod("Pending", state={"waiting": {"reason": "ImagePullBackOff"}})
    assert kind(sandbox(WAITING), pulling, given_up=True) == "failed"


def test_an_old_controller_that_knows_no_suspended_condition_is_believed_by_the_pod() -> None:
    suspended = sandbox(condition("Ready", "False", "DependenciesNotReady"), mode="Suspended")
    assert observe(suspended, None, given_up=False, pods_known=True).state.kind == "stopped"
    assert observe(suspended, None, given_up=False, pods_known=False).state.kind == "stopping"


def test_replicas_say_the_same_in_v1alpha1() -> None:
    item = {"metadata": {"annotations": NAMED, "uid": "u"}, "spec": {"replicas": 0}}
    seen = read_sandbox(msgspec.convert(item, Sandbox))
    assert seen is not None
    assert not seen.wanted


def test_the_time_of_ready_is_the_controllers() -> None:
    since = observe(sandbox(READY), pod(), given_up=False, pods_known=True).state.since
    assert since is not None
    assert since.isoformat() == "2026-11-22T10:00:00+00:00"


def test_the_schedulers_word_is_told_and_the_controllers_errors_are_not() -> None:
    waiting = sandbox(WAITING, condition("PodScheduled", "False", "Unschedulable", text="no gpu"))
    assert observe(waiting, None, given_up=False, pods_known=True).state.message == (
        "Unschedulable: no gpu"
    )
    text = 'Error seen: pods "x" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2'
    for message, expected in (
        (text, "exceeded quota: few, requested: pods=1, used: pods=2"),
        ("Error seen: canary", "the sandbox controller reports an error"),
    ):
        broken = sandbox(condition("Ready", "False", "ReconcilerError", text=message))
        state = observe(broken, None, given_up=False, pods_known=True).state
        assert (state.kind, state.message) == ("transient", expected)


def test_the_pod_is_the_instance_and_its_end_is_told_with_the_code() -> None:
    ended = pod("Failed", state={"terminated": {"exitCode": 7}})
    observed = observe(sandbox(READY), ended, given_up=False, pods_known=True)
    assert observed.instance_id == "pod-u"
    assert observed.state.message == "the main process has ended with code 7"


def test_what_bears_no_id_is_nobodys() -> None:
    assert read_sandbox(msgspec.convert({"metadata": {"name": "a", "uid": "u"}}, Sandbox)) is None
    assert read_pod(msgspec.convert({"metadata": {"name": "a", "uid": "u"}}, Pod)) is None
