"""What the peers share to be fetched: a cache outside the tree, a lock on it, and commands to run.

The cache is `$OPENSHELL_DRIVERS_CACHE`, else `$XDG_CACHE_HOME/openshell-drivers`, else
`~/.cache/openshell-drivers`. What is in it is never written to again.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.peers.processes import PeerMissing


def cache_folder() -> Path:
    """Return where peers are kept between runs."""
    if chosen := os.environ.get("OPENSHELL_DRIVERS_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "openshell-drivers"


def made_cache_folder(what: str) -> Path:
    """Return the cache folder, made where it was not; PeerMissing where it cannot be."""
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PeerMissing(f"no cache folder for {what}: {error}") from error
    return cache


def may_install() -> bool:
    """Whether the user lets the peers install what they need (`OPENSHELL_DRIVERS_INSTALL=1`)."""
    return os.environ.get("OPENSHELL_DRIVERS_INSTALL") == "1"


def run(
    command: Sequence[str],
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run to the end and return what was printed; whatever fails is a reason for PeerMissing."""
    try:
        done = subprocess.run(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissing(f"{command[0]}: {error}") from error
    printed = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise PeerMissing(f"{' '.join(command)} failed ({done.returncode}):\n{printed[-1500:]}")
    return printed


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file, alone on this machine; it is let go when the process ends in any way."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
