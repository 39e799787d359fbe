"""`CreateScope`: what a create has to undo if it fails, and what goes on after its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from openshell_drivers._checks import returned
from openshell_drivers._faults import WrongType, WrongValue, describe
from openshell_drivers._sandboxes import PlatformEvent
from openshell_drivers._states import SandboxState
from openshell_drivers.errors import DeadlineExceeded, DriverError, FailedPrecondition

if TYPE_CHECKING:
    import anyio

Step = Callable[..., Awaitable[object]]
T = TypeVar("T")
SHIELDED_SECONDS: Final = 30.0


class ProvisioningFailed(FailedPrecondition):
    """A sandbox cannot be made: its state becomes ``failed`` with this reason.

    Raised from `ComputeDriver.create_sandbox` itself it is a `FailedPrecondition`, whose message
    the gateway passes on (COMP-CREATE-06).
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message)
        self.state = SandboxState.failed(reason, message)


class CreateScope:
    """Given to `ComputeDriver.create_sandbox`: one create from its call to its end."""

    def __init__(
        self,
        sandbox_id: str,
        tell: Callable[[PlatformEvent], None],
        shields: set[anyio.CancelScope],
    ) -> None:
        self._id = sandbox_id
        self._tell = tell
        self._shields = shields
        self._steps: list[tuple[Step, tuple[Any, ...]]] = []
        self._work: Callable[[], Awaitable[None]] | None = None

    def undo(self, step: Step, *args: Any) -> None:
        """Have ``await step(*args)`` called if the create fails or is cancelled, the last first.

        Register a step *before* what it undoes, since a create can be cancelled at any await; so a
        step must bear that nothing was done yet. After the steps the SDK calls
        `ComputeDriver.delete_sandbox`, so what that removes needs no step (COMP-CREATE-08).

        After `AlreadyExists` neither the step registered last is taken nor that delete made: what
        they would remove is somebody else's.
        """
        _require_callable("undo", step)
        self._steps.append((step, args))

    async def shielded(
        self, call: Callable[..., Awaitable[T]], *args: Any, seconds: float = SHIELDED_SECONDS
    ) -> T:
        """Give ``await call(*args)``, carried to its end even if the create is cancelled meanwhile.

        For the request that makes the sandbox: given up on its way, it might take effect after the
        undoing has found nothing (COMP-CREATE-08). A cancellation waits for it, and a process that
        ends for a second and a half. Raises `DeadlineExceeded` after `seconds`.
        """
        import anyio
        import anyio.lowlevel

        _require_callable("shielded", call)
        await anyio.lowlevel.checkpoint_if_cancelled()
        deadline = anyio.current_time() + seconds
        with anyio.CancelScope(shield=True, deadline=deadline) as shield:
            self._shields.add(shield)
            try:
                value: T = await call(*args)
            finally:
                self._shields.discard(shield)
        await anyio.lowlevel.checkpoint_if_cancelled()
        if shield.cancelled_caught:
            raise DeadlineExceeded(f"the platform did not answer within {seconds:g} s")
        return value

    @asynccontextmanager
    async def optional(self, what: str) -> AsyncIterator[None]:
        """Do without: a failure inside becomes a warning to the sandbox's user.

        The warning names `what`, and the message of a `DriverError`, but of no other exception.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001  # an author's step may raise anything
            self._warn("without %s: %s", what, describe(error))
            why = f": {error.message}" if isinstance(error, DriverError) and error.message else ""
            self.event(
                PlatformEvent(
                    reason="Skipped", message=f"The sandbox has no {what}{why}", type="Warning"
                )
            )

    def event(self, event: PlatformEvent) -> None:
        """Tell the sandbox's user what happens; told once the create has succeeded."""
        if not isinstance(event, PlatformEvent):
            raise WrongType(f"an event is a PlatformEvent, not {type(event).__name__}")
        self._tell(event)

    def in_background(self, work: Callable[[], Awaitable[None]]) -> None:
        """Go on with ``await work()`` when the gateway has its answer; once per create.

        Until it ends the sandbox is ``starting``, whatever the backend shows. If it raises, it is
        ``failed`` until it is deleted: with the reason of `ProvisioningFailed`, else with
        ``ProvisioningFailed`` (COMP-CREATE-09). A delete cancels it first. It ends with the
        process, so a driver that finds the rest of one at its start has to settle it.
        """
        _require_callable("in_background", work)
        if self._work is not None:
            raise WrongValue("a create has one piece of background work")
        self._work = work

    async def _roll_back(self, *, but_last: bool = False) -> bool:
        """Undo, or all but the last step; False if one has failed."""
        from asyncio import CancelledError

        clean = True
        if but_last and self._steps:
            self._steps.pop()
        while self._steps:
            step, args = self._steps.pop()
            try:
                await returned(object, step, *args)
            except (Exception, CancelledError) as error:  # noqa: BLE001  # the others must be undone
                clean = False
                self._warn("an undo step failed: %s", describe(error))
        return clean

    def _warn(self, text: str, *args: object) -> None:
        import logging

        log = logging.getLogger("openshell_drivers.compute")
        log.warning(text, *args, extra={"sandbox": self._id})


def _require_callable(where: str, work: object) -> None:
    if not callable(work):
        if hasattr(work, "close"):
            work.close()  # a coroutine, which would complain of not being awaited
        raise WrongType(f"{where} wants an async function, uncalled, not {type(work).__name__}")
