"""``openshell-drivers diff``: what changed from one report to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from openshell_drivers._flags import Parser
from openshell_drivers.conformance.report import differences
from openshell_drivers.conformance.report.diff import Differences, compare
from openshell_drivers.conformance.report.documents import read

_FORMS: Final[Mapping[str, Callable[[Differences], str]]] = {
    "text": differences.to_text,
    "json": differences.to_json,
    "markdown": differences.to_markdown,
}


def diff(arguments: list[str]) -> int:
    """Run the command. Exit status 1 if anything regressed."""
    parser = Parser("openshell-drivers diff", "Compare two reports, the earlier one first.")
    parser.add_argument("before", metavar="A", help="report.json, or a folder that has one")
    parser.add_argument("after", metavar="B", help="another")
    parser.add_argument("--format", choices=tuple(_FORMS), default="text", help="text")
    options = parser.parse(arguments)
    found = compare(read(_file(options.before)), read(_file(options.after)))
    print(_FORMS[options.format](found), end="")
    return found.exit_status


def _file(text: str) -> Path:
    path = Path(text)
    return path / "report.json" if path.is_dir() else path
