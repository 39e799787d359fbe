"""What is seen, told in the order and at the times at which it is true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import anyio
import msgspec
import pytest
from openshell_compute_k8s._objects import Pod, Sandbox
from openshell_compute_k8s._seen import read_sandbox
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


def pod(uid: str, owner: str, phase: str = "Running", waiting: str = "") -> Pod:
    """A pod of a resource."""
    state = {"waiting": {"reason": waiting}} if waiting else {}
    owners = [{"kind": "Sandbox", "name": "w--one", "uid": owner, "controller": True}]
    return msgspec.convert(
        {
            "metadata": {"name": "w--one", "uid": uid, "ownerReferences": owners},
            "status": {"phase": phase, "containerStatuses": [{"name": "agent", "state": state}]},
        },
        Pod,
    )


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def view(told: Told) -> View:
    """A view that tells the feed, and knows nothing."""
    made = View(Strays(), pull_patience=0)
    made.begin(told)
    return made


def see(view: View, *sandboxes: Sandbox) -> None:
    """List and watch."""
    view.sandboxes.replaced(sandboxes)
    view.sandboxes.resumed()


def test_a_list_is_no_sight_before_the_watch_stands(view: View, told: Told) -> None:
    view.sandboxes.replaced([sandbox("a")])
    assert told.take() == []
    view.sandboxes.resumed()
    assert told.take() == ["all one:starting"]


def test_nothing_is_told_while_blind_and_everything_afterwards(view: View, told: Told) -> None:
    see(view, sandbox("a"), sandbox("b", "two"))
    told.take()
    view.lost("pulse", AWAY)
    view.sandboxes.deleted(sandbox("a"))
    view.sandboxes.lost(AWAY)
    view.regained("pulse")
    assert told.take() == ["blind away", "blind away"]
    view.sandboxes.resumed()
    assert told.take() == ["all two:starting"]


def test_what_a_new_list_lacks_is_gone(view: View, told: Told) -> None:
    see(view, sandbox("a"), sandbox("b", "two"))
    told.take()
    view.sandboxes.replaced([sandbox("b", "two")])
    assert told.take() == ["all two:starting"]
    assert view.find("one") is None


def test_a_pod_may_come_before_its_sandbox(view: View, told: Told) -> None:
    see(view)
    view.pods.changed(pod("p", "a", "Failed"))
    view.sandboxes.changed(sandbox("a"))
    assert told.take() == ["all ", "one:exited"]


def test_of_two_with_an_id_the_one_that_stays_is_told(view: View, told: Told) -> None:
    see(view, sandbox("a", deletionTimestamp="2026-11-22T10:00:00Z"))
    view.sandboxes.changed(sandbox("b"))
    view.sandboxes.deleted(sandbox("a"))
    assert told.take() == ["all one:deleting", "one:starting", "one:starting"]
    view.sandboxes.deleted(sandbox("b"))
    assert told.take() == ["one gone"]


def test_the_pod_of_another_run_does_not_go_with_the_first(view: View, told: Told) -> None:
    see(view, sandbox("a"))
    view.pods.changed(pod("p", "a", "Failed"))
    view.pods.changed(pod("q", "a"))
    view.pods.deleted(pod("p", "a", "Failed"))
    assert told.take() == ["all one:starting", "one:exited", "one:starting"]


def test_an_image_that_is_not_pulled_in_time_is_a_failure(view: View, told: Told) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([])
    view.pods.changed(pod("p", "a", "Pending", "ImagePullBackOff"))
    view.lapse()
    assert told.take()[-1] == "one:failed"
    view.pods.changed(pod("p", "a", "Running"))
    assert told.take() == ["one:starting"]


def test_pods_that_may_not_be_seen_any_more_are_forgotten(view: View, told: Told) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([pod("p", "a", "Failed")])
    view.pods.lost(PermissionDenied("no"))
    assert told.take()[-1] == "all one:starting"


def test_an_event_is_about_the_resource_or_its_pod(view: View) -> None:
    see(
        view,
        sandbox(
            "a", annotations={"openshell.ai/sandbox-id": "one", "agents.x-k8s.io/pod-name": "warm"}
        ),
    )
    for name in ("w--one", "warm"):
        found = view.of_object("ns", name)
        assert found is not None
        assert found.uid == "a"
    assert view.of_object("elsewhere", "warm") is None
    view.sandboxes.deleted(sandbox("a"))
    assert view.of_object("ns", "w--one") is None
    assert view.of_object("ns", "warm") is None


async def test_waiting_for_sight_begins_anew_with_the_view(view: View, told: Told) -> None:
    see(view)
    assert await view.sight(1)
    view.begin(told)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(view.sight, 60)
            await anyio.wait_all_tasks_blocked()  # never, if it spins
            scope.cancel()


async def test_those_who_wait_for_a_sandbox_are_woken_by_a_new_list(view: View) -> None:
    see(view, sandbox("a"))
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            assert await view.until("one", lambda: view.find("one") is None, 10)

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        view.sandboxes.replaced([])


def test_what_was_just_made_is_not_gone_for_lacking_in_an_older_list(
    view: View, told: Told
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


def test_what_is_gone_is_not_made_again_by_a_late_answer(view: View, told: Told) -> None:
    see(view)
    view.sandboxes.changed(sandbox("a"))
    view.sandboxes.deleted(sandbox("a"))
    seen = read_sandbox(sandbox("a"))
    assert seen is not None
    view.made(seen)
    assert view.find("one") is None


def test_trouble_with_an_image_counts_only_while_it_is_seen(view: View, told: Told) -> None:
    see(view, sandbox("a"))
    view.pods.replaced([])
    view.pods.changed(pod("p", "a", "Pending", "ImagePullBackOff"))
    told.take()
    view.pods.lost(AWAY)
    view.lapse()
    assert told.take() in ([], ["one:transient"], ["one:starting"])
