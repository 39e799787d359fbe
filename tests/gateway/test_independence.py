"""The model is no mirror of the SDK: a mistake there must not become the norm here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from openshell_drivers import testing

SOURCES = sorted(Path(testing.__file__).parent.rglob("*.py"))
AUTHORS = {"ComputeDriver", "CredentialStore", "CredentialsDriver", "Driver", "SandboxFeed"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_author_class_is_imported(path: Path) -> None:
    names = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert names & AUTHORS == set()
    assert len(SOURCES) > 20
