"""`Gateway`: one gateway, alive, at the socket of a compute driver."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import anyio
import anyio.abc

from openshell_drivers._services.names import COMPUTE
from openshell_drivers.compute import (
    ComputeCapabilities,
    GpuRequest,
    SandboxSpec,
)
from openshell_drivers.errors import DriverError
from openshell_drivers.secrets import Secret
from openshell_drivers.testing.gateway._admission import judge_acknowledgement, judge_policy
from openshell_drivers.testing.gateway._calls import Calls
from openshell_drivers.testing.gateway._clock import Clock
from openshell_drivers.testing.gateway._core import Core, GatewayOptions, Sessions
from openshell_drivers.testing.gateway._creation import Creation
from openshell_drivers.testing.gateway._dial import dialled
from openshell_drivers.testing.gateway._driver import ComputeCalls, Introduction
from openshell_drivers.testing.gateway._errors import GatewayRefused, NotReached, UserError
from openshell_drivers.testing.gateway._handshake import judge_extension, judge_listeners
from openshell_drivers.testing.gateway._journal import Entry
from openshell_drivers.testing.gateway._lifecycle import Lifecycle
from openshell_drivers.testing.gateway._phases import Phase
from openshell_drivers.testing.gateway._preparation import Preparation
from openshell_drivers.testing.gateway._preset import PRESETS, Preset
from openshell_drivers.testing.gateway._recovery import Recovery
from openshell_drivers.testing.gateway._snapshots import Snapshots
from openshell_drivers.testing.gateway._sweep import Sweep
from openshell_drivers.testing.gateway._table import Record, Row, Table
from openshell_drivers.testing.gateway._watch import Watch


class Gateway(anyio.AsyncContextManagerMixin):
    """Does with a driver what a gateway of the line does, and shows what its user would see.

    ``async with Gateway(socket, preset="0.1.2", speed=60) as gateway:`` dials, shakes hands and
    watches; `GatewayRefused` if that gateway would not start with this driver. Leaving closes the
    stream and the channel at once.

    `speed` is how many of the gateway's seconds pass in a real one. `sessions` says how the
    supervisors behave that the sandboxes' own software would be: they connect as soon as the
    driver calls a sandbox ready, never, or by hand (`connect_session`). `workspace` is the one of
    a user who names none. `records` are those of an earlier life.
    """

    def __init__(
        self,
        socket: Path | str,
        *,
        preset: Preset | str = "0.1-latest",
        speed: float = 1.0,
        sessions: Sessions = "auto",
        workspace: str = "default",
        records: Iterable[Record] = (),
        options: GatewayOptions | None = None,
    ) -> None:
        self.preset = PRESETS[preset] if isinstance(preset, str) else preset
        self._socket = Path(socket)
        self._clock = Clock(speed)
        self._sessions = sessions
        self._workspace = workspace if self.preset.names_per_workspace else ""
        self._options = options or GatewayOptions()
        self._table = Table(self.preset, self._clock)
        self._listeners: tuple[str, ...] = ()
        for record in records:
            self._table.restore(record)

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self, None]:
        failure: Exception | None = None
        async with (
            dialled(
                self._socket,
                self.preset.dial,
                authority=self.preset.authority,
                receive_limit=self.preset.receive_limit,
            ) as channel,
            anyio.create_task_group() as tasks,
        ):
            calls = Calls(channel, COMPUTE, self.preset, trace=self._options.trace)
            try:
                await self._begin(ComputeCalls(calls, self.preset), tasks)
                yield self
            except Exception as error:  # noqa: BLE001  # goes on as it is, not in a group
                failure = error
            finally:
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _begin(self, driver: ComputeCalls, tasks: anyio.abc.TaskGroup) -> None:
        about = await self._introduce(driver)
        core = self._core = Core(
            preset=self.preset,
            clock=self._clock,
            options=self._options,
            sessions=self._sessions,
            table=self._table,
            driver=driver,
            tasks=tasks,
            capabilities=about.capabilities,
            required=frozenset(about.message.extension.required_capabilities),
            policy=self._options.admission.filled(self.preset),
        )
        preparation = Preparation(core)
        self._snapshots = Snapshots(core)
        self._creation = Creation(core, preparation)
        self._lifecycle = Lifecycle(core, self._snapshots, self._creation, preparation)
        self._recovery = Recovery(core, self._lifecycle, self._creation)
        self._sweep = Sweep(core, self._snapshots)
        self._watch = Watch(core, self._snapshots)
        await self._recovery.start_up()
        self._loops = anyio.CancelScope()
        tasks.start_soon(self._loop)

    async def _introduce(self, driver: ComputeCalls) -> Introduction:
        """Ask the driver what it is, and refuse it as the line does."""
        try:
            about = await driver.get_capabilities()
        except DriverError as error:
            raise GatewayRefused(
                "GetCapabilities failed", f"{error.code} {error.message}"
            ) from None
        if self.preset.offers("compute"):
            message = about.message
            extension = message.extension if message.HasField("extension") else None
            judge_extension(extension, self.preset, "compute")
            policy = self._options.admission.filled(self.preset)
            judge_policy(policy)
            judge_acknowledgement(message.resource_admission_policy, policy, self.preset)
        if self.preset.asks_listeners:
            self._listeners = await self._ask_listeners(driver)
        return about

    async def _ask_listeners(self, driver: ComputeCalls) -> tuple[str, ...]:
        try:
            requirements = await driver.get_listener_requirements()
        except DriverError as error:
            raise GatewayRefused(
                "GetGatewayListenerRequirements failed", f"{error.code} {error.message}"
            ) from None
        return judge_listeners(requirements, self._options.port)

    async def _loop(self) -> None:
        with self._loops:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch.forever)
                tasks.start_soon(self._sweep.forever)

    # What a user does

    async def create(
        self,
        name: str,
        *,
        image: str = "",
        environment: dict[str, str] | None = None,
        command: tuple[str, ...] = (),
        gpu: GpuRequest | None = None,
        workspace: str | None = None,
        spec: SandboxSpec | None = None,
    ) -> Record:
        """Create a sandbox; it is accepted when this returns, not ready. Raises `UserError`.

        `spec` is for all else that a user may wish: what is given here goes over it, and its id is
        made up if it is empty.
        """
        wish = spec or SandboxSpec(id="", name=name)
        changes: dict[str, object] = {
            "environment": environment,
            "command": command,
            "gpu": gpu,
            "template": replace(wish.template, image=image) if image else None,
        }
        wish = replace(
            wish,
            name=name,
            workspace=self._space(workspace or wish.workspace or None),
            **{key: value for key, value in changes.items() if value},  # type: ignore[arg-type]
        )
        return (await self._creation.create(wish)).record

    async def stop(self, name: str, *, workspace: str | None = None) -> Record:
        """Stop a sandbox. Raises `UserError`."""
        row = self._row(name, workspace)
        await self._lifecycle.stop(row)
        return row.record

    async def start(self, name: str, *, workspace: str | None = None) -> Record:
        """Start a stopped sandbox; it is accepted when this returns. Raises `UserError`."""
        row = self._row(name, workspace)
        await self._lifecycle.start(row)
        return row.record

    async def delete(self, name: str, *, workspace: str | None = None) -> None:
        """Delete a sandbox; accepted when this returns, its record may go later."""
        await self._lifecycle.delete(self._row(name, workspace))

    async def ensure_workspace(self, workspace: str) -> None:
        """Do what precedes the storing of a provider's secrets in a workspace."""
        await self._workspace_call("ensure", workspace)

    async def delete_workspace(self, workspace: str) -> None:
        """Delete a workspace that has become empty."""
        await self._workspace_call("delete", workspace)

    async def _workspace_call(self, what: str, workspace: str) -> None:
        if not self.preset.names_per_workspace:
            raise UserError("UNIMPLEMENTED", "this gateway knows no workspaces")
        if workspace == "default":
            return
        driver = self._core.driver
        call = driver.ensure_workspace if what == "ensure" else driver.delete_workspace
        try:
            await call(workspace)
        except DriverError as error:
            raise UserError(error.code, error.message) from None

    # What the software inside a sandbox does

    def connect_session(self, name: str, *, workspace: str | None = None) -> None:
        """Let the supervisor of a sandbox connect."""
        self._set_session(self._row(name, workspace), connected=True)

    def disconnect_session(self, name: str, *, workspace: str | None = None) -> None:
        """Let the supervisor of a sandbox go away."""
        self._set_session(self._row(name, workspace), connected=False)

    def _set_session(self, row: Row, *, connected: bool) -> None:
        row.session = connected
        why = "the supervisor connected" if connected else "the supervisor went away"
        self._snapshots.session_changed(row, why)

    def exit_main_process(self, name: str, *, workspace: str | None = None) -> None:
        """Let the main process of a sandbox end. The 0.1.x line restarts it in the background."""
        if self.preset.restart_backoff is None:
            raise UserError("UNIMPLEMENTED", "this gateway restarts no main process")
        self._core.tasks.start_soon(self._recovery.restart, self._row(name, workspace))

    async def issue_token(self, credential: Secret) -> Record:
        """Present a sandbox's platform credential; the sandbox that gets a token for it.

        Raises `UserError`, with ``PERMISSION_DENIED`` unless the driver knows it as a sandbox of
        this gateway with the identity of its last create or start (COMP01-AUTH-03).
        """
        if not self.capabilities.supports_sandbox_authentication:
            raise UserError("UNIMPLEMENTED", "the driver does not authenticate sandboxes")
        try:
            sandbox_id, identity = await self._core.driver.authenticate(credential)
        except DriverError as error:
            raise UserError(error.code, error.message) from None
        row = self._table.get(sandbox_id)
        if row is None or not identity or identity != row.runtime_identity:
            raise UserError("PERMISSION_DENIED", "the sandbox cannot be authenticated")
        return row.record

    # What the gateway does by itself, now

    async def sweep(self) -> None:
        """Compare with the driver's list at once. Raises the `DriverError` that breaks it off."""
        await self._sweep.once()

    async def shut_down(self) -> None:
        """End gracefully: stop watching, and stop all sandboxes of a driver that wants it."""
        self._loops.cancel()
        await self._recovery.shut_down()

    # What can be seen

    @property
    def capabilities(self) -> ComputeCapabilities:
        """What the driver said of itself at the start, as far as the line can read it."""
        return self._core.capabilities

    @property
    def listeners(self) -> tuple[str, ...]:
        """Where the driver wants the gateway to listen as well."""
        return self._listeners

    @property
    def tokens(self) -> tuple[Secret, ...]:
        """The newest thousand tokens that the driver was given: what must show up nowhere."""
        return tuple(self._core.tokens)

    @property
    def watches_opened(self) -> int:
        """How many times the driver has opened the watch so far."""
        return self._watch.opened

    @property
    def records(self) -> tuple[Record, ...]:
        """All sandboxes, oldest first."""
        return tuple(row.record for row in self._table)

    def record(self, name: str, *, workspace: str | None = None) -> Record | None:
        """One sandbox; None if there is none of that name."""
        row = self._table.named(name, self._space(workspace))
        return None if row is None else row.record

    @property
    def journal(self) -> tuple[Entry, ...]:
        """What happened so far and why, oldest first: the last ten thousand entries."""
        return self._table.journal.entries

    def follow(self, start: int = 0) -> AsyncIterator[Entry]:
        """Give all entries of the journal from a number on, then each new one, without end."""
        return self._table.journal.follow(start)

    async def wait_for(
        self, name: str, *phases: Phase, within: float = 30.0, workspace: str | None = None
    ) -> Record:
        """Wait for a sandbox to be in one of the phases, in real seconds.

        Raises `NotReached`, at once if a sandbox that was there is gone.
        """
        with self._limit(f"{name} {' or '.join(phases)}", name, within):
            there = False
            while (found := self.record(name, workspace=workspace)) is None or (
                found.phase not in phases
            ):
                if there and found is None:
                    wanted = f"{name} {' or '.join(phases)}, and it is gone:"
                    raise NotReached(wanted, within, self._history(name))
                there = found is not None
                await self._table.journal.changed()
            return found
        raise AssertionError("unreachable")

    async def wait_gone(
        self, name: str, *, within: float = 30.0, workspace: str | None = None
    ) -> None:
        """Wait until there is no record of a sandbox, in real seconds. Raises `NotReached`."""
        with self._limit(f"{name} gone", name, within):
            while self.record(name, workspace=workspace) is not None:
                await self._table.journal.changed()

    async def wait_watching(self, *, times: int = 1, within: float = 30.0) -> None:
        """Wait until the driver has opened the watch so many times. Raises `NotReached`."""
        with self._limit("watch open", "", within):
            while self._watch.opened < times:
                await self._table.journal.changed()

    @contextmanager
    def _limit(self, wanted: str, name: str, within: float) -> Iterator[None]:
        try:
            with anyio.fail_after(within):
                yield
        except TimeoutError:
            raise NotReached(wanted, within, self._history(name)) from None

    def _history(self, name: str) -> tuple[Entry, ...]:
        return tuple(each for each in self.journal if each.name in {name, ""})

    def _space(self, workspace: str | None) -> str:
        if not self.preset.names_per_workspace:
            return ""
        return self._workspace if workspace is None else workspace

    def _row(self, name: str, workspace: str | None) -> Row:
        row = self._table.named(name, self._space(workspace))
        if row is None:
            raise UserError("NOT_FOUND", f"sandbox {name!r} not found")
        return row
