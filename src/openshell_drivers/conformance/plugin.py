"""The pytest plugin: ``pytest --driver=NAME`` judges a driver. Without a target it does nothing.

A stub that costs a run without a target nothing: all else is in `_pytest`, imported for a target.

``--driver`` is what other plugins call an option of theirs, too. So ours is ``--openshell-driver``,
and ``--driver`` is translated before pytest parses: always if nobody else has it, and if somebody
has it with a list of values (as pytest-selenium has its browsers), where the value is none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import pytest

from openshell_drivers.conformance._options import OPTIONS

if TYPE_CHECKING:
    from openshell_drivers.conformance._options import Option

_ALIAS: Final = "--driver"
_NAME: Final = "--openshell-driver"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each of which begins with ``--openshell-``."""
    group = parser.getgroup("openshell", "OpenShell driver conformance")
    group.addoption(
        _NAME,
        metavar="TARGET",
        help="judge this driver: an installed one, MODULE[:CLASS], ./FILE.py[:CLASS], unix:SOCKET "
        f"or cmd:'COMMAND'; {_ALIAS}=TARGET says the same unless another plugin has it",
    )
    for option in OPTIONS:
        group.addoption(f"--openshell-{option.name}", dest=option.dest, **_attributes(option))
    group.addoption(
        "--openshell-also-tests",
        action="store_true",
        help="run the tests that pytest would run without a target, too",
    )
    group.addoption("--openshell-live", action="store_true", help="be openshell-drivers verify")
    _translate(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Begin, if there is a target."""
    if config.getoption("openshell_driver") and not config.option.help:
        from openshell_drivers.conformance._pytest import begin

        begin(config)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say so where ``--driver`` went to somebody else who takes any value."""
    parser = getattr(config, "_parser", None)
    theirs = getattr(config.option, "driver", None)
    if config.getoption("openshell_driver") or not theirs or _taken(parser) is not None:
        return None
    return f"openshell: {_ALIAS} is another plugin's here; {_NAME} names a driver to judge"


def _attributes(option: Option) -> dict[str, Any]:
    if not option.metavar:
        return {"action": "store_true", "help": option.help}
    action = "append" if option.many else "store"
    return {"action": action, "metavar": option.metavar, "help": option.help}


def _translate(parser: pytest.Parser) -> None:
    """Have the parser read `_ALIAS` as `_NAME` where nobody else means it.

    It looks when arguments are parsed, not now: plugins and conftests come in any order.
    """

    def before(parse: Callable[..., Any]) -> Callable[..., Any]:
        def parsing(args: Iterable[Any], *rest: Any, **named: Any) -> Any:
            return parse(_translated(list(args), _taken(parser)), *rest, **named)

        return parsing

    for name in ("parse", "parse_known_and_unknown_args"):
        setattr(parser, name, before(getattr(parser, name)))


def _taken(parser: object) -> Sequence[str] | None:
    """The values that another plugin's `_ALIAS` has; None if any is its own."""
    groups = [*getattr(parser, "_groups", ()), getattr(parser, "_anonymous", None)]
    for group in groups:
        for option in getattr(group, "options", ()):
            if _ALIAS in option.names():
                choices = option.attrs().get("choices")
                return None if choices is None else [str(each).lower() for each in choices]
    return ()


def _translated(args: list[Any], taken: Sequence[str] | None) -> list[Any]:
    if taken is None:
        return args
    done: list[Any] = []
    for number, argument in enumerate(args):
        if argument == "--":
            return done + args[number:]
        if argument == _ALIAS and number + 1 < len(args):
            ours = str(args[number + 1]).lower() not in taken
            done.append(_NAME if ours else argument)
        elif str(argument).startswith(f"{_ALIAS}="):
            value = str(argument).removeprefix(f"{_ALIAS}=")
            done.append(argument if value.lower() in taken else f"{_NAME}={value}")
        else:
            done.append(argument)
    return done
