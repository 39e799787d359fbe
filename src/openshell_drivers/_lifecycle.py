"""`Lifecycle`: what happens to a sandbox between a gateway's call and the author's method.

One operation on a sandbox at a time; a create that fails leaves nothing behind; what has begun to
stop, start or go is carried to its end, whoever gives up waiting. Knows nothing of the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import anyio
import anyio.abc

from openshell_drivers._board import Board
from openshell_drivers._checks import returned
from openshell_drivers._detached import Detached
from openshell_drivers._entries import Entry
from openshell_drivers._faults import WrongValue, describe, task_cancelled
from openshell_drivers._guards import Rules, admit, require_launch_authentication
from openshell_drivers._locks import KeyedLocks
from openshell_drivers._observing import observing
from openshell_drivers._sandboxes import (
    SandboxRef,
    SandboxSpec,
    StartRequest,
)
from openshell_drivers._scope import CreateScope, ProvisioningFailed
from openshell_drivers._sight import Sight
from openshell_drivers._states import SandboxState
from openshell_drivers._undoing import Undoing
from openshell_drivers.compute import ComputeDriver
from openshell_drivers.errors import (
    AlreadyExists,
    DriverError,
    FailedPrecondition,
    Internal,
    NotFound,
    Unavailable,
)

_log: Final = logging.getLogger("openshell_drivers.compute")
_Before: TypeAlias = tuple[SandboxState | None, float, bool]
_INTERRUPTED: Final = SandboxState.failed("ProvisioningInterrupted", "by a delete that failed")


class _Making:
    """The background work of a create."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()


class Lifecycle:
    """All operations of one driver on its sandboxes."""

    def __init__(self, driver: ComputeDriver[Any], rules: Rules) -> None:
        self.board = Board()
        self._driver = driver
        self._rules = rules
        self._locks = KeyedLocks()
        self._creating: dict[str, set[anyio.CancelScope]] = {}
        self._provisioning: dict[str, _Making] = {}
        self._detached = Detached(driver.lifecycle_timeout)
        self._undoing = Undoing(driver, self.board, self._locks, self._detached)
        self._sight = Sight(driver, self.board)
        kind = type(driver)
        self._stops = kind.stop_sandbox is not ComputeDriver.stop_sandbox
        self._starts = kind.start_sandbox is not ComputeDriver.start_sandbox
        self._identifies = driver.authenticates_sandboxes()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Observe the backend, and own all that goes on beside the calls."""
        async with anyio.create_task_group() as tasks:
            self._detached.tasks = tasks
            tasks.start_soon(observing, self._driver, self.board)
            try:
                yield
            finally:
                self._detached.tasks = None
                self._undoing.hurry()
                tasks.cancel_scope.cancel()

    # Create.

    async def validate(self, spec: SandboxSpec) -> SandboxSpec:
        """Refuse what cannot be created; the same for a validate and a create (COMP-VAL-06)."""
        admitted = admit(spec, self._rules)
        await self._driver.validate_sandbox_create(admitted)
        return admitted

    async def create(self, spec: SandboxSpec) -> str | None:
        """Create, or leave nothing behind. Gives the runtime identity, if the driver has one.

        A stop or a delete that comes before the end ends it (COMP01-CREATE-02).
        """
        scope = anyio.CancelScope()
        return await self._detached.cancellable(scope, self._create_alone, spec, scope)

    async def _create_alone(self, spec: SandboxSpec, scope: anyio.CancelScope) -> str | None:
        here = self._creating.setdefault(spec.id, set())
        here.add(scope)
        try:
            async with self._locks.hold(spec.id):
                return await self._create(spec)
        finally:
            here.discard(scope)
            if not here:
                del self._creating[spec.id]

    async def _create(self, spec: SandboxSpec) -> str | None:
        spec = await self.validate(spec)
        await self._sight.look_for(spec.id)
        await self._refuse_existing(spec.ref)
        scope = CreateScope(
            spec.id, lambda event: self.board.event(spec.id, event), self._undoing.requests
        )
        self.board.hold(spec.id)
        try:
            identity = await returned(str | None, self._driver.create_sandbox, spec, scope)
            self._require_identity(identity)
        except BaseException as error:
            ours = not isinstance(error, AlreadyExists)
            with anyio.CancelScope(shield=True):
                await self._undoing.roll_back(spec.ref, scope, ours=ours)
            self.board.abandon(spec.id, leftover=ours)
            raise
        entry = self.board.accept(
            spec.id, spec.name, spec.workspace, pinned=scope._work is not None
        )
        entry.identity = identity
        if scope._work is not None:
            self._provision(entry, scope._work)
        self._sight.nudge()
        return identity

    async def _refuse_existing(self, ref: SandboxRef) -> None:
        """Refuse an id that is there; what a polled backend has lost meanwhile is not."""
        if self.board.entry(ref.id) is None:
            return
        with contextlib.suppress(NotFound):
            entry = await self.get(ref)
            if not entry.missing:
                raise AlreadyExists("a sandbox with this id exists")
        self.board.forget(ref.id)

    def _require_identity(self, identity: str | None) -> None:
        if self._identifies and not identity:
            raise WrongValue("a driver that authenticates sandboxes gives a runtime identity")

    def _provision(self, entry: Entry, work: Callable[[], Awaitable[None]]) -> None:
        making = _Making()
        self._provisioning[entry.id] = making

        async def carry() -> None:
            try:
                with making.scope:
                    failure = await _failure_of(entry.id, work)
                    entry.pinned = failure is not None
                    shown = failure or SandboxState.starting()
                    self.board.show(entry, shown, done=failure is None)
                    self._sight.nudge()
            finally:
                del self._provisioning[entry.id]
                making.done.set()

        self._detached.start(carry)

    # Delete.

    async def delete(self, ref: SandboxRef) -> bool:
        """Delete in any state; True if there was something."""
        self._end_creating(ref.id)
        return await self._detached.result(self._delete, ref)

    def _end_creating(self, sandbox_id: str) -> None:
        for scope in self._creating.get(sandbox_id, ()):
            scope.cancel()

    async def _delete(self, ref: SandboxRef) -> bool:
        async with self._locks.hold(ref.id):
            interrupted = await self._end_provisioning(ref.id)
            await self._sight.look_for(ref.id)  # "nothing there" must not mean "cannot see"
            entry = self.board.entry(ref.id)
            if entry is None:
                return await returned(bool, self._driver.delete_sandbox, ref)
            before = entry.shown, entry.shown_until, entry.doomed
            if interrupted:
                before = _INTERRUPTED, math.inf, False
            self.board.show(entry, SandboxState.deleting(), done=False)
            try:
                existed = await returned(bool, self._driver.delete_sandbox, ref)
                entry.doomed, entry.touched = True, self.board.mark()
                if not existed and not before[2]:
                    await self._confirm_absence(entry)
            except BaseException:  # visible, and to be deleted again (COMP-DEL-06)
                self.board.restore(entry, *before)
                raise
            if existed and self.board.poller is not None:  # told at once if it is gone already
                self._detached.start(self._sight.poll_once)
            return True

    async def _confirm_absence(self, entry: Entry) -> None:
        """Hold a driver that found nothing to delete to what it lists (COMP-DEL-03)."""
        if entry.observed is not None and await self._sight.is_listed(entry):
            raise Internal("the driver found nothing to delete, and the sandbox is there")
        self.board.delete(entry.id)

    async def _confirm_loss(self, entry: Entry, before: _Before) -> None:
        """Hold a driver that does not find a sandbox to what it lists (COMP-WATCH-07)."""
        try:
            if await self._sight.is_listed(entry):
                raise Unavailable("the driver lists the sandbox and does not find it")
        except BaseException:
            self.board.restore(entry, *before)
            raise

    async def _end_provisioning(self, sandbox_id: str) -> bool:
        """Cancel what a create goes on with, and wait for its end; say whether it did."""
        making = self._provisioning.get(sandbox_id)
        if making is None:
            return False
        making.scope.cancel()
        await making.done.wait()
        return making.scope.cancelled_caught

    # Stop and start.

    async def stop(self, ref: SandboxRef) -> None:
        """Stop; returns when compute is stopped."""
        if not self._stops:
            await self._driver.stop_sandbox(ref)  # says that there is none
        self._end_creating(ref.id)
        await self._detached.result(self._stop, ref)

    async def _stop(self, ref: SandboxRef) -> None:
        async with self._complete(ref.id):
            entry = await self._sight.existing(ref)
            entry.generation = ""
            if _kind(entry) == "stopped":
                return
            before = entry.shown, entry.shown_until, entry.doomed
            self.board.show(entry, SandboxState.stopping(), done=False)
            try:
                await self._driver.stop_sandbox(ref)
            except NotFound:
                await self._confirm_loss(entry, before)
                self.board.delete(ref.id)
                raise
            except BaseException:
                self.board.restore(entry, *before)
                raise
            if entry.pinned:  # it never was complete, and a stop does not mend that
                self.board.restore(entry, *before)
            else:
                self.board.show(entry, SandboxState.stopped(), done=True)
            self._sight.nudge()

    async def start(self, ref: SandboxRef, request: StartRequest) -> str | None:
        """Start; gives the runtime identity, if the driver has one."""
        if not self._starts:
            await self._driver.start_sandbox(ref, request)  # says that there is none
        require_launch_authentication(request.launch_authentication)
        return await self._detached.result(self._start, ref, request)

    async def _start(self, ref: SandboxRef, request: StartRequest) -> str | None:
        async with self._locks.hold(ref.id):
            entry = await self._sight.existing(ref, outage=True)
            if ref.id in self._provisioning:  # on its way already (COMP-START-01)
                return entry.identity
            if request.generation_id and entry.generation == request.generation_id:
                return entry.identity  # a retry of the start that was made (COMP01-START-01)
            _refuse_another(entry, request)
            before = entry.shown, entry.shown_until, entry.doomed
            if _kind(entry) in {"stopped", "exited", "failed", "stopping"}:
                entry.fresh = False
                self.board.show(entry, SandboxState.starting(), done=False)
            try:
                identity = await returned(str | None, self._driver.start_sandbox, ref, request)
                self._require_identity(identity)
            except NotFound:
                await self._confirm_loss(entry, before)
                self.board.forget(ref.id)
                raise
            except BaseException:
                self.board.restore(entry, *before)
                raise
            entry.generation, entry.identity = request.generation_id, identity or entry.identity
            if entry.shown is not None and entry.shown.kind == "starting":
                entry.pinned = False
                self.board.show(entry, SandboxState.starting(), done=True)
            self._sight.nudge()
            return identity

    @asynccontextmanager
    async def _complete(self, sandbox_id: str) -> AsyncIterator[None]:
        """Hold a sandbox when its provisioning is over; a delete does not wait behind that."""
        while True:
            async with self._locks.hold(sandbox_id):
                making = self._provisioning.get(sandbox_id)
                if making is None:
                    yield
                    return
            await making.done.wait()

    # Get and list.

    async def get(self, ref: SandboxRef) -> Entry:
        """Observe one sandbox. Raises `NotFound` if it is gone, `Unavailable` if that cannot be
        seen."""
        return await self._sight.get(ref)

    async def list(self) -> None:
        """Make sure that what the board says of all sandboxes is true now (COMP-LIST-02)."""
        await self._sight.list()


def _refuse_another(entry: Entry, request: StartRequest) -> None:
    known, expected = entry.identity, request.expected_runtime_identity
    if known and expected and known != expected:
        raise FailedPrecondition("the sandbox is not the one that the gateway knows")


def _kind(entry: Entry) -> str:
    if entry.shown is not None:
        return entry.shown.kind
    return "starting" if entry.observed is None else entry.observed.state.kind


async def _failure_of(sandbox_id: str, work: Callable[[], Awaitable[None]]) -> SandboxState | None:
    """Do the background work of a create; give the state that its failure makes."""
    try:
        await returned(object, work)
    except ProvisioningFailed as error:
        return error.state
    except DriverError as error:
        return SandboxState.failed("ProvisioningFailed", error.message)
    except (Exception, asyncio.CancelledError) as error:  # an author's work may raise anything
        if isinstance(error, asyncio.CancelledError) and task_cancelled():
            raise
        _log.error("provisioning failed: %s", describe(error), extra={"sandbox": sandbox_id})
        return SandboxState.failed("ProvisioningFailed", "the driver's log says where")
    return None
