"""``python -m tests.conformance.matrix.spoils``: find the spoil by which each check fails, anew.

Writes ``spoils.toml`` of the suite, for `--sensitivity`. What is known and still true stays.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from openshell_drivers.conformance._conduct import Conductor
from openshell_drivers.conformance._sensitivity import proof, spoilable
from openshell_drivers.conformance._units import Unit
from tests.conformance.matrix.harness import ROOT, bare, column

FILE = ROOT / "src" / "openshell_drivers" / "conformance" / "spoils.toml"
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
                name = await proof(conductor, unit, lambda: place(conductor, next(numbers)))
            found[unit.check.id] = name
            sys.stderr.write(f"{unit.check.id}: {name or 'nothing found'}\n")

        async with asyncio.TaskGroup() as tasks:
            for unit in units:
                tasks.create_task(one(unit))
    return found


def place(conductor: Conductor, number: int) -> Path:
    return conductor.folder / f"p{number}"


def main() -> None:
    units = [unit for unit in column() if spoilable(unit)]
    found = asyncio.run(find(units))
    rows = [f'"{name}" = "{spoil}"\n' for name, spoil in sorted(found.items()) if spoil]
    FILE.write_text(HEAD + "".join(rows))


if __name__ == "__main__":
    main()
