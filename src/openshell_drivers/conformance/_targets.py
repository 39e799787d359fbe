"""`Target`: what is to be judged, after exactly one reading of what the user gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["driver", "command", "socket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A driver, and how a process of it is started."""

    given: str
    """As on the command line."""
    read_as: str
    """The explicit form, such as ``cmd:./driver --bind-socket {socket}``."""
    kind: Kind
    """``driver``: on our SDK, so that it has a test switch. ``command``: anything else."""
    name: str
    """A short name for headings."""
    argv: tuple[str, ...] = ()
    """The command, with ``{socket}`` and ``{dir}``; empty for a socket."""
    verbose: tuple[str, ...] = ()
    """Arguments that make it log all it can."""
    socket: Path | None = None
    """Where it already serves."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that the user passes on by name."""

    @property
    def attached(self) -> bool:
        """Whether it was running before the suite came."""
        return self.kind == "socket"
