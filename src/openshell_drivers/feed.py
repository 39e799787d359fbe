"""`SandboxFeed`: where a driver tells what its backend shows.

One observer, any number of watchers; the rest is the SDK's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from openshell_drivers._board import Board
from openshell_drivers._sandboxes import ObservedSandbox, PlatformEvent


class SandboxFeed:
    """What a driver's `ComputeDriver.observe` writes to.

    Each method takes effect at once, and is called from the event loop. The order per sandbox must
    be the backend's (COMP-WATCH-08); an observation that changes nothing costs nothing, and one of
    a sandbox that was deleted is dropped.

    Until the first `replace`, and from `blind` to the next one, List and Get are answered with
    `UNAVAILABLE`, and no sandbox is reported deleted for not being seen (COMP-GET-05,
    COMP-LIST-02, COMP-WATCH-07).
    """

    def __init__(self, board: Board | None = None) -> None:
        self._board = board or Board()

    def replace(self, sandboxes: Iterable[ObservedSandbox]) -> None:
        """Take the complete list of this driver's sandboxes, in any state.

        What it lacks is deleted, at once; but not what was created less than 30 s ago and was
        never seen. After a break in observing, this is the way back.
        """
        self._board.replace(sandboxes)

    def update(self, sandbox: ObservedSandbox) -> None:
        """Take the newest state of one sandbox."""
        self._board.update(sandbox)

    def delete(self, sandbox_id: str) -> None:
        """Take that the backend has nothing left of a sandbox. Never for one that merely cannot
        be seen: its gateway drops the record at once (COMP-WATCH-07)."""
        self._board.delete(sandbox_id)

    def event(self, sandbox_id: str, event: PlatformEvent) -> None:
        """Tell a sandbox's user what happened."""
        self._board.event(sandbox_id, event)

    def blind(self, reason: str = "") -> None:
        """Take that the backend cannot be observed now. The reason goes to whoever asks."""
        self._board.blind(reason)

    async def poll(
        self,
        list_sandboxes: Callable[[], Awaitable[Sequence[ObservedSandbox]]],
        *,
        interval: float,
        timeout: float,
    ) -> None:
        """Ask for the complete list every `interval` seconds, and whenever a gateway asks, for
        ever. A list may take `timeout` seconds.

        A sandbox is deleted after three polls of the interval without it, or one after its delete.
        A failure makes the feed blind until the next success.
        """
        from openshell_drivers._polling import Poller

        await Poller(self._board, list_sandboxes, interval=interval, timeout=timeout).run()
