"""``python -m benchmarks.run``: measure, print tables, write the samples as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

from benchmarks import (
    chain,
    compute,
    connecting,
    imports,
    listing,
    stalled,
    stampede,
    startup,
    suite,
    unary,
    watch,
)
from benchmarks.figures import Section
from benchmarks.processes import Bench


class Measure(Protocol):
    """How each section is run."""

    def __call__(self, bench: Bench, *, rounds: int, seconds: float) -> Section: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """A section with its number of rounds, usual and quick."""

    measure: Measure
    rounds: int
    quick: int


SECTIONS = {
    "imports": Plan(imports.measure, 7, 3),
    "startup": Plan(startup.measure, 9, 3),
    "connecting": Plan(connecting.measure, 5, 2),
    "stampede": Plan(stampede.measure, 9, 3),
    "chain": Plan(chain.measure, 15, 5),
    "unary": Plan(unary.measure, 24, 6),
    "compute": Plan(compute.measure, 15, 3),
    "watch": Plan(watch.measure, 12, 2),
    "stalled": Plan(stalled.measure, 2, 1),
    "listing": Plan(listing.measure, 5, 1),
    "suite": Plan(suite.measure, 3, 1),
}
_PACKAGES = ("grpcio", "protobuf", "anyio", "pydantic")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections asked for; 1 if `--check` found a missed target that holds anywhere."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}; default all")
    parser.add_argument("--quick", action="store_true", help="few, short samples: a smoke test")
    parser.add_argument("--rounds", type=int, help="of every section")
    parser.add_argument("--seconds", type=float, help="of one turn of calls")
    parser.add_argument("--output", type=Path, default=Path(".cache/benchmarks.json"))
    parser.add_argument(
        "--check", action="store_true", help="fail on ratios and imports that miss by over 10 %%"
    )
    options = parser.parse_args(arguments)
    chosen = options.sections or list(SECTIONS)
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    seconds = options.seconds or (0.1 if options.quick else 0.15)
    done: dict[str, Section] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        bench = Bench(Path(directory))
        for name in chosen:
            plan = SECTIONS[name]
            rounds = options.rounds or (plan.quick if options.quick else plan.rounds)
            done[name] = plan.measure(bench, rounds=rounds, seconds=seconds)
            print(done[name].text(), end="\n\n", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(_report(done), indent=1))
    print(f"samples: {options.output}")
    targets = [target for section in done.values() for target in section.targets]
    return int(options.check and any(each.failed for each in targets))


def _report(done: dict[str, Section]) -> dict[str, object]:
    machine = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }
    return {
        "machine": machine,
        "sections": {name: asdict(section) for name, section in done.items()},
        "targets": [
            {**asdict(target), "met": target.met}
            for section in done.values()
            for target in section.targets
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
