"""`ComputeDriver`: create, stop, start, delete and observe sandboxes on a platform.

One class serves every gateway line (COMP and COMP01 clauses). Knows nothing of the wire.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from openshell_drivers._abilities import (
    AdmissionPolicy,
    ComputeCapabilities,
    ListenerRequirement,
    ResourceCapabilities,
    Support,
)
from openshell_drivers._faults import WrongType
from openshell_drivers._sandboxes import (
    AuthenticatedSandbox,
    ComputeResources,
    Condition,
    GpuRequest,
    Json,
    ObservedSandbox,
    PlatformEvent,
    ProgressStep,
    ResolvedIdentity,
    Sandbox,
    SandboxDeleted,
    SandboxHappening,
    SandboxRef,
    SandboxSeen,
    SandboxSpec,
    SandboxStatus,
    SandboxTemplate,
    StartRequest,
    WatchEvent,
    WorkloadIdentity,
)
from openshell_drivers._scope import CreateScope, ProvisioningFailed
from openshell_drivers._states import SandboxState, StateKind, TransientReason
from openshell_drivers.driver import ConfigT, Driver
from openshell_drivers.errors import Unimplemented
from openshell_drivers.feed import SandboxFeed
from openshell_drivers.secrets import Secret

__all__ = [
    "AdmissionPolicy",
    "AuthenticatedSandbox",
    "ComputeCapabilities",
    "ComputeDriver",
    "ComputeResources",
    "Condition",
    "CreateScope",
    "GpuRequest",
    "Json",
    "ListenerRequirement",
    "ObservedSandbox",
    "PlatformEvent",
    "ProgressStep",
    "ProvisioningFailed",
    "ResolvedIdentity",
    "ResourceCapabilities",
    "Sandbox",
    "SandboxDeleted",
    "SandboxFeed",
    "SandboxHappening",
    "SandboxRef",
    "SandboxSeen",
    "SandboxSpec",
    "SandboxState",
    "SandboxStatus",
    "SandboxTemplate",
    "StartRequest",
    "StateKind",
    "Support",
    "TransientReason",
    "WatchEvent",
    "WorkloadIdentity",
    "parse_config",
]


class ComputeDriver(Driver[ConfigT]):
    """Run sandboxes.

    The server checks every request before a driver sees it (ids, names, quantities, GPUs, what the
    class does not support), keeps operations on one sandbox apart, undoes a create that fails or is
    cancelled, answers watches, and says of a sandbox nothing that a gateway would misread. What is
    raised answers the call; anything but a `DriverError` is answered as ``INTERNAL``.

    The attributes that are not class variables may also be set in the constructor, from the
    configuration.
    """

    default_image: str = ""
    """For a request without an image. Without it, such a request is refused (COMP-CAP-03)."""

    support: Support = Support()
    """What of a request is honoured; the rest is refused."""

    driver_config_model: ClassVar[type[Any] | None] = None
    """The pydantic model of a request's ``driver_config``. Accepted only if `admission_policy`
    allows it; what does not fit is `InvalidArgument` (COMP-IN-06)."""

    gateway_manages_lifecycle: ClassVar[bool] = False
    """Let the gateway stop every sandbox when it shuts down and start it again afterwards. For a
    driver with stop and start that work for all of them: any error at such a start is for good
    (COMP-CAP-04)."""

    reports_runtime_readiness: ClassVar[bool] = False
    """Whether ``ready`` means that the workload can be used, not only that compute runs
    (COMP01-STAT-04)."""

    poll_interval: float = 2.0
    """Seconds between two lists, for a driver that does not override `observe`."""

    list_timeout: float = 10.0
    """Seconds that one list may take then; longer means that the backend cannot be observed."""

    lifecycle_timeout: float = 120.0
    """Seconds that a create, stop, start or delete may take. The last three run to their end even
    if the caller gives up."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        both = (
            cls.stop_sandbox is not ComputeDriver.stop_sandbox,
            cls.start_sandbox is not ComputeDriver.start_sandbox,
        )
        if cls.gateway_manages_lifecycle and not all(both):
            raise WrongType(
                f"{cls.__qualname__}.gateway_manages_lifecycle needs stop_sandbox and start_sandbox"
            )

    @abstractmethod
    async def create_sandbox(self, spec: SandboxSpec, scope: CreateScope) -> str | None:
        """Accept a sandbox: it exists on the backend when this returns, ready or not.

        Returns its runtime identity: text that is the same for as long as the sandbox exists
        (COMP01-ID-01). Required of a driver with `authenticate_sandbox`, else None will do.

        Called once per id at a time, and never for one that exists. Must not wait for readiness
        (COMP-CREATE-07): hand longer work to `CreateScope.in_background`. Raise
        `FailedPrecondition` for what the user must know: other messages do not reach them
        (COMP-CREATE-06); `AlreadyExists` if the backend has the id, or cannot hold the name twice.
        """

    @abstractmethod
    async def delete_sandbox(self, ref: SandboxRef) -> bool:
        """Remove a sandbox and all that belongs to it, in whatever state it is.

        True when its removal cannot fail any more, even if it is not over; False only if there was
        nothing at all (COMP-DEL-03). Called for a failed create too, and again after a delete that
        has failed: it must find what is left (COMP-DEL-05). Anything that remains is an error.
        """

    @abstractmethod
    async def list_sandboxes(self) -> Sequence[ObservedSandbox]:
        """Observe all sandboxes that this driver has created, in any state, and no others.

        Raise `Unavailable` if the backend cannot be read: a list that is short makes gateways drop
        records (COMP-LIST-02). A driver that overrides `observe` is not asked by the SDK.
        """

    async def get_sandbox(self, ref: SandboxRef) -> ObservedSandbox:
        """Observe one sandbox. Optional: by default it is looked up in a list.

        Worth overriding for a polled driver with many sandboxes, since gateways get each of them
        every minute. Raise `NotFound` only if the backend has said so (COMP-GET-05).
        """
        raise Unimplemented("this driver finds sandboxes in its list")

    async def validate_sandbox_create(self, spec: SandboxSpec) -> None:
        """Refuse what this driver cannot create, without any effect (COMP-VAL-02).

        Called for a validate, and again before each create, so the two agree (COMP-VAL-06). Takes
        below a second (COMP-VAL-07). Raise `InvalidArgument` for what is wrong in itself,
        `FailedPrecondition` for what cannot be had here or now (COMP-VAL-04).
        """

    async def stop_sandbox(self, ref: SandboxRef) -> None:
        """Stop compute and keep data. Returns when it is really stopped (COMP-STOP-02).

        Stopping what is stopped is no error. Raise `NotFound` if the sandbox is not there.
        """
        raise Unimplemented("this driver does not stop sandboxes")

    async def start_sandbox(self, ref: SandboxRef, request: StartRequest) -> str | None:
        """Start stopped compute with the same data, and give its runtime identity (or None).

        Starting what runs is no error and restarts nothing (COMP-START-01). Raise `NotFound` only
        if the sandbox is gone: the gateway creates it anew then (COMP01-START-02). After any other
        error it must be stopped and startable (COMP-START-04).
        """
        raise Unimplemented("this driver does not start sandboxes")

    async def authenticate_sandbox(self, credential: Secret) -> AuthenticatedSandbox:
        """Find the sandbox that a platform credential belongs to.

        Optional: overriding it sets the capability, unless `authenticates_sandboxes` says no, and
        obliges create and start to give a runtime identity. Raise `Unauthenticated` for a bad
        credential, `PermissionDenied` for one of somebody else (COMP01-AUTH-02).
        """
        raise Unimplemented("this driver does not authenticate sandboxes")

    def authenticates_sandboxes(self) -> bool:
        """Say whether `authenticate_sandbox` is offered; by default if it is overridden. Asked
        once, at start: for a driver whose operator may switch it off."""
        return type(self).authenticate_sandbox is not ComputeDriver.authenticate_sandbox

    async def ensure_workspace(self, workspace: str) -> None:
        """Make room for a workspace; it may be there already. Not called before a create: make
        it there if it is missing (COMP-CREATE-10)."""
        raise Unimplemented("this driver has no workspaces")

    async def delete_workspace(self, workspace: str) -> None:
        """Remove what `ensure_workspace` made, and nothing else. One that is not there is no error
        (COMP-WS-03)."""
        raise Unimplemented("this driver has no workspaces")

    async def get_gateway_listener_requirements(self) -> Sequence[ListenerRequirement]:
        """Say where a gateway of the 0.0.x line has to listen; by default nowhere in particular
        (COMP-LSN-01)."""
        return ()

    def admission_policy(self) -> AdmissionPolicy:
        """Say what the operator lets sandboxes attach. Asked once, at start; read the operator's
        choice from the configuration."""
        return AdmissionPolicy()

    async def observe(self, feed: SandboxFeed) -> None:
        """Tell the feed what the backend shows, for as long as the driver serves.

        The default polls `list_sandboxes`. Override it for a backend that pushes: `replace` with
        a complete list, then `update` and `delete`. If it raises or returns, the feed is blind, and
        it is called again a little later.
        """
        await feed.poll(self.list_sandboxes, interval=self.poll_interval, timeout=self.list_timeout)


def parse_config(model: type[Any], value: Mapping[str, Json], field: str = "driver_config") -> Any:
    """Read JSON of a request into a pydantic model. Raises `InvalidArgument` that names the key
    and the rule, never the value (COMP-IN-06)."""
    from openshell_drivers._request_config import parse

    return parse(model, value, field)
