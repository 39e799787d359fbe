"""`Snapshots`: a resource of the platform as the contract describes it, never with its spec."""

from __future__ import annotations

import time
from typing import Any

from tests.conformance.bare import protos
from tests.conformance.bare.resources import (
    DELETING,
    EXITED,
    FAILED,
    READY,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    Resource,
)

_REASONS = {
    STARTING: ("Starting", "the sandbox is starting"),
    RUNNING: ("Running", "the sandbox runs"),
    FAILED: ("ImagePullFailed", "the image cannot be pulled"),
    EXITED: ("ContainerExited", "the main process has ended"),
    STOPPING: ("Stopping", "the sandbox is stopping"),
    DELETING: ("Deleting", "the sandbox is being removed"),
}


class Snapshots:
    """Writes what gateways see."""

    def __init__(self) -> None:
        self.messages = protos.schema("compute")

    def of(self, resource: Resource) -> Any:
        """Write a snapshot, with id and name as the gateway gave them (COMP-GET-03)."""
        return self.messages.DriverSandbox(
            id=self.id(resource),
            name=self.name(resource),
            workspace=resource.workspace,
            status=self.status(resource),
        )

    def id(self, resource: Resource) -> str:
        return resource.id

    def name(self, resource: Resource) -> str:
        return resource.name

    def status(self, resource: Resource) -> Any:
        return self.messages.DriverSandboxStatus(
            name=resource.name,  # COMP01-STAT-01
            instance_id=self.instance_id(resource),
            conditions=self.conditions(resource),
            deleting=self.deleting(resource),
        )

    def instance_id(self, resource: Resource) -> str:
        """Name the run: another after every start (COMP-STAT-08)."""
        return f"bare-{resource.uid}-{resource.instance}"

    def deleting(self, resource: Resource) -> bool:
        return resource.state == DELETING

    def conditions(self, resource: Resource) -> list[Any]:
        """All conditions; never two of type Ready (COMP-STAT-01)."""
        if resource.state == STOPPED:
            return [self.suspended(resource)]
        found = [self.ready(resource)]
        if resource.state == STOPPING:
            found.append(self.stopping(resource))
        return found

    def ready(self, resource: Resource) -> Any:
        """Ready, with a reason that no gateway takes for the end unless it is (COMP-STAT-02)."""
        reason, message = _REASONS[resource.state]
        return self.condition("Ready", READY[resource.state], reason, message, resource.since)

    def suspended(self, resource: Resource) -> Any:
        """Stopped, in the words that all lines understand (COMP-STAT-06)."""
        message = "the sandbox is stopped"
        return self.condition("Suspended", "True", "Stopped", message, resource.since)

    def stopping(self, resource: Resource) -> Any:
        """A stop that is under way; upstream gateways know the reason."""
        message = "the sandbox is stopping"
        return self.condition("Suspended", "False", "PodTerminating", message, resource.since)

    def condition(self, type_: str, status: str, reason: str, message: str, since: float) -> Any:
        """Write one condition, with the old and the new time from one instant (COMPAT01-04)."""
        made = self.messages.DriverCondition(
            type=type_, status=status, reason=reason, message=message
        )
        made.transition_time.FromMilliseconds(int(since * 1000))
        made.last_transition_time = made.transition_time.ToJsonString()
        return made

    def pulling(self, resource: Resource) -> Any:
        """The platform event at the beginning (COMP-WATCH-12)."""
        progress = {
            "openshell.progress.complete_step": "requesting_sandbox",
            "openshell.progress.active_step": "pulling_image",
        }
        return self.event("Normal", "Pulling", "pulling the image", resource.since, progress)

    def pull_failed(self, resource: Resource) -> Any:
        """The platform event of a failure."""
        reason, message = _REASONS[FAILED]
        return self.event("Warning", reason, message, time.time(), {})

    def event(
        self, type_: str, reason: str, message: str, at: float, metadata: dict[str, str]
    ) -> Any:
        made = self.messages.DriverPlatformEvent(
            source="bare", type=type_, reason=reason, message=message, metadata=metadata
        )
        made.timestamp_ms = int(at * 1000)
        made.event_time.FromMilliseconds(made.timestamp_ms)
        return made

    def runtime_identity(self, resource: Resource) -> str:
        """Name the durable object, whatever runs in it (COMP01-ID-01)."""
        return f"bare://{resource.uid}"
