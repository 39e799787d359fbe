"""The commands with a compute driver, in processes of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openshell_drivers import ConfigError
from openshell_drivers.cli import _require_same_capabilities
from openshell_drivers.reference.memory import Memory, MemoryConfig
from tests.fakes.commands import Commands, Serving

CANARY = "canary-7c11d0"


@pytest.fixture
def cli(short_dir: Path) -> Commands:
    return Commands(short_dir)


@pytest.fixture
def memory(cli: Commands, socket_path: Path) -> Iterator[Serving]:
    """`memory`, found at the variable that the gateways give."""
    variables = {
        "OPENSHELL_COMPUTE_DRIVER_SOCKET": str(socket_path),
        "OPENSHELL_DRIVER_CONFIG_CREDENTIALS": json.dumps({"github": CANARY}),
    }
    with cli.serving(socket_path, "run", "memory", env=variables) as serving:
        yield serving


def answer(cli: Commands, socket: Path, *method: str) -> Any:
    return json.loads(cli.run("call", "--socket", socket, *method).out)


def test_the_drivers_of_the_package_are_listed_and_checked(cli: Commands) -> None:
    listed = {line.split()[0] for line in cli.run("list").out.splitlines()}
    checked = cli.run("check", "memory")

    assert {"memory", "process"} <= listed
    assert "openshell.compute.v1.ComputeDriver" in checked.out
    assert cli.run("check", "process", "--set", "root=x").status == 0
    assert "root: is missing" in cli.run("check", "process").problem


def test_call_shows_sandboxes_and_what_each_service_can_do(
    cli: Commands, memory: Serving, socket_path: Path
) -> None:
    one = cli.run("gateway", "--socket", socket_path, "create", "one")
    capabilities = answer(cli, socket_path, "capabilities")
    (sandbox,) = answer(cli, socket_path, "sandboxes")

    assert one.status == 0
    assert capabilities["compute"]["resource_admission_policy"] == "v1:{}"
    assert capabilities["credential_store"]["driver_name"] == "memory"
    assert (sandbox["name"], sandbox["status"]["conditions"][0]["status"]) == ("one", "True")
    assert answer(cli, socket_path, "resolve", "github")["token"] == "***"
    assert memory.terminate() == 0
    assert CANARY not in memory.log


def test_a_reload_that_changes_capabilities_is_refused() -> None:
    serving = Memory(MemoryConfig())

    _require_same_capabilities(serving, MemoryConfig(ready_seconds=5))
    with pytest.raises(ConfigError, match="needs a restart"):
        _require_same_capabilities(serving, MemoryConfig(allow_driver_config=True))
