"""What must not be told."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._tools import fault, override


@fault("tokens-are-logged", kills=("COMP-SEC-01",))
def _(driver: Driver) -> None:
    """The sandbox token stands in the log."""

    @override(driver.platform, "deliver")
    def _(original: Any, sandbox_id: str, token: str) -> None:
        driver.log.debug("delivered", sandbox=sandbox_id, token=token)
        original(sandbox_id, token)
