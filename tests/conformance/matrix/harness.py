"""Judge the bare driver with one fault or variant, without a process for the suite itself."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from openshell_drivers.conformance._canaries import Canaries
from openshell_drivers.conformance._conduct import Conductor
from openshell_drivers.conformance._ledger import Ledger
from openshell_drivers.conformance._profile import Profile, read_profile
from openshell_drivers.conformance._targets import Target
from openshell_drivers.conformance._units import Selection, Unit, plan
from openshell_drivers.conformance.benches._base import Stall, World
from openshell_drivers.conformance.engine import metered
from openshell_drivers.conformance.report.model import Leak, Result

ROOT = Path(__file__).resolve().parents[3]
BARE = ROOT / "tests" / "conformance" / "bare"
SERVICES = ("compute", "credentials", "credential-store")
COMMAND = (
    *(sys.executable, "-m", "tests.conformance.bare"),
    *("--bind-socket", "{socket}", "--state", "{dir}/state", "--switch", "{switch}"),
)


@dataclass(frozen=True)
class Fault:
    """One change of the bare driver."""

    name: str
    text: str
    kills: tuple[str, ...]
    also: tuple[str, ...]
    legal: bool


@cache
def faults() -> Mapping[str, Fault]:
    """All of them, asked of the driver: its messages must not meet ours in one process."""
    command = [sys.executable, "-m", "tests.conformance.bare", "--list-faults"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    return {
        name: Fault(
            name,
            about["text"],
            tuple(about["kills"]),
            tuple(about["also"]),
            bool(about.get("legal", False)),
        )
        for name, about in json.loads(said).items()
    }


def profile() -> Profile:
    """The bare driver's own, with its commands run from the project's folder."""
    return read_profile(BARE / "profile.toml")


def column(checks: Iterable[str] = ()) -> list[Unit]:
    """Each check once, under the newest preset that has it."""
    newest: dict[str, Unit] = {}
    for unit in plan(Selection(checks=tuple(checks)), SERVICES):
        newest[unit.check.id] = unit
    return list(newest.values())


def every(checks: Iterable[str]) -> list[Unit]:
    """These checks under each preset that has them."""
    wanted = set(checks)
    return [unit for unit in plan(Selection(), SERVICES) if unit.check.id in wanted]


@dataclass
class Judged:
    """What came out."""

    results: list[Result]
    leaks: list[Leak]

    def with_outcome(self, *outcomes: str) -> dict[str, Result]:
        """The checks that ended so."""
        return {r.check: r for r in self.results if r.outcome in outcomes}


def judge(units: list[Unit], *names: str) -> Judged:
    """Run the units against the bare driver with these faults."""
    return asyncio.run(_judge(units, names))


async def _judge(units: list[Unit], names: tuple[str, ...]) -> Judged:
    results: list[Result] = []
    async with bare(*names) as conductor:
        await conductor.run(units, results.append)
    return Judged(results, conductor.leaks)


@asynccontextmanager
async def bare(*names: str) -> AsyncIterator[Conductor]:
    """A conductor at the bare driver with these faults."""
    changes = [word for name in names for word in ("--fault", name)]
    target = Target(
        given="bare", read_as="bare", kind="command", name="bare", argv=(*COMMAND, *changes)
    )
    folder = Path(tempfile.mkdtemp(prefix="osd-"))
    world = World(
        run="cfmatrix",
        profile=profile(),
        canaries=Canaries(),
        ledger=Ledger(folder / "ledgers", "matrix"),
        stall=Stall(),
        seed=1,
    )
    conductor = Conductor(target, world, folder, repeat=lambda unit: unit.key)
    try:
        async with metered(world.stall):
            yield conductor
    finally:
        await conductor.close()
        world.ledger.close(clean=True)
        shutil.rmtree(folder, ignore_errors=True)
