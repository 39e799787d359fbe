"""Reads small text files: secrets confined to a directory, and files named by absolute path.

Knows nothing of what the texts mean. Every function here blocks; callers use a thread, except for
`signature`, which only looks.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from openshell_credentials_keycloak._faults import Fault
from openshell_drivers import FailedPrecondition, Secret

LIMIT: Final = 64 * 1024
"""Bytes; the largest file that is read. A CA bundle has a limit of its own."""
CA_LIMIT: Final = 2 * 1024 * 1024

#: Identifies a state of a file: device, inode, size, changed. None if there is no such file.
Signature = tuple[int, int, int, int] | None


def locate(root: Path, ref: str, key: str) -> Path:
    """Find the real file of `ref`, which must lie in `root` once every symlink is followed.

    Symlinks inside are fine: Kubernetes swaps ``..data`` to publish a new version of a volume.
    `Fault` if the file is missing or lies elsewhere; the message names only `key`.
    """
    try:
        inside = root.resolve(strict=True)
        path = (inside / ref).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a loop of symlinks
        raise Fault(FailedPrecondition, f"the file of {key} does not exist") from None
    if not path.is_relative_to(inside):
        raise Fault(FailedPrecondition, f"the file of {key} lies outside secrets_dir")
    return path


def read_text(path: Path, key: str, *, limit: int = LIMIT) -> Secret:
    """Read a regular file of UTF-8, stripped; `Fault` if it is anything else, empty or too big."""
    try:
        content = _read(path, limit + 1)
        if content is None:
            raise Fault(FailedPrecondition, f"the file of {key} is not a regular file")
        if len(content) > limit:
            raise Fault(FailedPrecondition, f"the file of {key} is too large")
        text = content.decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise Fault(FailedPrecondition, f"the file of {key} cannot be read as text") from None
    if not text:
        raise Fault(FailedPrecondition, f"the file of {key} is empty")
    return Secret(text)


def _read(path: Path, limit: int) -> bytes | None:
    # O_NONBLOCK: opening a FIFO must not wait for a writer.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        return file.read(limit) if stat.S_ISREG(os.fstat(handle).st_mode) else None


def signature(path: Path) -> Signature:
    """Tell the state of the file that `path` leads to now; one stat, no reading."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
