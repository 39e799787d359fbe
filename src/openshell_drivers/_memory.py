"""Keep a driver's process small: one malloc arena instead of one for nearly every thread."""

from __future__ import annotations

import contextlib
from typing import Final

_M_ARENA_MAX: Final = -8  # malloc.h of glibc


def one_arena() -> bool:
    """Have all threads allocate from one arena; False where the C library knows no such thing.

    A driver is an event loop and a few helper threads that hardly meet in malloc, while each arena
    keeps what it once had. Saves about 3 MiB in the Keycloak example under load.
    """
    # Whatever is missing here, the driver serves without it.
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    return False
