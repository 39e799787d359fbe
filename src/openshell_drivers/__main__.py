"""``openshell-drivers``, and ``python -m openshell_drivers``.

``health`` is run every few seconds beside a driver, so it is answered here before anything large is
imported, if the answer is that the driver serves.
"""

from __future__ import annotations

import sys

_FLAGS = {"--socket": "socket", "--bind-socket": "socket", "--service": "service", "--wait": "wait"}


def main() -> None:
    """Run ``openshell-drivers``. Does not return."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["health"] and _is_serving(arguments[1:]):
        print("serving")
        sys.exit(0)
    from openshell_drivers import cli

    cli.main(arguments)


def _is_serving(arguments: list[str]) -> bool:
    """Whether the driver plainly serves. What is odd about the arguments is told by the parser."""
    from openshell_drivers._dialled import dialled_socket
    from openshell_drivers._probe import serves
    from openshell_drivers.errors import ConfigError

    given = {}
    while arguments:
        name, separator, value = arguments.pop(0).partition("=")
        if name not in _FLAGS or not (separator or arguments):
            return False
        given[_FLAGS[name]] = value if separator else arguments.pop(0)
    try:
        path, wait = dialled_socket(given.get("socket")), float(given.get("wait", "0"))
    except (ConfigError, ValueError):
        return False
    return 0 <= wait <= 86_400 and serves(path, given.get("service", ""), wait=wait)


if __name__ == "__main__":
    main()
