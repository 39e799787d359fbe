"""Each reference driver, under each gateway line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openshell_drivers.testing.gateway import PRESETS
from tests.fakes.commands import Commands
from tests.presets.platforms import PLATFORMS, Platform, sweep


@pytest.fixture(params=PLATFORMS)
def platform(request: pytest.FixtureRequest, short_dir: Path) -> Platform:
    found: Platform = PLATFORMS[request.param](short_dir)
    return found


@pytest.fixture(autouse=True)
def swept(short_dir: Path) -> Iterator[None]:
    yield
    sweep(short_dir)


@pytest.fixture(params=PRESETS)
def preset(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def commands(short_dir: Path) -> Commands:
    return Commands(short_dir)
