"""``openshell-drivers``, and ``python -m openshell_drivers``.

``health`` is run every few seconds beside a driver, so it is answered here before anything large is
imported, if the answer is that the driver serves or that nobody is there.
"""

from __future__ import annotations

import os
import stat
import sys
import time

_FLAGS = {"--socket": "socket", "--bind-socket": "socket", "--service": "service", "--wait": "wait"}


def main() -> None:
    """Run ``openshell-drivers``. Does not return."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["health"]:
        asked = _asked(arguments[1:])
        if asked is not None:
            left = _probe(*asked)
            arguments.append(f"--wait={left:.1f}")  # the last one holds
    from openshell_drivers import cli

    cli.main(arguments)


def _asked(arguments: list[str]) -> tuple[str, str, float] | None:
    """Read socket, service and seconds; None for what the parser has to say something about."""
    from openshell_drivers._dialled import dialled_socket
    from openshell_drivers.errors import ConfigError

    given = {}
    while arguments:
        name, separator, value = arguments.pop(0).partition("=")
        if name not in _FLAGS or not (separator or arguments):
            return None
        given[_FLAGS[name]] = value if separator else arguments.pop(0)
    try:
        path, wait = dialled_socket(given.get("socket")), float(given.get("wait", "0"))
    except (ConfigError, ValueError):
        return None
    return (path, given.get("service", ""), wait) if 0 <= wait <= 86_400 else None


def _probe(path: str, service: str, wait: float) -> float:
    """Ask, and exit with the answer; give the seconds that are left if it takes the real client."""
    from openshell_drivers._probe import NOT_THERE_YET, serves

    began = time.monotonic()
    try:
        if serves(path, service, wait=wait):
            print("serving")
            sys.exit(0)
    except OSError as error:
        reason = NOT_THERE_YET.get(error.errno or 0)
        if reason is None or _is_no_socket(path):
            return 0.0
        waited = time.monotonic() - began
        text = f"UNAVAILABLE: no driver at {path!r} after {waited:.1f} s: {reason}"
        print(f"openshell-drivers: {text}", file=sys.stderr)
        sys.exit(1)
    return max(0.0, wait - (time.monotonic() - began))


def _is_no_socket(path: str) -> bool:
    """Linux refuses a connection to a regular file in the same words as one to a dead socket."""
    try:
        return not stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


if __name__ == "__main__":
    main()
