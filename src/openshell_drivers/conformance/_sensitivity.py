"""Proof on the user's own driver: whether each check that passed would notice a wrong answer.

The check runs again over a proxy that spoils the answers it rests on, in one way after another,
until it fails. One that passes whatever is answered has proved nothing here.
"""

from __future__ import annotations

import asyncio
import itertools
import tomllib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from openshell_drivers.conformance._conduct import Conductor
from openshell_drivers.conformance._outcomes import Broken
from openshell_drivers.conformance._proxy import proxied
from openshell_drivers.conformance._spoils import Spoil, named, spoils
from openshell_drivers.conformance._units import Unit
from openshell_drivers.conformance.report.model import Result

_AT_ONCE: Final = 6
_ONE_TRY: Final = 12.0

Say = Callable[[str, str], None]


@cache
def canonical() -> Mapping[str, str]:
    """The spoil by which each check is known to fail, to try first."""
    file = resources.files("openshell_drivers.conformance").joinpath("spoils.toml")
    table: dict[str, str] = tomllib.loads(file.read_text("utf-8"))["spoils"]
    return table


def provable(unit: Unit) -> bool:
    """Whether answers are all that the check looks at, and some way to spoil them is known."""
    return unit.check.id in canonical()


def spoilable(unit: Unit) -> bool:
    """Whether it looks at answers at all: not at processes, files and logs."""
    check = unit.check
    apart = {"spawned", "outage", "slow"} & set(check.needs)
    return not (check.own or check.last or apart or check.profile == "performance")


async def prove(
    conductor: Conductor, units: Sequence[Unit], results: Sequence[Result], folder: Path, say: Say
) -> dict[str, str]:
    """Prove every check that passed; check -> ``proven``, ``insensitive`` or ``n/a``."""
    passed = {f"{r.check}[{r.preset}]" for r in results if r.outcome == "pass"}
    newest = {unit.check.id: unit for unit in units if unit.key in passed}
    found: dict[str, str] = {}
    numbers = itertools.count()
    limiter = asyncio.Semaphore(_AT_ONCE)

    async def one(unit: Unit) -> None:
        async with limiter:
            spoil = await proof(conductor, unit, lambda: folder / f"p{next(numbers)}")
        found[unit.check.id] = "proven" if spoil else "insensitive"
        say(unit.check.id, spoil)

    async with asyncio.TaskGroup() as tasks:
        for unit in newest.values():
            if provable(unit):
                tasks.create_task(one(unit))
            else:
                found[unit.check.id] = "n/a"
    return found


async def proof(conductor: Conductor, unit: Unit, place: Callable[[], Path]) -> str:
    """Find a spoil by which the check fails: its name, or nothing."""
    known = canonical().get(unit.check.id, "")
    first = named(known) if known else None
    if first is not None and await _fails(conductor, unit, first, place()):
        return known
    for spoil in spoils(await _methods(conductor, unit)):
        if spoil.name != known and await _fails(conductor, unit, spoil, place()):
            return spoil.name
    return ""


async def _methods(conductor: Conductor, unit: Unit) -> list[str]:
    """The methods that the check calls, the last one first: it is mostly what it looks at."""
    calls = await conductor.calls_of(unit)
    return list(dict.fromkeys(reversed(calls)))


async def _fails(conductor: Conductor, unit: Unit, spoil: Spoil, folder: Path) -> bool:
    instance = await conductor.shared(unit.preset)

    async def attempt() -> bool:
        async with proxied(instance, spoil, folder) as front:
            end = await conductor.execute_on(front, unit)
            return isinstance(end.problem, Broken)

    return await _limited(attempt())


async def _limited(work: Awaitable[bool]) -> bool:
    try:
        return await asyncio.wait_for(work, _ONE_TRY)
    except TimeoutError:
        return False


def downgraded(result: Result, found: Mapping[str, str]) -> Result:
    """Say in a result what the proof was; a pass that proves nothing is none."""
    verdict = found.get(result.check)
    if verdict is None or result.outcome != "pass":
        return result
    changes: dict[str, object] = {"sensitivity": verdict}
    if verdict == "insensitive":
        changes["outcome"] = "not-testable"
        changes["reason"] = (
            "it passes even when the answers it rests on are spoilt; "
            "does the profile's template become ready?"
        )
    return result.model_copy(update=changes)
