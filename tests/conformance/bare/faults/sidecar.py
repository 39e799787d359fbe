"""The socket and the process."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._tools import fault, override


@fault("socket-is-open-to-all", kills=("COMP-SOCK-05",))
def _(driver: Driver) -> None:
    """Everybody may connect."""
    driver.socket.mode = 0o666


@fault("live-socket-is-taken-over", kills=("COMP-SOCK-04",))
def _(driver: Driver) -> None:
    """A socket that somebody listens on is replaced."""

    @override(driver.socket, "is_live")
    def _(_original: Any) -> bool:
        return False
