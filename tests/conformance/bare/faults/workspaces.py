"""EnsureWorkspace and DeleteWorkspace."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import AlreadyExists, FailedPrecondition, NotFound, Refusal
from tests.conformance.bare.faults._tools import fault, override


@fault("ensure-is-an-error", kills=("COMP-WS-01.a",))
def _(driver: Driver) -> None:
    """A driver without workspaces refuses to ensure one."""

    @override(driver.compute, "ensure_workspace")
    async def _(_original: Any, _request: Any) -> Any:
        raise FailedPrecondition("workspaces mean nothing here")


@fault("delete-workspace-is-an-error", kills=("COMP-WS-01.b",), also=("COMP-WS-03",))
def _(driver: Driver) -> None:
    """A driver without workspaces refuses to delete one."""

    @override(driver.compute, "delete_workspace")
    async def _(_original: Any, _request: Any) -> Any:
        raise FailedPrecondition("workspaces mean nothing here")


@fault("ensure-twice-is-an-error", kills=("COMP-WS-02.a",))
def _(driver: Driver) -> None:
    """A workspace that is there cannot be ensured."""
    known: set[str] = set()

    @override(driver.compute, "ensure_workspace")
    async def _(original: Any, request: Any) -> Any:
        if request.workspace in known:
            raise AlreadyExists("there is such a workspace")
        known.add(request.workspace)
        return await original(request)


@fault("empty-workspace-breaks-it", kills=("COMP-WS-02.b",))
def _(driver: Driver) -> None:
    """An empty workspace is an internal error."""

    @override(driver.compute, "judge_workspace")
    def _(_original: Any, workspace: str) -> None:
        if not workspace:
            raise Refusal("no workspace")


@fault("unknown-workspace-is-not-found", kills=("COMP-WS-03.a", "COMP-WS-03.b"))
def _(driver: Driver) -> None:
    """A workspace that is not there cannot be deleted."""
    known: set[str] = set()

    @override(driver.compute, "ensure_workspace")
    async def _(original: Any, request: Any) -> Any:
        known.add(request.workspace)
        return await original(request)

    @override(driver.compute, "delete_workspace")
    async def _(original: Any, request: Any) -> Any:
        if request.workspace not in known:
            raise NotFound("there is no such workspace")
        known.remove(request.workspace)
        return await original(request)


@fault("workspaces-are-deleted-by-prefix", kills=("COMP-WS-03.c",))
def _(driver: Driver) -> None:
    """A delete takes the sandboxes of every workspace whose name begins like that."""

    @override(driver.compute, "delete_workspace")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        for each in driver.platform.resources.all():
            if each.workspace.startswith(request.workspace):
                driver.platform.delete(each.id)
        driver.observer.apply()
        return answer
