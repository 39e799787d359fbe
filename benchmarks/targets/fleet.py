"""A compute driver that observes the pretended backend: ``fleet WIDTH --socket SOCKET``.

A workspace that is to be ensured is an order to the backend.
"""

from __future__ import annotations

import sys

from benchmarks.targets.backend import Backend, Record
from openshell_drivers import (
    ComputeDriver,
    CreateScope,
    ObservedSandbox,
    SandboxFeed,
    SandboxRef,
    SandboxSpec,
    SandboxState,
)
from openshell_drivers.cli import driver_main


class Fleet(ComputeDriver):
    """Passes on what the backend says."""

    name = "fleet"
    version = "1"
    default_image = "none"
    width = 0

    def __init__(self, config: None = None) -> None:
        super().__init__(config)
        self._backend = Backend(self.width)

    async def observe(self, feed: SandboxFeed) -> None:
        feed.replace(_observed(record) for record in self._backend.all())
        async for batch in self._backend.changes():
            for record in batch:
                feed.update(_observed(record))

    async def list_sandboxes(self) -> list[ObservedSandbox]:
        return [_observed(record) for record in self._backend.all()]

    async def create_sandbox(self, spec: SandboxSpec, scope: CreateScope) -> None:
        """Answer, for the price of a create without a backend."""

    async def delete_sandbox(self, ref: SandboxRef) -> bool:
        return False

    async def ensure_workspace(self, workspace: str) -> None:
        self._backend.order(workspace)


def _observed(record: Record) -> ObservedSandbox:
    return ObservedSandbox(
        id=record.id,
        name=record.name,
        workspace=record.workspace,
        state=SandboxState.ready(record.message).at(record.since),
        instance_id=record.instance_id,
        fence_generation=record.generation,
        fence_digest=record.digest,
    )


if __name__ == "__main__":
    Fleet.width = int(sys.argv[1])
    driver_main(Fleet, argv=sys.argv[2:])
