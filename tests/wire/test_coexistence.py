"""The official `openshell` package and this one live in one process, whichever comes first."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import subprocess
import sys

import grpc
import pytest

import openshell_drivers._wire

OFFICIAL = [
    "openshell",
    "openshell._proto.datamodel_pb2",
    "openshell._proto.options_pb2",
    "openshell._proto.sandbox_pb2",
    "openshell._proto.openshell_pb2",
]
OURS = [
    "openshell_drivers",
    *(
        f"openshell_drivers._wire.{module.name}"
        for module in pkgutil.iter_modules(openshell_drivers._wire.__path__)
    ),
    "openshell_drivers.server",
    "openshell_drivers.client",
]
#: Both sides' handle, written by one and read by the other, in whatever order they were loaded.
USE = """
from openshell._proto.datamodel_pb2 import CredentialHandle as Theirs
from openshell_drivers._wire.datamodel_pb2 import CredentialHandle as Ours

assert Theirs is not Ours
assert Theirs.DESCRIPTOR.full_name == "openshell.datamodel.v1.CredentialHandle"
theirs = Theirs(driver="d", handle="h", metadata={"a": "b"})
ours = Ours.FromString(theirs.SerializeToString())
assert (ours.driver, ours.handle, dict(ours.metadata)) == ("d", "h", {"a": "b"})
assert Theirs.FromString(ours.SerializeToString()) == theirs
print("together")
"""


@pytest.fixture
def official() -> None:
    """Leave without the official package, unless it has to be there."""
    if tuple(map(int, grpc.__version__.split(".")[:2])) < (1, 78):
        pytest.skip("the official openshell package refuses a grpcio older than 1.78")
    if importlib.util.find_spec("openshell") is None:
        if os.environ.get("REQUIRE_PEERS") == "1":
            pytest.fail("REQUIRE_PEERS=1 and the official openshell package is not installed")
        pytest.skip("the official openshell package is not installed")


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize(
    "modules",
    [[*OFFICIAL, *OURS], [*OURS, *OFFICIAL]],
    ids=["the official package first", "ours first"],
)
def test_both_packages_load_in_one_process(modules: list[str]) -> None:
    program = "\n".join(f"import {name}" for name in modules) + USE

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout.strip()) == (0, "together"), done.stderr


def test_our_generated_files_register_private_names_only() -> None:
    for module in pkgutil.iter_modules(openshell_drivers._wire.__path__):
        loaded = importlib.import_module(f"openshell_drivers._wire.{module.name}")
        file = loaded.DESCRIPTOR
        assert file.name.startswith("openshell_drivers/_wire/")
        assert file.package.startswith("openshell_drivers.wire.")
