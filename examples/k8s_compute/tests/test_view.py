"""What is seen, told in the order and at the times at which it is true."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

import anyio
import msgspec
import pytest
from openshell_compute_k8s._names import ATTEMPT
from openshell_compute_k8s._objects import ObjectReference, Pod, Sandbox
from openshell_compute_k8s._seen import read_sandbox
from openshell_compute_k8s._sinks import PodSink, SandboxSink
from openshell_compute_k8s._strays import Strays
from openshell_compute_k8s._view import View

from openshell_drivers import ObservedSandbox, PermissionDenied, SandboxFeed, Unavailable

AWAY: Final = Unavailable("away")


class Told(SandboxFeed):
    """A feed that writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def replace(self, sandboxes: Iterable[ObservedSandbox]) -> None:
        self.lines.append("all " + " ".join(f"{each.id}:{each.state.kind}" for each in sandboxes))

    def update(self, sandbox: ObservedSandbox) -> None:
        self.lines.append(f"{sandbox.id}:{sandbox.state.kind}")

    def delete(self, sandbox_id: str) -> None:
        self.lines.append(f"{sandbox_id} gone")

    def blind(self, reason: str = "") -> None:
        self.lines.append(f"blind {reason}")

    def take(self) -> list[str]:
        """Give what was told since the last time."""
        lines, self.lines = self.lines, []
        return lines


def sandbox(uid: str, of: str = "one", **about: Any) -> Sandbox:
    """A resource."""
    notes = {"openshell.ai/sandbox-id": of, "openshell.ai/sandbox-name": of}
    metadata = {"name": f"w--{of}", "namespace": "ns", "uid": uid, "annotations": notes, **about}
    return msgspec.convert({"metadata": metadata, "spec": {"operatingMode": "Running"}}, Sandbox)


def pod(uid: str, owner: str, phase: str = "Running", waiting: str = "", init: str = "") -> Pod:
    """A pod of a resource: its container and one before it, waiting for these reasons."""
    owners = [{"kind": "Sandbox", "name": "w--one", "uid": owner, "controller": True}]
    status = {
        "phase": phase,
        "initContainerStatuses": [{"name": "init", "state": waits(init)}],
        "containerStatuses": [{"name": "agent", "state": waits(waiting)}],
    }
    about = {"name": "w--one", "uid": uid, "ownerReferences": owners if owner else []}
    return msgspec.convert({"metadata": about, "status": status}, Pod)


def waits(reason: str) -> dict[str, Any]:
    """The state of a container."""
    return {"waiting": {"reason": reason}} if reason else {}


class Watched(View):
    """A view, and what the watches put into it."""

    def __init__(self) -> None:
        super().__init__(pull_patience=0)
        self.strays = Strays(longest=60)
        self.sandboxes = SandboxSink(self, self.strays)
        self.pods = PodSink(self)


def about(name: str, uid: str = "", namespace: str = "ns") -> ObjectReference:
    """What an event says that it is about."""
    return ObjectReference(name=name, uid=uid, namespace=namespace)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def view(told: Told) -> Watched:
    """A view that tells the feed, and knows nothing."""
    made = Watched()
    made.begin(told)
    return made


def see(view: Watched, *sandboxes: Sandbox) -> None:
    """List and watch."""
    view.sandboxes.replaced(sandboxes)
    view.sandboxes.resumed()


def test_a_list_is_no_sight_before_the_watch_stands(view: Watched, told: Told) -> None:
    view.sandboxes.replaced([sandbox("a")])
    assert told.take() == []
    view.sandboxes.resumed()
    assert told.take() == ["all one:starting"]


def test_nothing_is_told_while_blind_and_everything_afterwards(view: Watched, told: Told) -> None:
    see(view, sandbox("a"), sandbox("b", "two"))
    told.take()
    view.lost("pulse", AWAY)
    view.sandboxes.deleted(sandbox("a"))
    view.sandboxes.lost(AWAY)
    view.regained("pulse")
    assert told.take() == ["blind away", "blind away"]
    view.sandboxes.resumed()
    assert told.take() == ["all two:starting"]


def test_what_a_new_list_lacks_is_gone(view: Watched, told: Told) -> None:
    see(view, sandbox("a"), sandbox("b", "two"))
    told.take()
    view.sandboxes.replaced([sandbox("b", "two")])
    assert told.take() == ["all two:starting"]
    assert view.find("one") is None


def test_a_pod_may_come_before_its_sandbox(view: Watched, told: Told) -> None:
    see(view)
    view.pods.changed(pod("p", "a", "Failed"))
    view.sandboxes.changed(sandbox("a"))
    assert told.take() == ["all ", "one:exited"]


def test_of_two_with_an_id_the_one_that_stays_is_told(view: Watched, told: Told) -> None:
    see(view, sandbox("a", deletionTimestamp="2026-11-22T10:00:00Z"))
    view.sandboxes.changed(sandbox("b"))
    view.sandboxes.deleted(sandbox("a"))
    assert told.take() == ["all one:deleting", "one:starting", "one:starting"]
    view.sandboxes.deleted(sandbox("b"))
    assert told.take() == ["one gone"]


def test_the_pod_of_another_run_does_not_go_with_the_first(view: Watched, told: Told) -> None:
    see(view, sandbox("a"))
    view.pods.changed(pod("p", "a", "Failed"))
    view.pods.changed(pod("q", "a"))
    view.pods.deleted(pod("p", "a", "Failed"))
    assert told.take() == ["all one:starting", "one:exited", "one:starting"]


def test_an_image_that_is_not_pulled_in_time_is_a_failure(view: Watched, told: Told) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([])
    view.pods.changed(pod("p", "a", "Pending", "ImagePullBackOff"))
    view.lapse()
    assert told.take()[-1] == "one:failed"
    view.pods.changed(pod("p", "a", "Running"))
    assert told.take() == ["one:starting"]


def test_an_image_that_was_pulled_at_last_is_no_failure(view: Watched, told: Told) -> None:
    """Another container may then wait for its own, however long."""
    see(view, sandbox("a"))
    view.pods.replaced([])
    view.pods.changed(pod("p", "a", "Pending", "PodInitializing", init="ErrImagePull"))
    view.pods.changed(pod("p", "a", "Pending", "PodInitializing", init=""))
    told.take()
    view.lapse()
    assert told.take() == []


def test_between_two_tries_an_image_is_in_trouble_still(view: Watched, told: Told) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([])
    view.pods.changed(pod("p", "a", "Pending", "ErrImagePull"))
    view.pods.changed(pod("p", "a", "Pending", "ContainerCreating"))
    told.take()
    view.lapse()
    assert told.take() == ["one:failed"]
    view.pods.changed(pod("q", "a", "Pending", "ContainerCreating"))
    assert told.take() == ["one:starting"]


def test_a_sandbox_is_not_gone_before_its_pod(view: Watched, told: Told) -> None:
    """A delete in the background takes the resource away at once, and the pod later."""
    see(view, sandbox("a"))
    view.pods.replaced([pod("p", "a")])
    told.take()
    view.sandboxes.deleted(sandbox("a"))
    view.pods.changed(pod("p", "a"))
    assert set(told.take()) == {"one:deleting"}
    view.pods.deleted(pod("p", "a"))
    assert told.take() == ["one gone"]


def test_a_sandbox_that_a_list_lacks_is_not_gone_before_its_pod(view: Watched, told: Told) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([pod("p", "a")])
    told.take()
    view.sandboxes.replaced([])
    assert told.take() == ["all one:deleting"]
    view.pods.replaced([])
    assert told.take() == ["one gone", "all "]


@pytest.mark.parametrize("how", ["orphaned", "forbidden"])
def test_a_sandbox_whose_pod_is_nobodys_or_unseen_is_gone(
    view: Watched, told: Told, how: str
) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([pod("p", "a")])
    view.sandboxes.deleted(sandbox("a"))
    told.take()
    if how == "orphaned":
        view.pods.changed(pod("p", ""))
        assert told.take() == ["one gone"]
    else:
        view.pods.lost(PermissionDenied("no"))
        assert told.take() == ["one gone", "all "]


def test_events_of_what_had_the_name_before_are_nobodys(view: Watched) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([pod("p", "a")])
    view.sandboxes.deleted(sandbox("a"))
    view.pods.deleted(pod("p", "a"))
    view.sandboxes.changed(sandbox("b", "two", name="w--one"))
    assert view.of_object(about("w--one", "a")) is None
    assert view.of_object(about("w--one", "p")) is None
    for uid in ("b", "q", ""):
        found = view.of_object(about("w--one", uid))
        assert found is not None
        assert found.id == "two"


def test_a_sandbox_whose_pods_are_not_seen_for_a_minute_is_gone_without_them(
    view: Watched, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([pod("p", "a")])
    view.pods.lost(AWAY)
    view.sandboxes.deleted(sandbox("a"))
    told.take()
    view.lapse()
    assert told.take() == []
    now = time.monotonic()
    monkeypatch.setattr("openshell_compute_k8s._view.time.monotonic", lambda: now + 61)
    view.lapse()
    assert told.take() == ["one gone", "all "]
    view.lapse()
    assert told.take() == []


def test_what_changed_while_pods_were_not_seen_is_told_when_they_are(
    view: Watched, told: Told
) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([pod("p", "a")])
    view.pods.resumed()
    told.take()
    view.pods.lost(AWAY)
    view.pods.resumed()
    assert told.take() == ["all one:starting"]
    view.pods.resumed()
    assert told.take() == []


def test_what_is_back_is_as_it_was(view: Watched, told: Told) -> None:
    """A label that is put back brings the same object again."""
    see(view, sandbox("a"))
    view.pods.replaced([pod("p", "a")])
    view.sandboxes.deleted(sandbox("a"))
    view.pods.deleted(pod("p", "a"))
    told.take()
    view.sandboxes.changed(sandbox("a"))
    view.pods.changed(pod("p", "a"))
    assert told.take() == ["one:starting", "one:starting"]
    for uid in ("a", "p"):
        assert view.of_object(about("w--one", uid)) is not None


def test_each_container_has_its_own_time_for_its_image(view: Watched, told: Told) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([])
    view._patience = 60
    clock = view._pulling_badly
    view.pods.changed(pod("p", "a", "Pending", "ErrImagePull", init="ErrImagePull"))
    first = dict(clock["a"])
    assert set(first) == {"init", "agent"}
    view.pods.changed(pod("p", "a", "Pending", "ErrImagePull", init="PodInitializing"))
    view.pods.changed(pod("p", "a", "Pending", "ContainerCreating", init="ErrImagePull"))
    assert clock["a"] == first
    view.pods.changed(pod("p", "a", "Pending", "CreateContainerError"))
    assert clock == {}


def test_what_becomes_a_stray_after_it_was_seen_is_forgotten_without_a_word(
    view: Watched, told: Told
) -> None:
    made = sandbox("a", annotations={"openshell.ai/sandbox-id": "one", ATTEMPT: "this"})
    see(view, made)
    told.take()
    view.strays.disown("this")
    view.sandboxes.changed(made)
    assert told.take() == []
    assert view.find("one") is None
    view.tell_all()
    assert told.take() == ["all "]


def test_what_was_deleted_before_its_creates_answer_was_not_made(view: Watched) -> None:
    see(view)
    seen = read_sandbox(sandbox("a"))
    assert seen is not None
    assert view.made(seen)
    view.sandboxes.deleted(sandbox("a"))
    assert not view.made(seen)


def test_pods_that_may_not_be_seen_any_more_are_forgotten(view: Watched, told: Told) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([pod("p", "a", "Failed")])
    view.pods.lost(PermissionDenied("no"))
    assert told.take()[-1] == "all one:starting"


def test_an_event_is_about_the_resource_or_its_pod(view: Watched) -> None:
    see(
        view,
        sandbox(
            "a", annotations={"openshell.ai/sandbox-id": "one", "agents.x-k8s.io/pod-name": "warm"}
        ),
    )
    for name in ("w--one", "warm"):
        found = view.of_object(about(name))
        assert found is not None
        assert found.uid == "a"
    assert view.of_object(about("warm", namespace="elsewhere")) is None
    view.sandboxes.deleted(sandbox("a"))
    assert view.of_object(about("w--one")) is None
    assert view.of_object(about("warm")) is None


async def test_waiting_for_sight_begins_anew_with_the_view(view: Watched, told: Told) -> None:
    see(view)
    assert await view.sight(1)
    view.begin(told)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(view.sight, 60)
            await anyio.wait_all_tasks_blocked()  # never, if it spins
            scope.cancel()


async def test_those_who_wait_for_a_sandbox_are_woken_by_a_new_list(view: Watched) -> None:
    see(view, sandbox("a"))
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            assert await view.until("one", lambda: view.find("one") is None, 10)

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        view.sandboxes.replaced([])


def test_what_was_just_made_is_not_gone_for_lacking_in_an_older_list(
    view: Watched, told: Told
) -> None:
    see(view)
    view.sandboxes.listing()
    seen = read_sandbox(sandbox("a"))
    assert seen is not None
    view.made(seen)
    view.sandboxes.replaced([])
    assert told.take()[-1] == "all one:starting"
    view.sandboxes.listing()
    view.sandboxes.replaced([])
    assert told.take()[-1] == "all "


def test_what_is_gone_is_not_made_again_by_a_late_answer(view: Watched, told: Told) -> None:
    see(view)
    view.sandboxes.changed(sandbox("a"))
    view.sandboxes.deleted(sandbox("a"))
    seen = read_sandbox(sandbox("a"))
    assert seen is not None
    view.made(seen)
    assert view.find("one") is None


def test_trouble_with_an_image_counts_only_while_it_is_seen(view: Watched, told: Told) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([])
    view.pods.changed(pod("p", "a", "Pending", "ImagePullBackOff"))
    told.take()
    view.pods.lost(AWAY)
    view.lapse()
    assert told.take() in ([], ["one:transient"], ["one:starting"])
