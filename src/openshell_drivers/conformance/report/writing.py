"""The files of a report in a folder, by the names that build servers look for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from openshell_drivers.conformance.report import badge, documents, junit
from openshell_drivers.conformance.report.model import Report

Format = Literal["json", "junit", "html", "badge"]

#: Each format's file.
FILES: Final[dict[Format, str]] = {
    "json": "report.json",
    "junit": "junit.xml",
    "html": "report.html",
    "badge": "badge.json",
}


def write_all(report: Report, folder: Path, formats: Iterable[Format]) -> list[Path]:
    """Write a report in some formats and give the files, ``report.json`` first if it is among them.

    The folder is made. A reader finds a file's old content or the new one, never a part of it.
    Raises `ConfigError` if the page is wanted and Jinja2 is missing, after the other files.
    """
    wanted = set(formats)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in sorted(wanted, key=("json", "junit", "badge", "html").index):
        path = folder / FILES[kind]
        documents.replace(path, _text(report, kind).encode())
        written.append(path)
    return written


def _text(report: Report, kind: Format) -> str:
    match kind:
        case "json":
            return documents.to_text(report)
        case "junit":
            return junit.to_text(report)
        case "badge":
            return badge.to_text(report)
        case "html":
            from openshell_drivers.conformance.report import html  # brings Jinja2 along

            return html.to_text(report)
