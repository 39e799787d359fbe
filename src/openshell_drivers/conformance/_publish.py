"""Write a run's reports, and make sure that no secret of the run is in any of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from openshell_drivers.conformance._canaries import Canaries
from openshell_drivers.conformance._request import Request
from openshell_drivers.conformance.report import badge, documents, junit
from openshell_drivers.conformance.report.documents import replace
from openshell_drivers.conformance.report.model import Report


def _html(report: Report) -> str:
    from openshell_drivers.conformance.report import html  # brings Jinja2

    return html.to_text(report)


WRITERS: Final[dict[str, tuple[str, Callable[[Report], str]]]] = {
    "json": ("report.json", documents.to_text),
    "junit": ("junit.xml", junit.to_text),
    "html": ("report.html", _html),
    "badge": ("badge.json", badge.to_text),
}


def publish(report: Report, request: Request, canaries: Canaries) -> list[Path]:
    """Write what was asked for; the files. A file with a secret in it is not written."""
    if request.report is None:
        return []
    request.report.mkdir(parents=True, exist_ok=True)
    files = []
    for name in request.formats:
        file, to_text = WRITERS[name]
        data = to_text(report).encode()
        found = canaries.found(data)
        if found:
            raise RuntimeError(f"{file} would hold a secret of the run: {', '.join(found)}")
        path = request.report / file
        replace(path, data)
        files.append(path)
    return files
