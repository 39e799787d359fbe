"""``openshell-drivers verify``: judge a driver, in a pytest that no setting of a user reaches."""

from __future__ import annotations

import importlib.util
import os
import sys
from argparse import SUPPRESS, Namespace
from pathlib import Path
from typing import Final, NoReturn

from openshell_drivers._flags import Parser
from openshell_drivers.conformance._options import OPTIONS
from openshell_drivers.errors import ConfigError
from openshell_drivers.settings import pytest_environment

_DESCRIPTION: Final = """\
Judge whether a driver, in any language, will work under the gateways.

TARGET is one of
  NAME                     an installed driver            driver:NAME
  MODULE[:CLASS]           a module on the path           py:MODULE[:CLASS]
  ./FILE.py[:CLASS]        a file                         file:./FILE.py[:CLASS]
  ./PROGRAM                a program, started with        cmd:'./PROGRAM --flag'
                           --bind-socket PATH appended    cmd:'./PROGRAM {socket}'
  /run/driver.sock         a driver that serves already   unix:/run/driver.sock
The forms on the right are needed where a text could be read in several ways.

Exit status: 0 conformant, 1 not conformant, 2 wrong usage, 3 the suite broke, 4 the driver did not
come up, 5 something was left behind, 6 not all could be judged, 7 a problem with waivers."""
_HERE: Final = Path(__file__).parent


def verify(arguments: list[str]) -> int:
    """Run the command. Does not return if a driver is judged."""
    parser = _parser()
    options = parser.parse(arguments)
    if options.list or options.explain:
        from openshell_drivers.conformance.cli import catalogue

        if options.explain:
            return catalogue.explain(options.explain)
        return catalogue.show(options.format)
    if not options.target:
        raise ConfigError(f"which driver?\ntry {parser.prog} --help")
    if options.plan:
        from openshell_drivers.conformance.cli import planning

        return planning.show(
            {each.name: _given(options, each.name) for each in OPTIONS}, options.target
        )
    return _judge(options)


def _parser() -> Parser:
    parser = Parser("openshell-drivers verify TARGET", _DESCRIPTION)
    parser.add_argument("target", nargs="?", metavar="TARGET", help=SUPPRESS)
    for option in OPTIONS:
        if not option.metavar:
            parser.add_argument(f"--{option.name}", action="store_true", help=option.help)
            continue
        action = "append" if option.many else "store"
        parser.add_argument(
            f"--{option.name}", action=action, metavar=option.metavar, help=option.help
        )
    other = parser.add_argument_group("instead of judging")
    other.add_argument("--list", action="store_true", help="all clauses and their checks")
    other.add_argument("--format", choices=("text", "json"), default="text", help="for --list")
    other.add_argument("--explain", metavar="ID", help="all about one clause or check")
    other.add_argument(
        "--plan", action="store_true", help="what would run at TARGET, and what could not"
    )
    return parser


def _given(options: Namespace, name: str) -> object:
    return getattr(options, name.replace("-", "_"))


def _judge(options: Namespace) -> NoReturn:
    if importlib.util.find_spec("pytest") is None:
        raise ConfigError(
            "verify needs pytest, which is not installed:\n"
            '  pip install "openshell-drivers[conformance]"'
        )
    words = [f"--openshell-driver={options.target}", "--openshell-live"]
    for option in OPTIONS:
        given = _given(options, option.name)
        if isinstance(given, list):
            words += [f"--openshell-{option.name}={each}" for each in given]
        elif isinstance(given, str):
            words.append(f"--openshell-{option.name}={given}")
        elif given:
            words.append(f"--openshell-{option.name}")
    command = [
        # -P: a file of the user's folder that is called like a module is none of ours
        *(sys.executable, "-P", "-W", "ignore", "-m", "pytest", "-c", str(_HERE / "pytest.ini")),
        *(f"--rootdir={_HERE}", "--noconftest", "--assert=plain", "--capture=no"),
        *("-p", "openshell_drivers.conformance.plugin", "-p", "no:cacheprovider"),
        *("-p", "no:terminal"),
    ]
    sys.stdout.flush()
    os.execve(sys.executable, [*command, *words], pytest_environment())  # noqa: S606  # in its place
