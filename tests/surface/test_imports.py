"""What an import costs: the light names load nothing heavy, whoever changes what inside."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

import pytest

WIRE: Final = ("grpc", "google.protobuf")
LOOP: Final = ("asyncio", "anyio")
REST: Final = ("pydantic", "yaml", "httpx", "pluggy", "importlib.metadata")

LIGHT: Final = {
    "openshell_drivers": (*WIRE, *LOOP, *REST, "logging", "json"),
    "openshell_drivers.tokens": (*WIRE, *REST),
    "openshell_drivers.config": (*WIRE, "asyncio", "anyio", "yaml", "httpx", "pluggy"),
    "openshell_drivers.settings": (*WIRE, "anyio", *REST),
    "openshell_drivers.registry": (*WIRE, "anyio", "pydantic", "yaml", "httpx"),
    "openshell_drivers.cli": (*WIRE, "anyio", *REST),
    "openshell_drivers.conformance": (*WIRE, *LOOP, *REST),
    "openshell_drivers.conformance.plugin": (*WIRE, *LOOP, "pydantic", "yaml", "httpx"),
    "openshell_drivers.server": REST,
    "openshell_drivers.client": REST,
}
SAY: Final = "\nimport sys\nheld = sorted(sys.modules)\nimport json\nprint(json.dumps(held))"


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has after running the code."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + SAY],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", LIGHT)
def test_an_import_does_not_load(module: str) -> None:
    before = loaded("")

    assert loaded(f"import {module}") & set(LIGHT[module]) - before == set()


def test_pydantic_comes_with_the_first_use_of_a_configuration() -> None:
    held = loaded("from openshell_drivers import DriverConfig")

    assert "pydantic" in held
    assert not held & set(WIRE)


def test_a_driver_without_a_configuration_is_defined_without_pydantic() -> None:
    held = loaded(
        "from openshell_drivers import CredentialsDriver, Secret\n"
        "class D(CredentialsDriver):\n    name = 'd'\n"
        "Secret('x')"
    )

    assert not held & {"pydantic", *WIRE}
