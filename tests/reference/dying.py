"""A `Process` driver that is killed at its nth call of a function of `os`: ``NAME:N:before``.

Which one, ``DIE_AT`` says; with ``DIE_LOG`` the calls are written to a file instead. The functions
are those by which a driver changes the world; of those on paths, the calls below the root.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from openshell_drivers.reference.process import Process

_PATHS: Final = ("mkdir", "rename", "replace", "unlink", "rmdir")
_OTHERS: Final = ("posix_spawn", "pidfd_open")
_BELOW: Final = f"{os.sep}root{os.sep}"
_calls: Counter[str] = Counter()
_environment: Final = dict(os.environ)
_log: Final = _environment.get("DIE_LOG", "")
_die_at: Final = _environment.get("DIE_AT", "")


def _instrument(name: str) -> None:
    original: Callable[..., Any] = getattr(os, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if name in _PATHS and _BELOW not in str(args[0]):
            return original(*args, **kwargs)  # the server's, about its socket
        _calls[name] += 1
        point = f"{name}:{_calls[name]}"
        if _log:
            with Path(_log).open("a") as file:
                file.write(f"{point}\n")
        if _die_at == f"{point}:before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return original(*args, **kwargs)
        finally:
            if _die_at == f"{point}:after":
                os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, name, call)


class Dying(Process):
    """A driver that dies."""

    name = "process"


for _name in _PATHS + _OTHERS:
    _instrument(_name)
