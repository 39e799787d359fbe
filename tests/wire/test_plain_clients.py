"""Clients that know only one revision's own schema are served by the one driver, on one socket."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from openshell_drivers._revisions import revisions
from openshell_drivers.server import running
from tests.wire.vault import Vault

CLIENT = Path(__file__).parent / "plain_client.py"


async def outcome(folder: Path, revision: str, socket: Path) -> tuple[int, str, str]:
    done = await anyio.run_process(
        [sys.executable, str(CLIENT), str(folder), revision, str(socket)],
        check=False,
        cwd=folder,  # nothing of this project is found from here
    )
    return done.returncode, done.stdout.decode().strip(), done.stderr.decode()


@pytest.mark.parametrize("revision", list(revisions()))
async def test_an_unmodified_client_of_every_revision_is_served(
    revision: str, compiled: Callable[[str], Path], vault: Vault, socket_path: Path
) -> None:
    folder = compiled(revision)

    async with running(vault, socket=socket_path):
        code, said, complaint = await outcome(folder, revision, socket_path)

    assert (code, said) == (0, "served"), complaint


async def test_clients_of_all_revisions_are_served_at_once(
    compiled: Callable[[str], Path], vault: Vault, socket_path: Path
) -> None:
    folders = {name: compiled(name) for name in ("fork-mvp", "0.0.111", "0.1.2")}
    results: dict[str, tuple[int, str, str]] = {}

    async def run(name: str, folder: Path) -> None:
        results[name] = await outcome(folder, name, socket_path)

    async with running(vault, socket=socket_path), anyio.create_task_group() as tasks:
        for name, folder in folders.items():
            tasks.start_soon(run, name, folder)

    for name in folders:
        code, said, complaint = results[name]
        assert (code, said) == (0, "served"), complaint
