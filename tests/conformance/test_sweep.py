"""A run that is killed leaves a ledger, and `sweep` leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fakes.process import eventually

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def home() -> Iterator[Path]:
    """A short folder for everything that the suite makes: sockets have 107 bytes for a path."""
    folder = Path(tempfile.mkdtemp(prefix="sw-", dir="/tmp"))
    yield folder
    for process in living(folder):
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def environment(home: Path) -> dict[str, str]:
    (home / "tmp").mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(home / "tmp"), "XDG_STATE_HOME": str(home / "state")}


def living(home: Path) -> list[psutil.Process]:
    """Processes that have to do with the folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if process.pid != os.getpid() and any(str(home) in word for word in words):
            found.append(process)
    return found


def rows(home: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for path in (home / "state").rglob("*.jsonl"):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    return found


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "openshell_drivers", *words]


def kill(run: subprocess.Popen[bytes], home: Path) -> None:
    """Kill a run of the suite as a machine that goes down would."""
    engine = next(row["engine"] for row in rows(home) if row["step"] == "run")
    os.kill(int(str(engine)), signal.SIGKILL)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def sweep(home: Path) -> None:
    """Remove what is left of killed runs; all of it."""
    swept = subprocess.run(
        command("sweep", "--yes"),
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert swept.returncode == 0, swept


@pytest.mark.parametrize("driver", ["process", "memory"])
def test_kill_9_in_the_middle_then_sweep(home: Path, driver: str) -> None:
    lifecycle = ("--preset", "0.1-latest", "--profile", "lifecycle")
    run = subprocess.Popen(
        command("verify", driver, *lifecycle),
        env=environment(home),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )

    def under_way() -> bool:
        return sum(row["step"] == "create" for row in rows(home)) >= 3

    assert eventually(under_way, 60)
    kill(run, home)
    assert living(home), "the drivers went by themselves, so this proves nothing"

    shown = subprocess.run(
        command("sweep"), env=environment(home), capture_output=True, text=True, check=False
    )
    assert "cf" in shown.stdout, shown
    assert living(home), "a dry run has killed something"
    sweep(home)
    assert eventually(lambda: not living(home), 20), living(home)
    assert list((home / "state").rglob("*.jsonl")) == []
    assert [path.name for path in (home / "tmp").glob("osd-*")] == []


def test_a_run_whose_terminal_dies_cleans_up_by_itself(home: Path) -> None:
    run = subprocess.Popen(
        command("verify", "memory", "--preset", "0.1-latest", "--profile", "lifecycle"),
        env=environment(home),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert eventually(lambda: any(row["step"] == "create" for row in rows(home)), 60)
    engine = int(str(next(row["engine"] for row in rows(home) if row["step"] == "run")))
    for process in psutil.process_iter(["pid"]):
        if process.pid not in {engine, os.getpid()} and process.pid in group(run.pid):
            process.kill()
    run.wait()
    assert eventually(lambda: not psutil.pid_exists(engine), 60)
    assert eventually(lambda: not living(home), 20), living(home)
    assert list((home / "state").rglob("*.jsonl")) == []
    assert [path.name for path in (home / "tmp").glob("osd-*")] == []


def group(leader: int) -> set[int]:
    """The processes of a group."""
    found = set()
    for process in psutil.process_iter(["pid"]):
        try:
            if os.getpgid(process.pid) == leader:
                found.add(process.pid)
        except ProcessLookupError:
            continue
    return found
