"""``python -m tests.conformance.matrix.spoils``: find the spoil by which each check fails, anew.

Writes ``spoils.toml`` of the suite, for `--sensitivity`. What is known and still true stays.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from openshell_drivers.conformance._conduct import Conductor
from openshell_drivers.conformance._sensitivity import canonical, proof, spoilable
from openshell_drivers.conformance._units import Unit
from tests.conformance.matrix.harness import ROOT, bare, column

FILE = ROOT / "src" / "openshell_drivers" / "conformance" / "spoils.toml"
LONGEST = 40.0
"""Seconds for one check."""
HEAD = """\
# The spoil by which each check is known to fail.
# Written by: python -m tests.conformance.matrix.spoils
[spoils]
"""


async def find(units: list[Unit]) -> dict[str, str]:
    """Try every check on the bare driver."""
    found: dict[str, str] = {}
    numbers = itertools.count()
    limiter = asyncio.Semaphore(4)
    async with bare() as conductor:
        await conductor.instance()

        async def one(unit: Unit) -> None:
            async with limiter:
                work = proof(conductor, unit, lambda: place(conductor, next(numbers)))
                try:
                    name = await asyncio.wait_for(work, LONGEST)
                except TimeoutError:
                    name = ""
            found[unit.check.id] = name
            write(found)
            sys.stderr.write(f"{unit.check.id}: {name or 'nothing found'}\n")

        async with asyncio.TaskGroup() as tasks:
            for unit in units:
                tasks.create_task(one(unit))
    return found


def place(conductor: Conductor, number: int) -> Path:
    return conductor.folder / f"p{number}"


def write(found: dict[str, str]) -> None:
    """Write down what is known so far, with what was known of others."""
    known = {**canonical(), **found}
    rows = [f'"{name}" = "{spoil}"\n' for name, spoil in sorted(known.items()) if spoil]
    FILE.write_text(HEAD + "".join(rows))


def main() -> None:
    wanted = sys.argv[1:]
    asyncio.run(find([unit for unit in column(wanted) if spoilable(unit)]))


if __name__ == "__main__":
    main()
