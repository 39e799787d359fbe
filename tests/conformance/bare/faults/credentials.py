"""The fork's credentials."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.faults._tools import fault, override


@fault("each-call-fetches", kills=("CREDF-RES-03",))
def _(driver: Driver) -> None:
    """Nothing is kept: every call has a token minted."""

    @override(driver.credentials.cache, "is_fresh")
    def _(_original: Any, _token: Any, _minted: float) -> bool:
        return False

    @override(driver.credentials.cache, "fetch")
    def _(_original: Any, name: str) -> Any:
        return asyncio.ensure_future(driver.credentials.issuer.mint(name))
