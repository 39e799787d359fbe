"""``python -m tests.conformance.bare --bind-socket PATH``: serve until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.bare.driver import Driver, Options
from tests.conformance.bare.errors import CannotServe

_SERVICES = ("compute", "credentials", "store")


def _by_environment() -> Path | None:
    """The path from one of the variables that other drivers know, if one is set."""
    for service in ("COMPUTE", "CREDENTIAL", "CREDENTIALS"):
        path = os.environ.get(f"OPENSHELL_{service}_DRIVER_SOCKET")
        if path:
            return Path(path)
    return None


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bare", allow_abbrev=False)
    parser.add_argument("--bind-socket", type=Path, default=_by_environment())
    parser.add_argument("--state", type=Path, help="a file to keep the platform in")
    parser.add_argument("--switch", type=Path, help="a JSON file: how the platform feels")
    parser.add_argument("--service", choices=_SERVICES, nargs="+", action="extend")
    parser.add_argument("--ready-seconds", type=float, default=0.05)
    parser.add_argument("--fault", action="append", default=[], help="change one decision")
    parser.add_argument("--list-faults", action="store_true", help="name them as JSON")
    found, unknown = parser.parse_known_args(arguments)
    found.unknown = unknown
    if found.bind_socket is None and not found.list_faults:
        parser.error("--bind-socket is required")
    return found


async def serve(found: argparse.Namespace) -> None:
    driver = Driver(
        Options(
            socket=found.bind_socket,
            state=found.state,
            switch=found.switch,
            services=tuple(dict.fromkeys(found.service or _SERVICES)),
            ready_seconds=found.ready_seconds,
            unknown=found.unknown,
        )
    )
    if found.fault:
        from tests.conformance.bare import faults

        faults.apply(driver, found.fault)
    await driver.run()


def list_faults() -> None:
    from tests.conformance.bare import faults

    known = {
        each.name: {"text": each.text, "kills": each.kills, "also": each.also}
        for each in faults.known()
    }
    sys.stdout.write(json.dumps(known, indent=1) + "\n")


def main(arguments: Sequence[str]) -> int:
    found = parse(arguments)
    if found.list_faults:
        list_faults()
        return 0
    try:
        asyncio.run(serve(found))
    except CannotServe as error:
        sys.stderr.write(f"bare: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
