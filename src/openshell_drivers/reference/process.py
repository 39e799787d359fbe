"""`Process`: sandboxes as local processes, for development. **They isolate nothing.**

A command runs on the host as the driver's own user, and can read and kill whatever that user can:
the driver, the other sandboxes and their tokens. An image, a policy and a workload identity mean
nothing here, but for two images that do something on purpose: with ``process/unpullable`` no
command is found, with ``process/lengthy`` it begins some seconds late. Linux only.

A sandbox is a directory below the root: ``workspace``, in which the command runs and which is its
``HOME``; ``output.log`` with what it printed, 8 MiB at most with the file before it; ``token``; and
from a launch authentication ``supervisor.json`` and ``workload.json``, the second without secrets.
It is ready when the command has been executed. It ends with its command, and then everything that
the command has started is killed. It lives on when the driver ends in any way, and the next driver
on the same root finds it; a service manager must not kill it with the driver (``KillMode=process``
in systemd).
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.abc
import anyio.to_thread
from pydantic import Field

from openshell_drivers import (
    ComputeDriver,
    CreateScope,
    DriverConfig,
    DriverError,
    FailedPrecondition,
    NotFound,
    ObservedSandbox,
    SandboxFeed,
    SandboxRef,
    SandboxSpec,
    Secret,
    StartRequest,
    Unavailable,
)
from openshell_drivers.reference._box import Box, refusal
from openshell_drivers.reference._folder import (
    TOKEN,
    Folder,
    Launch,
    Phase,
    Record,
    new_mark,
    open_folder,
)
from openshell_drivers.reference._launching import (
    first_launch,
    later_launch,
    launch_files,
    require_program,
)
from openshell_drivers.reference._runs import Run

_log: Final = logging.getLogger("openshell_drivers.reference.process")
_LOOK_SECONDS: Final = 1.0
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class ProcessConfig(DriverConfig):
    """What an operator may set."""

    root: Path
    """The directory that holds everything, on a local file system; made with mode 0700 if only it
    is missing. For one driver at a time."""
    stop_grace: float = Field(default=5.0, ge=0, le=60)
    """Seconds between SIGTERM and SIGKILL at a stop. What the command has started is killed as soon
    as the command has ended."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables that every sandbox gets, below those of its user: ``PATH``, if the usual
    directories do not do. No secrets."""


class Process(ComputeDriver[ProcessConfig]):
    """Run sandboxes as processes of this host, without isolation. For development."""

    name = "process"
    default_image = "host"
    gateway_manages_lifecycle = True
    _folder: Folder
    _tasks: anyio.abc.TaskGroup

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self._feed = SandboxFeed()
        self._boxes: dict[str, Box] = {}
        self._creating: dict[str, anyio.Event] = {}
        with open_folder(self.config.root) as self._folder:
            records = await anyio.to_thread.run_sync(self._load)
            async with anyio.create_task_group() as self._tasks:
                for record in records:
                    self._find_again(record)
                yield
                self._tasks.cancel_scope.cancel()  # of those who look on; the sandboxes live on

    # What there is.

    def _load(self) -> list[Record]:
        self._folder.tidy()
        return self._folder.records()

    def _find_again(self, record: Record) -> None:
        """Take up a sandbox where the driver before has left it."""
        box = self._boxes[record.id] = Box(record)
        if record.phase == "stopped":
            return
        box.run = self._run_of(box, record)
        self._tasks.start_soon(box.run.attend)
        if record.phase == "stopping":
            self._tasks.start_soon(self._finish, self._stop, box)
        elif record.phase == "deleting":
            self._tasks.start_soon(self._finish, self._remove, box)

    async def _finish(self, work: Callable[[Box], Awaitable[None]], box: Box) -> None:
        """Carry to its end what a driver before had begun."""
        async with box.lock:
            try:
                await work(box)
            except DriverError as error:
                _log.warning("unfinished: %s", error.message, extra={"sandbox": box.record.id})

    async def observe(self, feed: SandboxFeed) -> None:
        self._feed = feed
        for box in self._present():
            if box.run is not None:
                await box.run.known.wait()
        sighted = False
        while True:
            sighted = await self._look(feed, sighted)
            await anyio.sleep(_LOOK_SECONDS)  # what is pushed does not wait for this

    async def _look(self, feed: SandboxFeed, sighted: bool) -> bool:
        """See whether the root is there, and all that is in it."""
        before = self._present()
        try:
            ids = await _disk(self._folder.ids)
        except Unavailable as error:
            feed.blind(error.message)
            return False
        if not sighted:
            await self._look_again(feed)
        for box in before:
            if box.record.id not in ids and not box.leaving:
                self._lose(box)
        return True

    async def _look_again(self, feed: SandboxFeed) -> None:
        """See again, and read what could not be read when it happened."""
        for box in self._present():
            if box.run is not None and not box.run.alive:
                await box.run.look()
        feed.replace([box.observed() for box in self._present()])

    def _lose(self, box: Box) -> None:
        """Somebody has removed its directory: that is its end."""
        del self._boxes[box.record.id]
        box.leaving = True

        async def clear_away() -> None:
            if box.run is not None:
                with contextlib.suppress(Unavailable):
                    await box.run.end()
            if box.record.id not in self._boxes:
                self._feed.delete(box.record.id)

        self._tasks.start_soon(clear_away)

    async def list_sandboxes(self) -> Sequence[ObservedSandbox]:
        await _disk(self._folder.require)
        return [box.observed() for box in self._present()]

    def _present(self) -> list[Box]:
        return list(self._boxes.values())

    def _publish(self, box: Box) -> None:
        if not box.leaving:
            self._feed.update(box.observed())

    async def _turn(self, box: Box, phase: Phase) -> None:
        """Write down a new phase, then tell of it."""
        record = replace(box.record, phase=phase)
        await _disk(self._folder.write, record)
        box.record = record
        self._publish(box)

    # Create.

    async def validate_sandbox_create(self, spec: SandboxSpec) -> None:
        launch = self._launch(spec, mark="")
        launch_files(spec.launch_authentication)
        await anyio.to_thread.run_sync(require_program, launch)

    def _launch(self, spec: SandboxSpec, mark: str) -> Launch:
        folder = self._folder.of(spec.id)
        return first_launch(spec, folder, mark, self.config.environment)

    async def create_sandbox(self, spec: SandboxSpec, scope: CreateScope) -> None:
        # In a task of its own: what a thread is doing to the disk goes on when a call is cancelled,
        # and the delete that follows has to wait for its end.
        done = anyio.Event()
        failure: list[Exception] = [Unavailable("the driver is shutting down")]
        self._creating[spec.id] = done

        async def create() -> None:
            try:
                await self._create(spec)
                failure.clear()
            except Exception as error:  # noqa: BLE001  # for whoever waits, not for the group
                failure[:] = [error]
            finally:
                del self._creating[spec.id]
                done.set()

        self._tasks.start_soon(create)
        await done.wait()
        if failure:
            raise failure[0]

    async def _create(self, spec: SandboxSpec) -> None:
        record = Record(id=spec.id, name=spec.name, workspace=spec.workspace, mark=new_mark())
        files = launch_files(spec.launch_authentication)
        if spec.sandbox_token is not None:
            files[TOKEN] = spec.sandbox_token
        await _disk(self._folder.add, record, self._launch(spec, record.mark), files)
        box = self._boxes[spec.id] = Box(record)
        await self._begin(box, record)

    def _run_of(self, box: Box, record: Record) -> Run:
        folder = self._folder.of(record.id)
        return Run(folder, record.mark, record.run, changed=partial(self._publish, box))

    async def _begin(self, box: Box, record: Record) -> Run:
        run = self._run_of(box, record)
        await _disk(run.launch)
        box.record, box.run = record, run
        self._tasks.start_soon(run.attend)
        self._publish(box)
        return run

    # Stop, start, delete.

    @asynccontextmanager
    async def _held(self, ref: SandboxRef) -> AsyncIterator[Box]:
        """Keep a sandbox to oneself."""
        await _disk(self._folder.require)
        box = self._boxes.get(ref.id)
        if box is None:
            raise NotFound("there is no sandbox with this id")
        async with box.lock:
            if box.leaving:
                raise NotFound("the sandbox has just been removed")
            yield box

    async def stop_sandbox(self, ref: SandboxRef) -> None:
        async with self._held(ref) as box:
            if box.record.phase != "stopped":
                await self._stop(box)

    async def _stop(self, box: Box) -> None:
        await self._turn(box, "stopping")
        try:
            if box.run is not None:
                await box.run.end(self.config.stop_grace)
        except Unavailable:
            await self._turn(box, "running")
            raise
        await self._turn(box, "stopped")

    async def start_sandbox(self, ref: SandboxRef, request: StartRequest) -> None:
        files = launch_files(request.launch_authentication)
        async with self._held(ref) as box:
            if box.record.phase != "running" or box.run is None or not box.run.alive:
                await self._start(box, files)

    async def _start(self, box: Box, files: Mapping[str, Secret]) -> None:
        record = replace(box.record, phase="running", run=box.record.run + 1)
        launch = await _disk(self._folder.launch, record.id)
        await _disk(self._folder.renew, record.id, later_launch(launch), files)
        await _disk(self._folder.write, record)
        try:
            run = await self._begin(box, record)
            await run.known.wait()
            if run.report is not None and run.report.outcome == "refused":
                raise FailedPrecondition(refusal(run.report)[1])
        except DriverError:
            await self._turn(box, "stopped")
            raise

    async def delete_sandbox(self, ref: SandboxRef) -> bool:
        if ref.id in self._creating:
            await self._creating[ref.id].wait()
        try:
            async with self._held(ref) as box:
                await self._remove(box)
        except NotFound:
            return await _disk(self._folder.discard, ref.id)
        return True

    async def _remove(self, box: Box) -> None:
        box.leaving = True
        try:
            if box.run is not None:
                await box.run.end()
            await _disk(self._folder.write, replace(box.record, phase="deleting"))
            box.remains = True
            await _disk(self._folder.remove, box.record.id)
        except BaseException:
            box.leaving = False
            self._publish(box)
            raise
        del self._boxes[box.record.id]
        self._feed.delete(box.record.id)


async def _disk(work: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    """Do what blocks in a thread. Raises `Unavailable` for what the file system refuses."""
    try:
        return await anyio.to_thread.run_sync(work, *args)
    except OSError as error:
        word = errno.errorcode.get(error.errno or 0, "unknown")
        raise Unavailable(f"the root directory cannot be used ({word})") from None
