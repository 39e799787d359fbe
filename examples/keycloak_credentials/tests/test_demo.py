"""``make demo``, which shows this driver at work: it leaves nothing, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers.processes import wait_until

ROOT = Path(__file__).resolve().parents[3]


def running_with(folder: Path) -> list[str]:
    """Give the processes that were started with the folder in their environment."""
    # One that is dead and waits to be reaped has none.
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(folder).encode() in environment.read_bytes():
                found.append(environment.parent.name)
        except OSError:
            continue  # it ended while we looked, or is another user's
    return found


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Give the demo's TMPDIR, with a path short enough to have a socket below it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


@contextmanager
def demo(temporary: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_demo_ends_well_and_leaves_nothing(temporary: Path) -> None:
    with demo(temporary) as process:
        said, _ = process.communicate(timeout=50)

    assert process.returncode == 0, said
    assert "exit status 0, socket gone" in said
    assert list(temporary.iterdir()) == []
    assert running_with(temporary) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("chapter", ["1.", "2.", "3.", "4.", "5.", "7."])
def test_demo_that_is_stopped_says_so_and_leaves_nothing(
    temporary: Path, chapter: str, number: signal.Signals
) -> None:
    with demo(temporary) as process:
        assert process.stdout is not None
        assert any(line.startswith(chapter) for line in process.stdout)
        process.send_signal(number)
        said, _ = process.communicate(timeout=50)

    assert process.returncode == 128 + number
    assert said.splitlines()[-1].startswith("Stopped.")
    assert "Traceback" not in said
    assert list(temporary.iterdir()) == []
    assert running_with(temporary) == []


def test_killed_demo_leaves_nothing_running(temporary: Path) -> None:
    with demo(temporary) as process:
        assert process.stdout is not None
        assert any(line.startswith("3.") for line in process.stdout)
        process.kill()
        process.wait(20)

    assert wait_until(lambda: running_with(temporary) == [], 20)
