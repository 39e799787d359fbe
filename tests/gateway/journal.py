"""Wait for what a gateway says."""

from __future__ import annotations

import anyio

from openshell_drivers.testing.gateway import Entry, Gateway


async def told(gateway: Gateway, text: str, within: float = 10.0) -> Entry:
    """Give the first entry of the journal, past or to come, that holds the text."""
    with anyio.fail_after(within):
        async for entry in gateway.follow():
            if text in str(entry):
                return entry
    raise AssertionError("a journal ends only with its gateway")


def phases(gateway: Gateway) -> list[str | None]:
    """The phases in their order, each change once."""
    seen = [entry.phase for entry in gateway.journal if entry.kind == "phase"]
    return [phase for at, phase in enumerate(seen) if at == 0 or seen[at - 1] != phase]
