"""Telling watches of a state that a sandbox was in, or never was."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Final

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._tools import override
from tests.conformance.bare.hub import Note
from tests.conformance.bare.resources import Resource

_STALE: Final = "stale"
_NUMBERS: Final = itertools.count(1)


def can_tell_stale(driver: Driver) -> None:
    """Let `tell_later` work with this driver."""

    @override(driver.compute, "told")
    def _(original: Any, note: Note) -> Any:
        if note.kind != _STALE:
            return original(note)
        event = driver.compute.messages.WatchSandboxesEvent()
        event.sandbox.sandbox.CopyFrom(driver.snapshots.of(note.event))
        return event


def tell_later(driver: Driver, seconds: float, resource: Resource) -> None:
    """Tell all watches of a sandbox as it is given here."""
    note = Note(_STALE, resource.id, next(_NUMBERS), resource)
    asyncio.get_running_loop().call_later(seconds, driver.hub.tell, note)
