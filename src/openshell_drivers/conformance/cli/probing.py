"""`probe`: what can be found out about a driver by looking at it, for a draft of its profile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from openshell_drivers.conformance._canaries import Canaries
from openshell_drivers.conformance._checks import ServiceName, checks
from openshell_drivers.conformance._detect import Found, detect
from openshell_drivers.conformance._instances import Instance
from openshell_drivers.conformance._ledger import Ledger
from openshell_drivers.conformance._profile import Profile
from openshell_drivers.conformance._targets import Target
from openshell_drivers.conformance.benches._base import Bench, Stall, World
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.testing.gateway import PRESETS

#: The RPCs that a compute driver may do without.
_OPTIONAL: Final = (
    *("StopSandbox", "StartSandbox", "EnsureWorkspace", "DeleteWorkspace", "AuthenticateSandbox"),
)


@dataclass(slots=True, kw_only=True)
class Findings:
    """What was found."""

    name: str
    version: str
    services: list[ServiceName]
    default_image: str = ""
    template: str = ""
    """How the driver answers to a sandbox of the default template; empty if it accepts it."""
    optional: dict[str, bool] = field(default_factory=dict)
    """RPC -> whether the driver has it."""
    known: list[str] = field(default_factory=list)
    """Names of credentials that it lists."""


async def probe(target: Target, profile: Profile) -> Findings:
    """Start the driver and ask it. Creates nothing. Raises `TargetNotReady`."""
    with tempfile.TemporaryDirectory(prefix="osd-") as home:
        folder = Path(home)
        ledger = Ledger(folder / "ledgers", "init")
        (folder / "i").mkdir(mode=0o700)
        instance = Instance(target, profile, folder / "i", ledger)
        world = World(
            run="init",
            profile=profile,
            canaries=Canaries(),
            ledger=ledger,
            stall=Stall(),
            seed=1,
        )
        try:
            await instance.start()
            return await _probed(world, instance, await detect(instance))
        finally:
            await instance.close()
            ledger.close(clean=True)


async def _probed(world: World, instance: Instance, found: Found) -> Findings:
    findings = Findings(name=found.name, version=found.version, services=found.services)
    for service, kind, look in _LOOKS:
        if service in found.services:
            check = next(each for each in checks().values() if each.service == service)
            preset = PRESETS["fork-mvp" if service == "credentials" else "0.1.2"]
            bench = kind(world, check, preset, instance)
            await bench.begin()
            try:
                await look(bench, findings)
            finally:
                await bench.end()
    return findings


async def _compute(bench: ComputeBench, findings: Findings) -> None:
    capabilities = await bench.get_capabilities()
    findings.default_image = capabilities.answer.default_image
    reply = await bench.validate(bench.sandbox())
    findings.template = "" if reply.ok else str(reply)
    for rpc in _OPTIONAL:
        findings.optional[rpc] = await bench.implements(rpc)


async def _credentials(bench: CredentialsBench, findings: Findings) -> None:
    reply = await bench.list_all()
    findings.known = [each.name for each in reply.answer.credentials] if reply.ok else []


_LOOKS: Final[tuple[tuple[ServiceName, type[Bench], Callable[[Any, Findings], Any]], ...]] = (
    ("compute", ComputeBench, _compute),
    ("credentials", CredentialsBench, _credentials),
)
