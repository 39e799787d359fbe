"""`Ledger`: what a run has made and not yet seen gone, on disk before it is made.

One JSON line per step in a file of its own; `sweep` reads it when the run could not finish.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_SUFFIX: Final = ".jsonl"


class Ledger:
    """The file of one run. What `write` was given outlives the process, kill -9 included.

    The end of the machine it may not: to wait for the disk at each row took a fifth of a run.
    """

    def __init__(self, folder: Path, run: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / f"{run}{_SUFFIX}"
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, step: str, **what: Any) -> None:
        """Add a row."""
        os.write(self._file, json.dumps({"step": step, **what}).encode() + b"\n")

    def close(self, *, clean: bool) -> None:
        """End it; a run that left nothing behind leaves no ledger either."""
        os.close(self._file)
        if clean:
            self.path.unlink(missing_ok=True)


def ledgers(folder: Path) -> Iterator[Path]:
    """The ledgers of runs that did not finish, or still run."""
    yield from sorted(folder.glob(f"*{_SUFFIX}"))


def read_ledger(path: Path) -> list[Mapping[str, Any]]:
    """Read the rows; the last one may be half written."""
    rows = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
