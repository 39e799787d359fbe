"""Writing ``report.json`` and reading it back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from openshell_drivers.conformance.report.model import SCHEMA, Report, Result
from openshell_drivers.conformance.report.verdicts import PROFILES, SERVICES
from openshell_drivers.errors import ConfigError

_LARGEST: Final = 256 * 1024 * 1024


class UnreadableReport(ConfigError):
    """A file is no report, or one that this version cannot read. The message names the file."""


def ordered(report: Report) -> Report:
    """The same report with its lists in an order that does not depend on the run's."""

    def place(result: Result) -> tuple[int, int, str, int, str]:
        presets = report.run.presets
        column = presets.index(result.preset) if result.preset in presets else len(presets)
        service, profile = SERVICES.index(result.service), PROFILES.index(result.profile)
        return service, profile, result.check, column, result.preset

    return report.model_copy(
        update={
            "results": sorted(report.results, key=place),
            "clauses": sorted(report.clauses, key=lambda clause: clause.id),
            "capabilities": sorted(report.capabilities, key=lambda each: each.name),
            "metrics": sorted(report.metrics, key=lambda metric: metric.name),
            "leaks": sorted(report.leaks, key=lambda leak: (leak.kind, leak.name)),
            "waivers": sorted(report.waivers, key=lambda waiver: waiver.check),
        }
    )


def to_text(report: Report) -> str:
    """The report as ``report.json`` holds it: equal reports give equal texts.

    Raises ValueError for a figure that JSON has no word for (NaN, infinity).
    """
    document = ordered(report).model_dump(mode="json", by_alias=True)
    return (
        json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    )


def write(report: Report, path: Path) -> None:
    """Write a report, so that a reader finds the old file or the new one, never a part."""
    replace(path, to_text(report).encode())


def replace(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> Report:
    """Read a report. Raises `UnreadableReport`."""
    try:
        if path.stat().st_size > _LARGEST:
            raise UnreadableReport(f"{path}: larger than {_LARGEST >> 20} MiB, which no report is")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableReport(f"{path}: {error.strerror}") from None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):  # a UnicodeDecodeError is the former
        raise UnreadableReport(f"{path}: not JSON") from None
    _check_schema(path, document)
    try:
        return Report.model_validate(document)
    except ValidationError as error:
        raise UnreadableReport(f"{path}: {_first(error)}") from None


def _check_schema(path: Path, document: Any) -> None:
    found = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(found, str):
        raise UnreadableReport(f"{path}: not a conformance report: it has no key 'schema'")
    family, _, major = found.rpartition("/")
    if family != SCHEMA.rpartition("/")[0]:
        raise UnreadableReport(f"{path}: not a conformance report: its schema is another one")
    if found != SCHEMA:
        raise UnreadableReport(
            f"{path}: a report of version {major[:20]!r}; this openshell-drivers reads {SCHEMA}"
        )


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"not a valid report: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
