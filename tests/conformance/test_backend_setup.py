"""A profile may make a backend for each process of the driver, and it is always removed again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conformance.test_sweep import command, environment, home, kill, rows, sweep
from tests.fakes.process import eventually

__all__ = ["home"]
pytestmark = pytest.mark.timeout(120)

_KNOWN = ("--preset", "0.1-latest", "--check", "COMP-CREATE-01.a,COMP-SOCK-07.*")


def profile(home: Path, *, setup: str = "", teardown: str = "") -> tuple[str, ...]:
    """A profile whose backend is a file named like the process's folder."""
    backends = home / "backends"
    backends.mkdir()
    make = setup or f"touch {backends}/$(echo {{dir}} | tr / _)"
    drop = teardown or f"rm {backends}/$(echo {{dir}} | tr / _)"
    arguments = '["--set", "state={dir}/state.db", "--set", "ready_seconds=0.05"]'
    path = home / "profile.toml"
    path.write_text(
        f"[target]\narguments = {arguments}\nisolated = true\n"
        f"[backend]\nsetup = ['sh', '-c', '{make}; echo {{{{}}}}']\n"
        f"teardown = ['sh', '-c', '{drop}; echo {{{{}}}}']\n".replace("{{}}", "{}")
    )
    return ("--config", str(path))


def backends(home: Path) -> list[str]:
    return sorted(each.name for each in (home / "backends").iterdir())


def verify(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("verify", "memory", *words),
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_process_has_a_backend_of_its_own_and_none_is_left(home: Path) -> None:
    config = profile(home)
    seen = home / "seen"
    text = (home / "profile.toml").read_text()
    (home / "profile.toml").write_text(text.replace("touch", f"echo {{dir}} >> {seen}; touch"))
    done = verify(home, *config, *_KNOWN)
    assert done.returncode == 0, done
    made = seen.read_text().splitlines()
    assert len(made) > 1, "a check that ends the process has one of its own"
    assert len(set(made)) == len(made), "one folder was set up twice"
    assert backends(home) == []


def test_a_backend_that_cannot_be_made_is_no_verdict_on_the_driver(home: Path) -> None:
    done = verify(home, *profile(home, setup="echo no room >&2; exit 3"), *_KNOWN)
    assert done.returncode == 4, done
    assert "the verb setup ended with status 3: no room" in done.stdout + done.stderr


def test_a_backend_that_cannot_be_removed_stays_in_the_ledger(home: Path) -> None:
    config = profile(home, teardown="exit 3")
    done = verify(home, *config, *_KNOWN)
    assert backends(home) != []
    assert rows(home), f"nothing is left to sweep by: {done}"


def test_a_run_that_is_killed_has_its_backends_swept(home: Path) -> None:
    run = subprocess.Popen(
        command("verify", "memory", *profile(home), "--preset", "0.1-latest"),
        env=environment(home),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert eventually(lambda: len(backends(home)) >= 2, 60)
    kill(run, home)
    assert backends(home), "they went by themselves, so this proves nothing"
    sweep(home)
    assert backends(home) == []
