"""Run Python as a user without rights, for rules that do not bind root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOMEBODY = 54321
_ROOT = Path(__file__).resolve().parents[2]
# Imports come first: the Python that runs the tests may be root's alone.
_BECOME = """
import os, shutil, socket, sys, tempfile
from pathlib import Path
import anyio._backends._asyncio
from openshell_drivers import SocketError
from openshell_drivers.client import connect_blocking
from openshell_drivers._socket import SocketPolicy, claim
os.setgroups([])
os.setresgid({id}, {id}, {id})
os.setresuid({id}, {id}, {id})
"""


def as_somebody(code: str, *arguments: str) -> str:
    """Run code as `SOMEBODY` and give its output; skips the test where that cannot be."""
    need_root()
    done = subprocess.run(
        [sys.executable, "-c", _BECOME.format(id=SOMEBODY) + code, *arguments],
        cwd=_ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def need_root() -> None:
    """Skip the test if nothing can be given to another user, nor done as one."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
