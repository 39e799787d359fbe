"""A lifecycle without a socket, and somebody who watches it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel

from openshell_drivers._board import Board
from openshell_drivers._entries import Entry
from openshell_drivers._lifecycle import Lifecycle
from openshell_drivers._sandboxes import SandboxDeleted, SandboxHappening
from openshell_drivers._services.compute import rules
from openshell_drivers.compute import (
    ComputeDriver,
    Sandbox,
    SandboxRef,
    SandboxSpec,
    SandboxTemplate,
    StartRequest,
)

ID = "id-1"
REF = SandboxRef(id=ID, name="box")
START = StartRequest()
DELETED = "deleted"


def spec(sandbox_id: str = ID, name: str = "box") -> SandboxSpec:
    return SandboxSpec(id=sandbox_id, name=name, template=SandboxTemplate(image="image"))


@asynccontextmanager
async def living(driver: ComputeDriver[Any]) -> AsyncIterator[Lifecycle]:
    """Give a lifecycle that has seen its backend."""
    life = Lifecycle(driver, rules(driver))
    async with life.running():
        await life.board.sighted(5)
        yield life


def phase(sandbox: Sandbox | None) -> str:
    """Write the conditions in short: ``Ready=True/Running``, joined by spaces."""
    assert sandbox is not None
    assert sandbox.status is not None
    written = [f"{c.type}={c.status}/{c.reason}" for c in sandbox.status.conditions]
    return " ".join([*written, *(["deleting"] if sandbox.status.deleting else [])])


def shown(board: Board, sandbox_id: str = ID) -> str:
    """How a sandbox is told to be; empty if there is none."""
    entry = board.entry(sandbox_id)
    return "" if entry is None else phase(entry.view)


class Reader:
    """Reads a watch for as long as the context is open."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        """Id and phase, or `DELETED`, or ``event:`` and its reason."""
        self.error: Exception | None = None

    @classmethod
    @asynccontextmanager
    async def of(cls, board: Board) -> AsyncIterator[Reader]:
        reader = cls()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader._read, board)
            await anyio.wait_all_tasks_blocked()
            yield reader
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    async def _read(self, board: Board) -> None:
        try:
            async with aclosing(board.watch()) as changes:
                async for change in changes:
                    if isinstance(change, Entry):
                        self.heard.append((change.id, phase(change.view)))
                    elif isinstance(change, SandboxDeleted):
                        self.heard.append((change.sandbox_id, DELETED))
                    elif isinstance(change, SandboxHappening):
                        self.heard.append((change.sandbox_id, f"event:{change.event.reason}"))
        except Exception as error:  # the test looks at it
            self.error = error

    def of_id(self, sandbox_id: str = ID) -> list[str]:
        return [what for each, what in self.heard if each == sandbox_id]

    def phases(self, sandbox_id: str = ID) -> Iterator[str]:
        return (each for each in self.of_id(sandbox_id) if not each.startswith("event:"))


async def rest() -> None:
    """Let all tasks go on until they wait for something."""
    await anyio.wait_all_tasks_blocked()
