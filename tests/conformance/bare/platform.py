"""`Platform`: the simulated platform as the driver reaches it, over a line that may be slow or cut.

The platform itself goes on whatever the line does: sandboxes become ready and are removed in an
outage too, only nobody sees it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.conformance.bare.errors import DeadlineExceeded, FailedPrecondition
from tests.conformance.bare.ledger import Ledger
from tests.conformance.bare.resources import (
    DELETING,
    EXITED,
    REFUSED,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    Resource,
    Resources,
)
from tests.conformance.bare.switch import Switch


class Platform:
    """Operations on sandboxes; `reach` or `reach_patiently` goes before each."""

    quick_limit = 4.0
    """Seconds for the platform to answer; after that it counts as out of reach (COMP-GET-05)."""
    patient_limit = 25.0
    """The same where a caller must wait: a start outlasts a slow platform (COMP-START-02)."""
    poll_seconds = 0.05
    tombstone_seconds = 300.0

    def __init__(self, ledger: Ledger, switch: Switch) -> None:
        self.ledger = ledger
        self.resources = Resources(ledger)
        self.switch = switch
        self.tokens: dict[str, str] = {}
        """What was handed to workloads; in memory alone (COMP-SEC-01)."""
        self.bell = asyncio.Event()
        """Set by the next change of any sandbox, whoever makes it; then there is a new one."""
        self._heard = 0

    async def reach(self) -> None:
        """Reach the platform, or raise `Unavailable`."""
        await self.switch.access(self.quick_limit)

    async def reach_patiently(self) -> None:
        """Reach it if it takes long, for a stop or start."""
        await self.switch.access(self.patient_limit)

    def create(
        self, sandbox_id: str, name: str, workspace: str, image: str, workload: Mapping[str, Any]
    ) -> Resource | None:
        """Accept a sandbox; None if there is one with this id, which stays as it is."""
        with self.ledger.writing():  # what fails in here leaves nothing (COMP-CREATE-02)
            made = self.resources.create(sandbox_id, name, workspace, image, workload)
            if made is not None:
                self.admit(made)
        self.ring()
        return made

    def admit(self, resource: Resource) -> None:
        """What the platform refuses only when it is really asked."""
        if resource.image == REFUSED:
            raise FailedPrecondition("the platform refused the image")

    def deliver(self, sandbox_id: str, token: str) -> None:
        """Hand a workload its token."""
        if token:
            self.tokens[sandbox_id] = token

    def start(self, sandbox_id: str, generation: str) -> None:
        """Begin to run what does not; what runs goes on (COMP-START-01)."""
        with self.ledger.writing():
            found = self.resources.get(sandbox_id)
            if found is None:
                return
            if found.state in {STARTING, RUNNING}:
                self.resources.note_generation(sandbox_id, generation or found.generation)
            elif found.state in {STOPPED, EXITED}:
                self.resources.begin_start(sandbox_id, generation)
        self.ring()

    async def stop(self, sandbox_id: str) -> None:
        """Stop what runs, and come back when it does not (COMP-STOP-02)."""
        with self.ledger.writing():
            found = self.resources.get(sandbox_id)
            if found is not None and found.state in {STARTING, RUNNING, EXITED}:
                self.resources.begin_stop(sandbox_id)
        self.ring()
        await self.until(lambda: self._is_still(sandbox_id))

    def _is_still(self, sandbox_id: str) -> bool:
        found = self.resources.get(sandbox_id)
        return found is None or found.state not in {STARTING, RUNNING, STOPPING}

    def delete(self, sandbox_id: str) -> None:
        """Begin to remove it; from here on nothing stops that."""
        with self.ledger.writing():
            found = self.resources.get(sandbox_id)
            if found is not None and found.state != DELETING:
                self.resources.begin_delete(sandbox_id)
        self.tokens.pop(sandbox_id, None)
        self.ring()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the platform has come so far."""
        try:
            async with asyncio.timeout(self.patient_limit):
                while not condition():
                    await self.bell.wait()
        except TimeoutError:
            raise DeadlineExceeded("the platform did not finish in time") from None

    def ring(self) -> None:
        """Wake all who wait for a change."""
        self._heard = self.ledger.rev
        self.bell.set()
        self.bell = asyncio.Event()

    async def run(self) -> None:
        """The platform's own work, for as long as the driver lives."""
        self.ledger.forget_tombstones(self.tombstone_seconds)
        while True:
            soonest = self.resources.advance()
            if self.ledger.rev != self._heard:
                self.ring()
            wait = self.poll_seconds if self.ledger.shared else 60.0
            if soonest is not None:
                wait = max(0.0, min(wait, soonest - time.time()))
            try:
                async with asyncio.timeout(wait):
                    await self.bell.wait()
            except TimeoutError:
                continue
