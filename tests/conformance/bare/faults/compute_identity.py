"""By what sandboxes are known, and whose they are."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._tools import fault, override


@fault("get-falls-back-to-the-name", kills=("COMP-GET-02",))
def _(driver: Driver) -> None:
    """Get of an unknown id gives the sandbox of that name."""

    @override(driver.compute, "get_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if driver.compute.find(request.sandbox_id) is None:
            for resource in driver.platform.resources.all():
                if request.name == resource.name:
                    request.sandbox_id = resource.id
        return await original(request)


@fault("foreign-objects-are-listed", kills=("COMP-LIST-03",))
def _(driver: Driver) -> None:
    """What others made on the platform is taken for the driver's own."""

    @override(driver.observer, "mine")
    def _(_original: Any, _resource: Any) -> bool:
        return True
