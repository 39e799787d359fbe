from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.front.hosts import Host


@pytest.fixture
def host(short_dir: Path) -> Host:
    return Host(short_dir / "host")
