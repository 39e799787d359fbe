"""`Seen`: one observed sandbox, small; and what its state is, in the words every gateway reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, get_args

from openshell_compute_k8s._failures import known_text
from openshell_compute_k8s._names import AWAITS, CLAIMS, START, identity_of
from openshell_compute_k8s._objects import Condition, ContainerStatus, Pod, Sandbox
from openshell_drivers import ObservedSandbox, SandboxState
from openshell_drivers.compute import TransientReason

POD_NAME: Final = "agents.x-k8s.io/pod-name"
_TOLD: Final = frozenset({"Ready", "Suspended", "Finished", "PodScheduled"})
_PASSING: Final[dict[str, TransientReason]] = {
    each.lower(): each for each in get_args(TransientReason)
}
_PULLING_BADLY: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"}
)
_NEVER: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_UNCONFIGURED: Final = frozenset({"CreateContainerConfigError", "CreateContainerError"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a container does not start."""

    reason: str
    pulling: bool
    """It is about an image."""
    final: bool
    """Waiting does not help."""


@dataclass(frozen=True, slots=True)
class SeenPod:
    """A sandbox's pod."""

    uid: str
    name: str
    owner: str
    """The uid of the sandbox that it belongs to."""
    phase: str
    exit_code: int | None
    trouble: Trouble | None
    pulling: frozenset[str]
    """The containers whose image cannot be pulled."""
    waiting: frozenset[str]
    """The containers that may be without their image: those, and what only waits."""
    deleting: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """A sandbox."""

    uid: str
    namespace: str
    object_name: str
    id: str
    name: str
    workspace: str
    created: str
    generation: int
    deleting: bool
    wanted: bool
    """It is meant to run."""
    awaits: bool
    """Its next pod would wait for the creating client."""
    started: str
    """The generation of the start that was last made."""
    claims: tuple[str, ...]
    """What it attaches from outside."""
    pod_name: str
    conditions: dict[str, Condition]
    is_gone: bool = False
    """The resource is not there any more, and its pod is."""

    @property
    def runtime_identity(self) -> str:
        """The name of the durable object: it lives as long as the sandbox (COMP01-ID-01)."""
        return runtime_identity(self.namespace, self.uid)

    def condition(self, kind: str) -> Condition | None:
        """A condition, unless it is about what was wanted before."""
        found = self.conditions.get(kind)
        if found is None or 0 < found.observed_generation < self.generation:
            return None
        return found


def runtime_identity(namespace: str, uid: str) -> str:
    """Write the runtime identity of a sandbox's resource."""
    return f"k8s:{namespace}:{uid}"


def read_sandbox(item: Sandbox) -> Seen | None:
    """Read a resource; None for one without the marks of a gateway's create (COMP-LIST-03)."""
    about = item.metadata
    identity = identity_of(about)
    if identity is None:
        return None
    suspended = item.spec.operating_mode == "Suspended" or item.spec.replicas == 0
    return Seen(
        uid=about.uid,
        namespace=about.namespace,
        object_name=about.name,
        id=identity.id,
        name=identity.name,
        workspace=identity.workspace,
        created=about.creation_timestamp,
        generation=about.generation,
        deleting=bool(about.deletion_timestamp),
        wanted=not suspended,
        awaits=AWAITS in about.annotations,
        started=about.annotations.get(START, ""),
        claims=tuple(filter(None, about.annotations.get(CLAIMS, "").split(","))),
        pod_name=about.annotations.get(POD_NAME) or about.name,
        conditions={each.type: each for each in item.status.conditions if each.type in _TOLD},
    )


def read_pod(pod: Pod) -> SeenPod | None:
    """Read a pod; None for one that no sandbox controls."""
    about = pod.metadata
    owner = next(
        (o.uid for o in about.owner_references if o.controller and o.kind == "Sandbox"), ""
    )
    if not owner:
        return None
    statuses = [*pod.status.init_container_statuses, *pod.status.container_statuses]
    troubles = {each.name: found for each in statuses if (found := _trouble(each)) is not None}
    pulling = frozenset(name for name, trouble in troubles.items() if trouble.pulling)
    waiting = {each.name for each in statuses if each.state.waiting is not None}
    ended = [each.state.terminated for each in pod.status.container_statuses]
    codes = [each.exit_code for each in ended if each is not None]
    return SeenPod(
        uid=about.uid,
        name=about.name,
        owner=owner,
        phase=pod.status.phase,
        exit_code=codes[0] if codes else None,
        trouble=next(iter(troubles.values()), None),
        pulling=pulling,
        waiting=frozenset(waiting - (set(troubles) - pulling)),
        deleting=bool(about.deletion_timestamp),
    )


def _trouble(status: ContainerStatus) -> Trouble | None:
    waiting = status.state.waiting
    if waiting is None:
        return None
    reason = waiting.reason
    if reason in _PULLING_BADLY or reason in _NEVER:
        return Trouble(reason, pulling=True, final=reason in _NEVER)
    if reason in _UNCONFIGURED:
        return Trouble(reason, pulling=False, final=False)
    return None


def observe(
    seen: Seen, pod: SeenPod | None, *, given_up: bool, pods_known: bool
) -> ObservedSandbox:
    """Say how a sandbox is. `given_up`: its image could not be pulled for too long."""
    return ObservedSandbox(
        id=seen.id,
        name=seen.name,
        workspace=seen.workspace,
        state=state_of(seen, pod, given_up=given_up, pods_known=pods_known),
        instance_id=pod.uid if pod is not None else "",
    )


def state_of(seen: Seen, pod: SeenPod | None, *, given_up: bool, pods_known: bool) -> SandboxState:
    """Give the state that every gateway reads alike (COMP-STAT clauses)."""
    if seen.deleting:
        return SandboxState.deleting()
    if not seen.wanted:
        stopped = is_stopped(seen, pod, pods_known=pods_known)
        return SandboxState.stopped() if stopped else SandboxState.stopping()
    if pod is not None and pod.deleting:
        return SandboxState.starting("the pod of the run before is ending")
    if _has_ended(seen, pod):
        return SandboxState.exited(_ending(pod))
    if given_up or (pod is not None and pod.trouble is not None and pod.trouble.final):
        return SandboxState.failed("ImagePullFailed", "an image cannot be pulled; see the events")
    return _on_its_way(seen, pod)


def is_stopped(seen: Seen, pod: SeenPod | None, *, pods_known: bool) -> bool:
    """Whether compute is really stopped: the controller says so of what is wanted now, and no pod
    is seen (COMP-STOP-02). An old controller that says nothing is believed by its pod alone."""
    if pod is not None:
        return False
    told = seen.condition("Suspended")
    if told is None:
        return pods_known and "Suspended" not in seen.conditions
    ready = seen.condition("Ready")
    still = ready is not None and ready.status == "True"
    return told.status == "True" and not still


def _has_ended(seen: Seen, pod: SeenPod | None) -> bool:
    if pod is not None:
        return pod.phase in {"Succeeded", "Failed"}
    finished = seen.condition("Finished")
    return finished is not None and finished.status == "True"


def _ending(pod: SeenPod | None) -> str:
    if pod is None or pod.exit_code is None:
        return "the main process has ended"
    return f"the main process has ended with code {pod.exit_code}"


def _on_its_way(seen: Seen, pod: SeenPod | None) -> SandboxState:
    ready = seen.condition("Ready")
    if ready is None:
        return SandboxState.starting()
    if ready.status == "True":
        return _since(SandboxState.ready(), ready)
    if ready.status != "False":
        return SandboxState.unknown()
    if ready.reason == "SandboxExpired":
        return SandboxState.failed("SandboxExpired", "its time is over")
    if pod is not None and pod.trouble is not None:
        return SandboxState.transient("ContainerStarting", pod.trouble.reason)
    reason = _PASSING.get(ready.reason.lower(), "Starting")
    return SandboxState.transient(reason, _message(seen, ready))


def _message(seen: Seen, ready: Condition) -> str:
    """A word for the user: the scheduler's, or the quota's. The controller's own text may hold
    anything that an API server says."""
    scheduled = seen.condition("PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return f"{scheduled.reason}: {scheduled.message}"
    if ready.reason == "ReconcilerError":
        return known_text(ready.message) or "the sandbox controller reports an error"
    return ready.message if ready.reason == "DependenciesNotReady" else ""


def _since(state: SandboxState, condition: Condition) -> SandboxState:
    try:
        return state.at(datetime.fromisoformat(condition.last_transition_time or ""))
    except ValueError:
        return state
