"""Keeps one cluster running for others: for all workers of a test run, or until it is told to end.

What serves is a process of its own, which has a folder: `access.json` says how to get in, `log`
what went wrong, and a lock on `serving.lock` is held as long as it lives, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from tests.peers.cache import locked
from tests.peers.kube.access import Access
from tests.peers.kube.cluster import START_TIMEOUT, Cluster
from tests.peers.processes import PeerFailed, tail, wait_until

_SERVERS: list[subprocess.Popen[bytes]] = []  # one that is forgotten while it runs is a warning
_ROOT = Path(__file__).resolve().parents[3]


def ensure_served(folder: Path, owner: int | None = None) -> Access:
    """Return the access to the cluster that is served from the folder, starting it if need be.

    One that is started here ends with the process `owner`, where one is named. Of several that ask
    at the same time one starts it, and the others wait. PeerFailed where it does not come up.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder / "start.lock"):
        if not is_served(folder):
            _start(folder, owner)
    return Access.load(folder / "access.json")


def is_served(folder: Path) -> bool:
    """Whether a cluster is up and served from the folder."""
    return (folder / "access.json").exists() and _lock_held(folder)


def stop_serving(folder: Path, timeout: float = 60) -> bool:
    """End the cluster served from the folder; False where there is none, PeerFailed if it stays."""
    if not _lock_held(folder):
        return False
    os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
    if not wait_until(lambda: not _lock_held(folder), timeout):
        raise PeerFailed(f"what serves the cluster in {folder} does not end")
    return True


def serve(
    folder: Path, owner: int | None = None, tell: Callable[[Cluster], None] | None = None
) -> None:
    """Serve a cluster from the folder until interrupted, terminated, or the owner's end.

    PeerFailed where one is served from there already.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    access = folder / "access.json"
    with (folder / "serving.lock").open("w") as lock:
        # Who looks whether it is served holds the lock as well, for a moment.
        if not wait_until(lambda: _take(lock), timeout=2):
            raise PeerFailed(f"a cluster is served from {folder} already")
        access.unlink(missing_ok=True)
        (folder / "pid").write_text(str(os.getpid()))
        with suppress(KeyboardInterrupt), Cluster() as cluster:
            cluster.save(access)
            if tell is not None:
                tell(cluster)
            _await_end(owner)
        access.unlink(missing_ok=True)


def _start(folder: Path, owner: int | None) -> None:
    command = [sys.executable, "-m", "tests.peers.kube", "serve", str(folder)]
    if owner is not None:
        command += ["--owner", str(owner)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _SERVERS.append(server)
    try:
        wait_until(lambda: server.poll() is not None or is_served(folder), START_TIMEOUT)
    finally:
        if not is_served(folder):
            server.terminate()
    if not is_served(folder):
        raise PeerFailed(f"no cluster is served; the log ends:\n{tail(folder / 'log')}")


def _await_end(owner: int | None) -> None:
    """Return when the owner ends; without one, wait for a signal."""
    if owner is None:
        signal.pause()
        return
    try:
        process = os.pidfd_open(owner)
    except ProcessLookupError:
        return
    try:
        select.select([process], [], [])
    finally:
        os.close(process)


def _take(lock: TextIO, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_held(folder: Path) -> bool:
    try:
        with (folder / "serving.lock").open() as lock:
            return not _take(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
