"""The JSON Schema of ``report.json``.

``python -m openshell_drivers.conformance.report.schema`` prints what docs/report.schema.json holds.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from openshell_drivers.conformance.report.model import SCHEMA, Report

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema, for a JSON Schema validator of draft 2020-12.

    Unknown keys are valid: a later version of the suite may add some.
    """
    document = Report.model_json_schema(by_alias=True)
    document["properties"]["schema"] = {
        "const": SCHEMA,
        "description": "What this document is, and its major version.",
        "title": "Schema",
        "type": "string",
    }
    document["required"] = ["schema", *document["required"]]
    title = "Report of the OpenShell driver conformance suite"
    return {**document, "$schema": _DIALECT, "title": title}


def to_text() -> str:
    """The schema as a file holds it."""
    return json.dumps(schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(to_text())
