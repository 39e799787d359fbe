"""What this driver reads of Kubernetes' objects, and nothing else of them.

Decoding skips the rest unread, pod templates above all, so an observed sandbox costs about a
kilobyte. Imports msgspec, so it is imported late.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

ObjectT = TypeVar("ObjectT", bound="Object")


class OwnerReference(msgspec.Struct, frozen=True, rename="camel"):
    """Who an object belongs to."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """What every object has."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []


class Object(msgspec.Struct, frozen=True):
    """Any object, of which only the metadata is read."""

    metadata: Metadata = Metadata()


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """One of a status's conditions."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str | None = None


class SandboxSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Whether a sandbox is to run: ``operatingMode`` in v1beta1, ``replicas`` in v1alpha1."""

    operating_mode: str = ""
    replicas: int | None = None


class SandboxStatus(msgspec.Struct, frozen=True):
    """What the controller says."""

    conditions: list[Condition] = []


class Sandbox(Object, frozen=True):
    """A ``Sandbox`` of ``agents.x-k8s.io``."""

    spec: SandboxSpec = SandboxSpec()
    status: SandboxStatus = SandboxStatus()


class Reasoned(msgspec.Struct, frozen=True, rename="camel"):
    """Why a container waits, or how it ended."""

    reason: str = ""
    message: str = ""
    exit_code: int = 0


class ContainerState(msgspec.Struct, frozen=True):
    """How a container is."""

    waiting: Reasoned | None = None
    terminated: Reasoned | None = None


class ContainerStatus(msgspec.Struct, frozen=True):
    """One container."""

    name: str = ""
    state: ContainerState = ContainerState()


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    """How a pod is."""

    phase: str = ""
    reason: str = ""
    init_container_statuses: list[ContainerStatus] = []
    container_statuses: list[ContainerStatus] = []


class Pod(Object, frozen=True):
    """A pod."""

    status: PodStatus = PodStatus()


class ObjectReference(msgspec.Struct, frozen=True):
    """What an event is about."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class EventSource(msgspec.Struct, frozen=True):
    """Who says so."""

    component: str = ""


class Event(Object, frozen=True, rename="camel"):
    """A ``v1`` event."""

    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    type: str = ""
    source: EventSource = EventSource()
    reporting_component: str = ""
    event_time: str | None = None
    first_timestamp: str | None = None
    last_timestamp: str | None = None


class NodeStatus(msgspec.Struct, frozen=True):
    """What a node has for pods."""

    allocatable: dict[str, str] = {}


class NodeSpec(msgspec.Struct, frozen=True):
    """Whether pods may come."""

    unschedulable: bool = False


class Node(Object, frozen=True):
    """A node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ListMetadata(
    msgspec.Struct,
    frozen=True,
    rename={"continue_": "continue", "resource_version": "resourceVersion"},
):
    """Where a list stands."""

    resource_version: str = ""
    continue_: str = ""


class Page(msgspec.Struct, Generic[ObjectT], frozen=True):
    """A part of a list."""

    metadata: ListMetadata = ListMetadata()
    items: list[ObjectT] = []


class WatchEvent(msgspec.Struct, frozen=True):
    """A line of a watch."""

    type: str
    object: msgspec.Raw


class Cause(msgspec.Struct, frozen=True):
    """Which field is wrong, and in what way; the message, which shows values, is not read."""

    reason: str = ""
    field: str = ""


class Details(msgspec.Struct, frozen=True, rename="camel"):
    """More about a failure."""

    name: str = ""
    kind: str = ""
    causes: list[Cause] = []
    retry_after_seconds: int = 0


class Status(msgspec.Struct, frozen=True):
    """An API server's answer to what it does not do."""

    reason: str = ""
    message: str = ""
    code: int = 0
    details: Details | None = None


class TokenUser(msgspec.Struct, frozen=True):
    """Whose token it is."""

    username: str = ""
    extra: Mapping[str, list[str]] = {}


class TokenReviewStatus(msgspec.Struct, frozen=True):
    """What the API server thinks of a token."""

    authenticated: bool = False
    user: TokenUser = TokenUser()
    audiences: list[str] = []


class TokenReview(msgspec.Struct, frozen=True):
    """Its answer."""

    status: TokenReviewStatus = TokenReviewStatus()


class VersionsOfGroup(msgspec.Struct, frozen=True):
    """One version of an API group."""

    version: str = ""


class Group(msgspec.Struct, frozen=True):
    """An API group."""

    versions: list[VersionsOfGroup] = []
