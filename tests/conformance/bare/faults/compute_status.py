"""Conditions and status."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._tools import fault, override


@fault("provisioning-looks-like-failure", kills=("COMP-STAT-02",))
def _(driver: Driver) -> None:
    """A sandbox that starts has a reason that gateways take for the end."""

    @override(driver.snapshots, "ready")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        if made.reason == "Starting":
            made.reason = "PullingImage"
        return made
