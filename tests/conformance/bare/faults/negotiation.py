"""The handshake and the admission policy."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._tools import fault, override


@fault("no-extension", kills=("COMP01-NEG-01",))
def _(driver: Driver) -> None:
    """The compute service says nothing of itself."""

    @override(driver.compute, "capabilities")
    def _(original: Any) -> Any:
        return {key: value for key, value in original().items() if key != "extension"}


@fault("any-gateway-is-welcome", kills=("COMP01-NEG-06",))
def _(driver: Driver) -> None:
    """What a gateway says of itself is not looked at."""

    @override(driver.compute.handshake, "judge")
    def _(_original: Any, _request: Any) -> None:
        return
