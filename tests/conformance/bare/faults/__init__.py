'''Faults: one changed decision each, which the suite must find. Variants: odd but legal.

A fault is a function that changes the driver before it serves. It stands in the module of its
topic; all modules here are loaded. ``python -m tests.conformance.bare --fault NAME`` applies it.

    @fault("get-unknown-is-ok", kills=("COMP-GET-01",))
    def _(driver: Driver) -> None:
        """An unknown id is answered with an empty OK."""

        @override(driver.compute, "get_sandbox")
        async def _(original: Any, request: Any) -> Any:
            if driver.compute.find(request.sandbox_id) is None:
                return driver.compute.messages.GetSandboxResponse()
            return await original(request)

`override` replaces a method of one object; the replacement gets the original as its first argument.
Constants are assigned: ``driver.socket.mode = 0o666``. Change one decision only, in three to ten
lines; the docstring's first line is what reports show, ``kills`` names the clauses that it breaks.
A variant has ``@variant(NAME)`` instead and breaks none. The decisions, by their place:

- ``driver.compute``: a method for each RPC, and what they share (`find`, `make`, `greet`,
  `told`); in it ``judge`` (the rules of Validate), ``handshake``, ``workloads``, ``locks``
- ``driver.snapshots``: what is said; ``driver.observer``, ``driver.hub``: when, and to whom
- ``driver.platform`` and its ``resources``: states and how long they take; ``driver.switch``
- ``driver.credentials``: ``cache``, ``issuer``; ``driver.store``: ``handles``, ``vault``
- ``driver.calls``: headers, `before`, `parse`, `encode`, `status`, `record`; ``driver.log``
- ``driver.socket``: each rule of the path; ``driver.drain``, ``driver.listen_to_signals``: the end
'''

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
