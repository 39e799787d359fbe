"""That the C library took the word."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest


def test_glibc_takes_the_limit_on_arenas() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("another C library than glibc")
    code = "from openshell_drivers._memory import one_arena; print(one_arena())"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "True\n"
