"""What the watches bring, read and put into the view."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from openshell_compute_k8s._objects import Pod, Sandbox
from openshell_compute_k8s._seen import Seen, read_pod, read_sandbox
from openshell_compute_k8s._strays import Strays
from openshell_compute_k8s._view import View
from openshell_drivers import DriverError, PermissionDenied

AnyT = TypeVar("AnyT")

_log: Final = logging.getLogger("openshell_compute_k8s")


class SandboxSink:
    """Takes what the watch of sandboxes brings."""

    def __init__(self, view: View, strays: Strays) -> None:
        self._view = view
        self._strays = strays

    def listing(self) -> None:
        """Take that a list has begun."""
        self._view.begin_list()

    def replaced(self, objects: Sequence[Sandbox]) -> None:
        """Take the complete list."""
        self._strays.keep_only(each.metadata.uid for each in objects)
        self._view.replace(_known(map(self._read, objects)))

    def _read(self, item: Sandbox) -> Seen | None:
        if self._strays.take(item.metadata):
            self._view.disown(item.metadata.uid)
            return None
        return read_sandbox(item)

    def changed(self, item: Sandbox) -> None:
        """Take the newest state of one."""
        seen = self._read(item)
        if seen is not None:
            self._view.put(seen)
            self._view.tell(seen.id)

    def deleted(self, item: Sandbox) -> None:
        """Take that one is gone."""
        self._strays.gone(item.metadata.uid)
        self._view.end(item.metadata.uid)

    def lost(self, problem: DriverError) -> None:
        """Take that nothing is seen."""
        self._view.lost("sandboxes", problem)

    def resumed(self) -> None:
        """Take that the watch stands."""
        self._view.regained("sandboxes")


class PodSink:
    """Takes what the watch of pods brings. Without it, sandboxes are seen all the same."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._lost = False

    def listing(self) -> None:
        """Take no notice."""

    def replaced(self, objects: Sequence[Pod]) -> None:
        """Take the complete list."""
        self._view.replace_pods(_known(map(read_pod, objects)))

    def changed(self, item: Pod) -> None:
        """Take the newest state of one."""
        pod = read_pod(item)
        if pod is not None:
            self._view.put_pod(pod)
        else:
            self._view.orphan_pod(item.metadata.uid)

    def deleted(self, item: Pod) -> None:
        """Take that one is gone."""
        pod = read_pod(item)
        if pod is not None:
            self._view.drop_pod(pod.uid, pod.owner)

    def lost(self, problem: DriverError) -> None:
        """Take that pods are not seen; if they never will be, they are forgotten."""
        if not self._lost:
            _log.warning("pods cannot be observed", extra={"reason": problem.message})
        self._lost = True
        self._view.lose_pods()
        if isinstance(problem, PermissionDenied):
            self._view.forget_pods()

    def resumed(self) -> None:
        """Take that the watch stands."""
        self._lost = False
        self._view.regain_pods()


def _known(items: Iterable[AnyT | None]) -> list[AnyT]:
    return [each for each in items if each is not None]
