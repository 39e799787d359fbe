"""``python -m``: what a request allows, as JSON, in a process that nobody has patched."""

from __future__ import annotations

import json
import sys

from openshell_drivers.conformance._request import Request
from openshell_drivers.conformance._units import Unit, plan
from openshell_drivers.errors import ConfigError


def described(unit: Unit) -> dict[str, str]:
    """A unit as the fronts know it."""
    return {
        "key": unit.key,
        "check": unit.check.id,
        "preset": unit.preset,
        "title": unit.check.title,
        "service": unit.check.service,
        "profile": unit.check.profile,
        "level": unit.level,
    }


def main() -> int:
    """Read a request from standard input and list its units."""
    request = Request.model_validate({**json.load(sys.stdin), "events": "-", "ledgers": "-"})
    selection = request.selection()
    try:
        selection.judge()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    json.dump([described(unit) for unit in plan(selection)], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
