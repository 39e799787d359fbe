"""`View`: all sandboxes of one gateway as the API server shows them, told to the feed.

It sees while the watch of the sandboxes stands and the API server answers; what it cannot see it
does not call gone. Pods add to what is said of a sandbox; without them less is known, not nothing.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import anyio

from openshell_compute_k8s._objects import ObjectReference
from openshell_compute_k8s._seen import Seen, SeenPod, observe
from openshell_drivers import DriverError, ObservedSandbox, SandboxFeed

_MOST_DROPPED: Final = 10_000
_PODS_HOLD: Final = 60.0

_log: Final = logging.getLogger("openshell_compute_k8s")


class View:
    """What is known of every sandbox. For one event loop, without locks."""

    def __init__(self, *, pull_patience: float) -> None:
        self._patience = pull_patience
        self._sight = anyio.Event()
        self._made: dict[str, float] = {}
        self._dropped: dict[str, None] = {}
        self._list_began = 0.0
        self._outage_is_logged = False
        self._changes: dict[str, anyio.Event] = {}
        self.begin(SandboxFeed())

    def begin(self, feed: SandboxFeed) -> None:
        """Know nothing, and tell this feed from now on."""
        for waiting in self._changes.values():
            waiting.set()
        if self._sight.is_set():
            self._sight = anyio.Event()
        self._feed = feed
        self._seen: dict[str, Seen] = {}
        self._of_id: dict[str, dict[str, None]] = {}
        self._of_name: dict[tuple[str, str], str] = {}
        self._made.clear()
        self._pods: dict[str, SeenPod] = {}
        self._pulling_badly: dict[str, dict[str, float]] = {}
        self._changes = {}
        self._listed = False
        self._lost: dict[str, str] = {"sandboxes": ""}  # until the watch stands
        self.pods_known = False
        self._pods_lost_at = math.inf

    def close(self) -> None:
        """See no more, until it begins again."""
        self._lost["sandboxes"] = ""
        if self._sight.is_set():
            self._sight = anyio.Event()

    # What is known.

    def find(self, sandbox_id: str) -> Seen | None:
        """Give the resource of a sandbox: of several with its id one that is not being deleted,
        the oldest first."""
        found = [self._seen[uid] for uid in self._of_id.get(sandbox_id, ())]
        return min(found, key=lambda seen: (seen.deleting, seen.created, seen.uid), default=None)

    def by_uid(self, uid: str) -> Seen | None:
        """Give a resource by its uid."""
        return self._seen.get(uid)

    def pod_of(self, seen: Seen) -> SeenPod | None:
        """Give a sandbox's pod."""
        return self._pods.get(seen.uid)

    def of_object(self, about: ObjectReference) -> Seen | None:
        """Give the sandbox that an event is about, by the name of its resource or its pod; none if
        it is about what had that name before."""
        if about.uid in self._dropped:
            return None
        return self._seen.get(self._of_name.get((about.namespace, about.name), ""))

    async def changed(self, sandbox_id: str) -> None:
        """Wait until something about a sandbox changes."""
        await self._changes.setdefault(sandbox_id, anyio.Event()).wait()

    async def until(self, sandbox_id: str, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds for a sandbox; False if it does not in time."""
        with anyio.move_on_after(seconds):
            while not (self.sighted and holds()):
                await self.changed(sandbox_id)
            return True
        return False

    # Sight.

    @property
    def sighted(self) -> bool:
        """Whether what is known is true now."""
        return self._listed and not self._lost

    async def sight(self, seconds: float) -> bool:
        """Wait until it sees; False if it does not in time."""
        with anyio.move_on_after(seconds):
            while not self.sighted:
                await self._sight.wait()
        return self.sighted

    def lost(self, what: str, problem: DriverError) -> None:
        """Take that one of the ways of seeing is lost."""
        if self._sight.is_set():
            self._sight = anyio.Event()
        if not self._outage_is_logged:
            self._outage_is_logged = True
            _log.warning("the cluster cannot be observed", extra={"reason": problem.message})
        self._lost[what] = problem.message
        self._feed.blind(problem.message)

    def regained(self, what: str) -> None:
        """Take that it works again."""
        if self._lost.pop(what, None) is not None and self.sighted:
            self._outage_is_logged = False
            _log.info("the cluster is observed")
            self.tell_all()

    # Telling.

    def tell_all(self) -> None:
        """Tell the complete list, if it is known."""
        if self.sighted:
            self._sight.set()
            self._feed.replace(filter(None, map(self._observed, list(self._of_id))))
            for sandbox_id in list(self._changes):
                self._wake(sandbox_id)

    def tell(self, sandbox_id: str) -> None:
        """Tell the newest state of one sandbox."""
        self._wake(sandbox_id)
        if not self.sighted:
            return
        observed = self._observed(sandbox_id)
        if observed is None:
            self._feed.delete(sandbox_id)
        else:
            self._feed.update(observed)

    def lapse(self) -> None:
        """Tell of images that could not be pulled for too long, and forget pods that were not seen
        for a minute."""
        if time.monotonic() - self._pods_lost_at > _PODS_HOLD:
            self.forget_pods()
        for uid in self._pulling_badly:
            seen = self._seen.get(uid)
            if seen is not None and self._is_given_up(uid):
                self.tell(seen.id)

    def _is_given_up(self, uid: str) -> bool:
        since = min(self._pulling_badly.get(uid, {}).values(), default=math.inf)
        return self.pods_known and since + self._patience <= time.monotonic()

    def _observed(self, sandbox_id: str) -> ObservedSandbox | None:
        seen = self.find(sandbox_id)
        if seen is None:
            return None
        return observe(
            seen,
            self.pod_of(seen),
            given_up=self._is_given_up(seen.uid),
            pods_known=self.pods_known,
        )

    def _wake(self, sandbox_id: str) -> None:
        event = self._changes.pop(sandbox_id, None)
        if event is not None:
            event.set()

    # What the watches bring.

    def made(self, seen: Seen) -> bool:
        """Take what this driver has just made, before the watch brings it: no list that began
        earlier says that it is gone. False if it was deleted already."""
        known = self._seen.get(seen.uid)
        if seen.uid in self._dropped or (known is not None and known.is_gone):
            return False
        if known is not None and known.generation >= seen.generation:
            return True
        self._made[seen.uid] = time.monotonic()
        self.put(seen)
        self.tell(seen.id)
        return True

    def disown(self, uid: str) -> None:
        """Take that a resource is no sandbox after all. Nothing is told: it never was one."""
        if uid in self._seen:
            self._drop(uid)

    def put(self, seen: Seen) -> None:
        """Take a resource, also one that is back."""
        self._dropped.pop(seen.uid, None)
        self._seen[seen.uid] = seen
        for name in (seen.object_name, seen.pod_name):
            self._of_name[seen.namespace, name] = seen.uid
        self._of_id.setdefault(seen.id, {})[seen.uid] = None

    def end(self, uid: str) -> None:
        """Take that a resource is gone, and tell it."""
        seen = self._seen.get(uid)
        self._end(uid)
        if seen is not None:
            self.tell(seen.id)

    def _end(self, uid: str) -> None:
        """While its pod is seen, a sandbox without a resource is being deleted (COMP-WATCH-07)."""
        seen = self._seen.get(uid)
        if seen is not None and uid in self._pods:
            self._seen[uid] = replace(seen, deleting=True, is_gone=True)
        else:
            self._drop(uid)

    def _drop(self, uid: str) -> None:
        seen = self._seen.pop(uid, None)
        self._pulling_badly.pop(uid, None)
        self._made.pop(uid, None)
        self._forget(uid)
        if seen is not None:
            for name in (seen.object_name, seen.pod_name):
                if self._of_name.get((seen.namespace, name)) == uid:
                    del self._of_name[seen.namespace, name]
            of_id = self._of_id[seen.id]
            of_id.pop(uid, None)
            if not of_id:
                del self._of_id[seen.id]

    def _forget(self, uid: str) -> None:
        self._dropped[uid] = None
        if len(self._dropped) > _MOST_DROPPED:
            del self._dropped[next(iter(self._dropped))]

    def replace(self, all_of_them: Sequence[Seen]) -> None:
        """Take the complete list of resources."""
        present = {seen.uid for seen in all_of_them}
        for uid in [uid for uid in self._seen if uid not in present]:
            if self._made.get(uid, -math.inf) < self._list_began:
                self._end(uid)
        for uid in present:
            self._made.pop(uid, None)
        for seen in all_of_them:
            self.put(seen)
        self._listed = True
        self.tell_all()

    def begin_list(self) -> None:
        """Take that a list of resources has begun."""
        self._list_began = time.monotonic()

    def put_pod(self, pod: SeenPod) -> None:
        """Take a pod."""
        known = self._pods.get(pod.owner)
        if known is not None and known.uid != pod.uid:
            self._pulling_badly.pop(pod.owner, None)
        self._dropped.pop(pod.uid, None)
        self._pods[pod.owner] = pod
        self._time_pulling(pod)
        seen = self._seen.get(pod.owner)
        if seen is not None:
            self.tell(seen.id)

    def _time_pulling(self, pod: SeenPod) -> None:
        """Keep how long each container has had trouble with its image. The trouble is over when it
        has the image; between two tries it only waits."""
        before = self._pulling_badly.pop(pod.owner, {})
        now = time.monotonic()
        times = {name: since for name, since in before.items() if name in pod.waiting}
        times.update({name: now for name in pod.pulling if name not in before})
        if times:
            self._pulling_badly[pod.owner] = times

    def drop_pod(self, uid: str, owner: str) -> None:
        """Take that a pod is gone, or is not its sandbox's any more."""
        known = self._pods.get(owner)
        if known is None or known.uid != uid:
            return
        del self._pods[owner]
        self._pulling_badly.pop(owner, None)
        self._forget(uid)
        self._end_without_pod(owner)

    def orphan_pod(self, uid: str) -> None:
        """Take that a pod has no owner."""
        for owner in [owner for owner, pod in self._pods.items() if pod.uid == uid]:
            self.drop_pod(uid, owner)

    def _end_without_pod(self, owner: str) -> None:
        seen = self._seen.get(owner)
        if seen is not None and seen.is_gone:
            self.end(owner)
        elif seen is not None:
            self.tell(seen.id)

    def replace_pods(self, pods: Sequence[SeenPod]) -> None:
        """Take the complete list of pods. Trouble counts from here on: it was not seen before."""
        self._pulling_badly.clear()
        present = {pod.uid for pod in pods}
        for known in [pod for pod in self._pods.values() if pod.uid not in present]:
            self.drop_pod(known.uid, known.owner)
        for pod in pods:
            self.put_pod(pod)
        self.pods_known = True
        self._pods_lost_at = math.inf
        self.tell_all()

    def lose_pods(self) -> None:
        """Take that pods are not seen for now: what is known of them holds for a minute."""
        self.pods_known = False
        self._pods_lost_at = min(self._pods_lost_at, time.monotonic())

    def regain_pods(self) -> None:
        """Take that they are seen again."""
        if not self.pods_known:
            self.pods_known = True
            self._pods_lost_at = math.inf
            self.tell_all()

    def forget_pods(self) -> None:
        """Take that pods may not be seen any more: what was known of them does not hold."""
        owners = list(self._pods)
        self._pods_lost_at = math.inf
        self._pods.clear()
        self._pulling_badly.clear()
        for owner in owners:
            self._end_without_pod(owner)
        self.tell_all()
