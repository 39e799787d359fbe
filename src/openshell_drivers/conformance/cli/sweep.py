"""``openshell-drivers sweep``: remove what interrupted runs have left behind."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from openshell_drivers._flags import Parser
from openshell_drivers._logs import printable
from openshell_drivers.conformance._asked import BadOption, seconds
from openshell_drivers.errors import ConfigError
from openshell_drivers.settings import state_folder

if TYPE_CHECKING:
    from openshell_drivers.conformance._sweep import Leftover


def sweep(arguments: list[str]) -> int:
    """Run the command. Exit status 1 if something could not be removed."""
    parser = Parser(
        "openshell-drivers sweep", "Remove what interrupted runs of verify have left behind."
    )
    parser.add_argument(
        "--older-than", default="", metavar="TIME", help="only runs that began longer ago: 90s, 1h"
    )
    parser.add_argument("--yes", action="store_true", help="do it; without it, it is only shown")
    options = parser.parse(arguments)
    found = _found(options.older_than)
    if not found:
        print("nothing is left behind")
        return 0
    for each in found:
        age = (time.time() - each.began) / 60
        print(f"{printable(str(each), 300)}; {age:.0f} min ago")
    if not options.yes:
        print("nothing was removed; --yes does it")
        return 0
    problems = asyncio.run(_sweep(found))
    for problem in problems:
        print(f"not removed: {printable(problem, 500)}")
    print("removed" if not problems else "the rest was removed")
    return int(bool(problems))


def _found(older_than: str) -> list[Leftover]:
    from openshell_drivers.conformance import _sweep

    try:
        age = seconds(older_than, "older-than") if older_than else 0.0
    except BadOption as error:
        raise ConfigError(str(error)) from None
    found, strange = _sweep.leftovers(state_folder() / "ledgers")
    for path in strange:
        print(f"{printable(str(path))} is no ledger of this version: remove it by hand")
    return [each for each in found if time.time() - each.began >= age]


async def _sweep(found: list[Leftover]) -> list[str]:
    from openshell_drivers.conformance import _sweep

    problems = []
    for each in found:
        problems += await _sweep.sweep(each)
    return problems
