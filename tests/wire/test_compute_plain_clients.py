"""Compute gateways that know only their revision's own schema are served by the one driver."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from openshell_drivers._revisions import revisions
from openshell_drivers.server import running
from tests.wire.compute_gateway import memory

CLIENT = Path(__file__).parent / "compute_plain_client.py"


@pytest.mark.parametrize("revision", list(revisions()))
async def test_an_unmodified_compute_client_of_every_revision_is_served(
    revision: str, compiled: Callable[[str], Path], socket_path: Path
) -> None:
    folder = compiled(revision)

    async with running(memory(ready_seconds=0.05), socket=socket_path):
        done = await anyio.run_process(
            [sys.executable, str(CLIENT), str(folder), revision, str(socket_path)],
            check=False,
            cwd=folder,  # nothing of this project is found from here
        )

    assert (done.returncode, done.stdout.decode().strip()) == (0, "served"), done.stderr.decode()
