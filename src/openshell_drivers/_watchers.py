"""`Watcher`: what one watcher has yet to read: an id per sandbox, however long it stalls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from openshell_drivers._sandboxes import SandboxHappening

if TYPE_CHECKING:
    import anyio

_MOST_EVENTS: Final = 1024


@dataclass(slots=True, eq=False)
class Told:
    """An event in a watcher's list, each one for itself."""

    happening: SandboxHappening


@dataclass(slots=True, eq=False)
class Watcher:
    """What one watcher has yet to read, in order: ids, of which True has been deleted meanwhile,
    and events."""

    pending: dict[str | Told, bool] = field(default_factory=dict)
    events: int = 0
    overrun: bool = False
    wake: anyio.Event | None = None

    def mark(self, sandbox_id: str, deleted: bool = False) -> None:
        self.pending[sandbox_id] = deleted or self.pending.get(sandbox_id, False)
        self._rouse()

    def tell(self, happening: SandboxHappening) -> None:
        if self.events >= _MOST_EVENTS:  # it does not read: end it, so that it asks anew
            self.overrun = True
            self.pending.clear()
        else:
            self.events += 1
            self.pending[Told(happening)] = False
        self._rouse()

    def _rouse(self) -> None:
        if self.wake is not None:
            self.wake.set()
            self.wake = None
