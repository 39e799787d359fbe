"""Kubernetes' events, as what a sandbox's user reads of its progress."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from openshell_compute_k8s._objects import Event, ObjectReference
from openshell_compute_k8s._seen import Seen
from openshell_drivers import DriverError, PlatformEvent, SandboxFeed
from openshell_drivers.compute import ProgressStep

_LONGEST: Final = 1024
_log: Final = logging.getLogger("openshell_compute_k8s")


@dataclass(frozen=True, slots=True)
class _Step:
    """How far a start has come when this happens."""

    active: ProgressStep | None = None
    done: ProgressStep | None = None
    label: str = ""


#: By the event's reason: the scheduler's, then the kubelet's.
_STEPS: Final[Mapping[str, _Step]] = MappingProxyType(
    {
        "Scheduled": _Step(active="pulling_image", done="requesting_sandbox", label="Scheduled"),
        "Pulling": _Step(active="pulling_image"),
        "Pulled": _Step(active="starting_sandbox", done="pulling_image", label="Image pulled"),
        "Created": _Step(active="starting_sandbox"),
        "Started": _Step(done="starting_sandbox", label="Started"),
        "FailedScheduling": _Step(active="requesting_sandbox"),
        "Failed": _Step(active="pulling_image"),
        "BackOff": _Step(active="pulling_image"),
    }
)


def platform_event(event: Event) -> PlatformEvent:
    """Make what a gateway passes on. The text is the cluster's, cut to 1,024 characters and without
    control characters (COMP-WATCH-12)."""
    message = "".join(each if each.isprintable() else " " for each in event.message[:_LONGEST])
    step = _STEPS.get(event.reason, _Step())
    progress = PlatformEvent.progress(
        step.active, message if step.active else "", done=step.done, label=step.label
    )
    return PlatformEvent(
        reason=event.reason or "Event",
        message=message,
        type=event.type if event.type in {"Normal", "Warning"} else "Normal",
        source=event.source.component or event.reporting_component or "kubernetes",
        time=_time(event),
        metadata=progress.metadata,
    )


def _time(event: Event) -> datetime | None:
    for text in (event.last_timestamp, event.event_time, event.first_timestamp):
        if text:
            try:
                found = datetime.fromisoformat(text)
            except ValueError:
                continue
            return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


class Events:
    """Takes what a watch of events brings, from now on, and tells it to a sandbox's user."""

    def __init__(self, feed: SandboxFeed, find: Callable[[ObjectReference], Seen | None]) -> None:
        self._feed = feed
        self._find = find
        self._lost = False

    def listing(self) -> None:
        """Take no notice."""

    def replaced(self, objects: Sequence[Event]) -> None:
        """Take no notice of what happened before."""

    def changed(self, item: Event) -> None:
        """Pass it on, if it is about one of ours."""
        seen = self._find(item.involved_object)
        if seen is not None:
            self._feed.event(seen.id, platform_event(item))

    def deleted(self, item: Event) -> None:
        """Take no notice: events end after an hour."""

    def lost(self, problem: DriverError) -> None:
        """Say so once: sandboxes are seen without events."""
        if not self._lost:
            _log.warning("events cannot be observed", extra={"reason": problem.message})
        self._lost = True

    def resumed(self) -> None:
        """Take that there are events again."""
        self._lost = False
