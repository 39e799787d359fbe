"""Faults: one changed decision each, which one check of the suite must find. Variants: legal oddity.

A fault is a function that changes the driver before it serves. Write it into the module of its
topic; every module here is loaded, and ``python -m tests.conformance.bare --fault NAME`` applies it:

    @fault("get-unknown-is-ok", kills=("COMP-GET-01",))
    def _(driver: Driver) -> None:
        \"\"\"An unknown id is answered with an empty OK.\"\"\"

        @override(driver.compute, "get_sandbox")
        async def _(original: Any, request: Any) -> Any:
            try:
                return await original(request)
            except NotFound:
                return driver.compute.messages.GetSandboxResponse()

`override` replaces a method of one object; the replacement gets the original first. A constant is
just assigned (``driver.socket.mode = 0o666``). Where decisions live: ``driver.compute`` (RPCs by
name, `find`, `make`, `begin`, `greet`, `told`, ``judge``, ``handshake``, ``workloads``, ``locks``),
``driver.snapshots`` (status, `ready`, `condition`), ``driver.observer`` and ``driver.hub`` (the
watch), ``driver.platform`` and its ``resources`` (time, states, what is kept), ``driver.credentials``
with ``cache`` and ``issuer``, ``driver.store`` with ``handles`` and ``vault``, ``driver.calls``
(headers, `before`, `encode`, `status`, `record`), ``driver.socket``, ``driver.log``, ``driver.drain``.

One decision only, in three to ten lines; ``kills`` names the clauses that it breaks. A variant is
written with ``@variant(name)``, breaks nothing, and must be passed by every check.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import CannotServe
from tests.conformance.bare.faults._tools import FOUND, Fault


def known() -> list[Fault]:
    """All faults and variants of all modules, by name."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return [FOUND[name] for name in sorted(FOUND)]


def apply(driver: Driver, names: Sequence[str]) -> None:
    """Apply faults to a driver; raises `CannotServe` for a name that there is not."""
    by_name = {each.name: each for each in known()}
    for name in names:
        if name not in by_name:
            raise CannotServe(f"there is no fault {name!r}")
        by_name[name].change(driver)
