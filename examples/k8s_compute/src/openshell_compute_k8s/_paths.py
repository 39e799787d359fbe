"""Paths in a sandbox that are not the user's, and how paths lie to each other."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

RESERVED_PATHS: Final = (
    "/dev",
    "/etc/openshell",
    "/etc/openshell-tls",
    "/opt/openshell",
    "/proc",
    "/run/netns",
    "/run/openshell",
    "/run/openshell-sidecar",
    "/run/secrets",
    "/sys",
    "/tls",
    "/var/run/openshell",
)
"""Nothing of the user's is mounted there, below, or above: the runtime's, and what any supervisor
knows."""


def overlaps(one: str, other: str) -> bool:
    """Say whether one path is the other or lies in it. ``/var/run`` counts as ``/run``, which it
    is a link to in most images."""
    return any(
        lies_in(first, second) or lies_in(second, first)
        for first in _spellings(one)
        for second in _spellings(other)
    )


def lies_in(path: str, folder: str) -> bool:
    """Say whether the path is the folder or below it."""
    return PurePosixPath(path).is_relative_to(folder)


def _spellings(path: str) -> set[str]:
    linked = PurePosixPath(path)
    if not linked.is_relative_to("/var/run"):
        return {path}
    return {path, str(PurePosixPath("/run") / linked.relative_to("/var/run"))}
