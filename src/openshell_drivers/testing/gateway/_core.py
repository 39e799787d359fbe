"""`Core`: what all parts of a running gateway share, and work that outlives its caller."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import anyio
import anyio.abc

from openshell_drivers.compute import ComputeCapabilities
from openshell_drivers.errors import DriverError, FailedPrecondition
from openshell_drivers.secrets import Secret
from openshell_drivers.testing.gateway._admission import GatewayAdmission
from openshell_drivers.testing.gateway._clock import Clock
from openshell_drivers.testing.gateway._driver import ComputeCalls
from openshell_drivers.testing.gateway._errors import UserError
from openshell_drivers.testing.gateway._preset import Preset
from openshell_drivers.testing.gateway._table import Row, Table

T = TypeVar("T")
Sessions = Literal["auto", "never", "by hand"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """How an operator has set the gateway up. The default is a gateway with no configuration."""

    admission: GatewayAdmission = field(default_factory=GatewayAdmission)
    port: int = 8080
    """Of its own listener; a driver's listener requirements have to name it."""
    trace: bool = False
    """Send a ``traceparent`` with every compute call, where the line can."""
    signs: bool = True
    """Whether it has a signer for tokens; without one, sandboxes get none."""
    recover: bool = True
    """Whether it takes up at its start what an earlier life left (contract 3.11): stopping and
    starting sandboxes, and all of them for a driver with ``gateway_manages_lifecycle``."""


@dataclass(slots=True, kw_only=True)
class Core:
    """The running gateway's parts."""

    preset: Preset
    clock: Clock
    options: GatewayOptions
    sessions: Sessions
    table: Table
    driver: ComputeCalls
    tasks: anyio.abc.TaskGroup
    capabilities: ComputeCapabilities
    required: frozenset[str] = frozenset()
    """The capabilities that the driver requires of the gateway."""
    policy: GatewayAdmission = field(default_factory=GatewayAdmission)
    order: anyio.Lock = field(default_factory=anyio.Lock)
    """What the fork's sweep and watch hold in turn."""
    tokens: deque[Secret] = field(default_factory=lambda: deque(maxlen=1000))
    """The newest secrets that the driver was given."""

    async def reread(self) -> None:
        """Read the capabilities again, where the line does, and refuse a changed policy."""
        if not self.preset.rereads_capabilities:
            return
        now = await self.driver.get_capabilities()
        known = self.capabilities.resource_admission_policy
        if now.capabilities.resource_admission_policy != known:
            raise FailedPrecondition("policy changed; restart the gateway")

    async def apart(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work in a task of the gateway's: a user who goes away does not stop it."""
        return await self.begin(work).result()

    def begin(self, work: Callable[[], Awaitable[T]]) -> Outcome[T]:
        """Begin the work in a task of the gateway's."""
        outcome: Outcome[T] = Outcome()
        self.tasks.start_soon(outcome.run, work)
        return outcome

    def refuse_pending(self, row: Row) -> None:
        """Refuse an operation on a sandbox whose last one has not been undone yet."""
        if row.pending:
            raise UserError("FAILED_PRECONDITION", "an earlier operation is still being reclaimed")


class Outcome(Generic[T]):
    """How work in another task ended, once it has."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self._value: list[T] = []
        self._error: DriverError | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        return self._error is not None

    async def run(self, work: Callable[[], Awaitable[T]]) -> None:
        """Do the work and keep what comes of it."""
        try:
            self._value.append(await work())
        except DriverError as error:
            self._error = error
        finally:
            self.done.set()

    async def result(self) -> T:
        """Wait for the end and give the value or raise the error."""
        await self.done.wait()
        if self._error is not None:
            raise self._error
        if not self._value:
            raise UserError("CANCELLED", "the gateway has ended")
        return self._value[0]
