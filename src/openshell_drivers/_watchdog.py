"""`Watchdog`: the end of a process that does not end by itself."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterable
from typing import Final

from openshell_drivers._faults import places

_FRAMES: Final = 4
_log: Final = logging.getLogger("openshell_drivers.server")


class Watchdog:
    """Ends the process if something in it blocks the loop or does not let itself be cancelled."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._threads: list[threading.Thread] | None = None

    def arm(self, seconds: float) -> None:
        """End the process after this time, unless disarmed or armed anew before."""
        self.disarm()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """Call it off."""
        if self._timer is not None:
            self._timer.cancel()

    def watch_only(self, threads: Iterable[threading.Thread]) -> None:
        """The loop has ended; from now on only threads that it left can hold up the process."""
        self._threads = [thread for thread in threads if not thread.daemon]

    def _end(self) -> None:
        if self._threads is not None and not any(each.is_alive() for each in self._threads):
            return
        # What the main thread does now is what would not end, if it is not merely waiting.
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        stack = [] if frame is None else list(traceback.walk_stack(frame))
        where = places(reversed(stack), _FRAMES)
        _log.critical("something would not end; leaving without it", extra={"busy": where})
        os._exit(1)
