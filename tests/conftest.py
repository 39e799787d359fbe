"""What all tests share: the async backend, and a place for sockets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path is short enough for sockets, whatever the test is called."""
    home = Path(tempfile.mkdtemp(prefix="osd-"))
    yield home
    shutil.rmtree(home)


@pytest.fixture
def socket_path(short_dir: Path) -> Path:
    """Where a driver may put its socket; the server makes the directory."""
    return short_dir / "run" / "driver.sock"
