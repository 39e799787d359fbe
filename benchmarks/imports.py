"""What each public module costs to import, and what must not come with it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from benchmarks.figures import Section, Target, median
from benchmarks.processes import Bench

_HEAVY = frozenset({"pydantic", "pydantic_core", "httpx", "httpx2", "yaml", "kubernetes_asyncio"})
#: statement -> top-level modules that must not be loaded by it
STATEMENTS: Mapping[str, frozenset[str]] = {
    "import grpc.aio": frozenset(),
    "import openshell_drivers": _HEAVY | {"grpc", "google", "anyio", "asyncio"},
    "import openshell_drivers.tokens": _HEAVY | {"grpc", "google"},
    "import openshell_drivers.client": _HEAVY,
    "import openshell_drivers.server": _HEAVY,
    "import openshell_drivers.server, openshell_drivers._services.credentials": _HEAVY,
}
_PROGRAM = """
import sys, time
before = set(sys.modules)
began = time.perf_counter()
{statement}
took = time.perf_counter() - began
added = [name for name in sys.modules if name not in before]
import json
print(json.dumps([took, added]))
"""


def measure(bench: Bench, *, rounds: int, seconds: float) -> Section:
    """Import each in a fresh interpreter, `rounds` times, in turn."""
    section = Section(
        title="Imports, with bytecode",
        columns=("statement", "ms", "best ms", "modules", "denied"),
    )
    found: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    added: dict[str, list[str]] = {}
    for turn in range(-1, rounds):  # the first compiles the bytecode
        for statement in STATEMENTS:
            took, added[statement] = _import(bench, statement)
            if turn >= 0:
                found[statement].append(took * 1000)
    for statement, denied in STATEMENTS.items():
        bad = {name.partition(".")[0] for name in added[statement]} & denied
        section.rows.append(
            (
                statement,
                f"{median(found[statement]):.0f}",
                f"{min(found[statement]):.0f}",
                str(len(added[statement])),
                " ".join(sorted(bad)) or "-",
            )
        )
        section.targets.append(
            Target(
                what=f"{statement}: denied modules", value=len(bad), limit=0, unit="", ratio=True
            )
        )
    section.samples = {"ms": found, "modules": added}
    return section


def _import(bench: Bench, statement: str) -> tuple[float, list[str]]:
    took, added = json.loads(bench.python("-c", _PROGRAM.format(statement=statement)))
    return took, added
