"""A run of the conformance suite, as tests want it: its verdict, and whatever was not in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

_BAD = frozenset({"fail", "blocked", "not-testable", "not-observable", "error"})


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the engine has said."""

    verdict: str
    services: frozenset[str]
    passed: int
    problems: tuple[str, ...]
    """Checks that failed or could not be judged, leaks and warnings, each with its words."""


async def judge(
    driver: str,
    *,
    profile: Path | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **wanted: list[str],
) -> Judgement:
    """Have an installed driver judged: every check of every profile but performance, under every
    preset, unless `wanted` says otherwise: presets, profiles."""
    variables = None if environment is None else {**os.environ, **environment}
    with tempfile.TemporaryDirectory(prefix="judge-") as text:
        folder = Path(text)
        events = folder / "events"
        events.touch()
        request = folder / "request.json"
        request.write_text(json.dumps({**_request(driver, profile, folder), **wanted}))
        engine = [sys.executable, "-m", "openshell_drivers.conformance.engine", str(request)]
        async with await anyio.open_process(
            engine, cwd=cwd, env=variables, stdout=subprocess.DEVNULL, stderr=None
        ) as process:
            assert process.stdin is not None
            await process.stdin.send(b"go\n")  # it runs until this is closed
            await process.wait()
        said = [json.loads(line) for line in events.read_text().splitlines()]
    return _judged(said)


def _request(driver: str, profile: Path | None, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "openshell_drivers", "run", driver, "--socket", "{socket}"]
    return {
        "target": {
            "given": driver,
            "read_as": f"driver:{driver}",
            "kind": "driver",
            "name": driver,
            "argv": command,
            "verbose": ["--log-level", "debug"],
        },
        "profile": None if profile is None else str(profile),
        "events": str(folder / "events"),
        "ledgers": str(folder / "ledgers"),
    }


def _judged(said: list[dict[str, Any]]) -> Judgement:
    last = said[-1]
    results = [each for each in said if each["event"] == "result"]
    problems = [
        f"{each['check']}[{each['preset']}]: {each['outcome']}: {each['reason']}"
        for each in results
        if each["outcome"] in _BAD
    ]
    problems += [f"left behind: {each}" for each in last.get("leaks", [])]
    problems += last.get("warnings", [])
    return Judgement(
        verdict=last.get("verdict", f"none: {last}"),
        services=frozenset(each["service"] for each in last.get("verdicts", [])),
        passed=sum(each["outcome"] == "pass" for each in results),
        problems=tuple(problems),
    )
