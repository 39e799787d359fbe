"""The conformance suite itself: a whole run on the driver ``memory``, under all gateways."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Section, Target, median
from benchmarks.processes import Bench

_SCRIPT = Path(sys.executable).with_name("openshell-drivers")
_RUNS = {"core": (["--profile=core"], 10.0), "all but performance": ([], 60.0)}


def measure(bench: Bench, *, rounds: int, seconds: float) -> Section:
    """Judge in turn, `rounds` times; the seconds are those of the whole command."""
    del seconds
    section = Section(
        title="Conformance suite: `verify memory`, all gateways and services",
        columns=("profile", "results", "s", "best s", "CPU s"),
    )
    turns = [
        {name: _judge(bench.directory, options) for name, (options, _) in _RUNS.items()}
        for _ in range(rounds)
    ]
    for name, (_, limit) in _RUNS.items():
        taken = [turn[name]["seconds"] for turn in turns]
        cpu = [turn[name]["cpu"] for turn in turns]
        results = turns[0][name]["results"]
        row = (name, f"{results:.0f}", f"{median(taken):.1f}", f"{min(taken):.1f}")
        section.rows.append((*row, f"{median(cpu):.1f}"))
        section.targets.append(
            Target(what=f"{name}: whole run", value=median(taken), limit=limit, unit="s")
        )
    section.samples = [{"profile": name, **turn[name]} for turn in turns for name in _RUNS]
    return section


def _judge(directory: Path, options: list[str]) -> dict[str, float]:
    report = directory / "suite"
    words = [str(_SCRIPT), "verify", "memory", f"--report={report}", "--report-formats=json"]
    before, began = os.times(), time.perf_counter()
    done = subprocess.run([*words, *options], cwd=directory, capture_output=True, check=False)
    taken, after = time.perf_counter() - began, os.times()
    if done.returncode:
        raise RuntimeError(f"verify ended with {done.returncode}: {done.stdout[-2000:].decode()}")
    found = json.loads((report / "report.json").read_text())
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return {"seconds": taken, "cpu": cpu, "results": float(len(found["results"]))}
