"""``badge.json``, for the endpoint badges of shields.io.

Green says conformant and nothing else.
"""

from __future__ import annotations

import json
from typing import Any, Final

from openshell_drivers.conformance.report.model import Report
from openshell_drivers.conformance.report.words import count, failing

_LABEL: Final = "openshell driver"


def badge(report: Report) -> dict[str, Any]:
    """The badge of a report."""
    message, colour = _said(report)
    services = " + ".join(dict.fromkeys(each.service for each in report.verdicts))
    return {
        "schemaVersion": 1,
        "label": _LABEL,
        "message": f"{services} {message}".strip(),
        "color": colour,
        "isError": colour == "red",
    }


def to_text(report: Report) -> str:
    """The badge as a file holds it."""
    return json.dumps(badge(report), indent=2, ensure_ascii=False) + "\n"


def _said(report: Report) -> tuple[str, str]:
    gateways = count(len(report.run.presets), "gateway")
    match report.verdict:
        case "conformant" if report.run.selection == "selective":
            return f"selected checks pass · {gateways}", "yellow"
        case "conformant":
            return f"conformant · {gateways}", "brightgreen"
        case "conformant-with-waivers":
            waived = count(failing(report, "waived", "unexpected-pass"), "waiver")
            return f"conformant with {waived} · {gateways}", "yellow"
        case "partial":
            return f"partial · {gateways}", "yellow"
        case "non-conformant":
            return f"non-conformant · {count(failing(report, 'fail'), 'failure')}", "red"
        case "incomplete":
            return "incomplete", "lightgrey"
