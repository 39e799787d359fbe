"""The upstream credential store."""

from __future__ import annotations

from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._tools import fault, override


@fault("overwrite-gives-a-new-handle", kills=("CREDU-STORE-02",))
def _(driver: Driver) -> None:
    """A value that is overwritten goes under another handle; the old one keeps the old value."""

    @override(driver.store, "handle_for")
    def _(original: Any, request: Any, owner: Any) -> str:
        request.ClearField("existing_handle")
        return str(original(request, owner))


@fault("handles-are-not-bound-to-a-workspace", kills=("CREDU-HND-02",))
def _(driver: Driver) -> None:
    """A handle works in every workspace."""

    @override(driver.store.handles, "bound")
    def _(original: Any, owner: Any) -> list[str]:
        bound: list[str] = original(owner)
        return bound[1:]
