"""Command-line flags: both spellings, no abbreviations, and errors that never show a value."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from openshell_drivers.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `ConfigError` and name flags only."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        # "ignored explicit argument 'x'": the only message that shows a value.
        text, ignored, _ = message.partition(": ignored explicit argument")
        raise ConfigError(f"{text}{': takes no value' * bool(ignored)}\ntry {self.prog} --help")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse; a long flag may have one dash, as Go programs write it."""
        known = {option for option in self._option_string_actions if option.startswith("--")}
        arguments = [_two_dashes(each, known) for each in argv]
        if any(each.startswith("-h") and each != "-h" for each in arguments):
            self.error("argument -h/--help: takes no value")  # what argparse says depends on Python
        namespace, unknown = self.parse_known_args(arguments)
        if unknown:
            self.error(_describe_unknown(unknown))
        return namespace


def _two_dashes(argument: str, known: set[str]) -> str:
    name = argument.partition("=")[0]
    return f"-{argument}" if not argument.startswith("--") and f"-{name}" in known else argument


def _describe_unknown(unknown: Sequence[str]) -> str:
    flags = [each.partition("=")[0] for each in unknown if each.startswith("-")]
    if flags:
        return f"unknown flag {flags[0]}"
    return "unexpected argument"  # not shown: it may be the value of a misspelt flag


def add_server_flags(
    parser: argparse.ArgumentParser, *, socket: str | None = None, config: str | None = None
) -> None:
    """Add the flags of `ServerSettings`; each is text, judged where all sources meet."""
    group = parser.add_argument_group("server")
    add = group.add_argument
    add(
        "--socket",
        "--bind-socket",
        dest="socket",
        metavar="PATH",
        help=_with("where to listen", socket),
    )
    add("--config", metavar="FILE", help=_with("configuration file: .toml, .json, .yaml", config))
    add("--log-level", metavar="LEVEL", help="debug, info, warning or error (info)")
    add("--log-format", metavar="FORMAT", help="json or text (json)")
    add("--socket-group", metavar="GROUP", help="group that may connect, by number or name")
    add("--allowed-uids", metavar="UIDS", help="only these users may connect: 1000,1001")
    add("--start-timeout", metavar="SECONDS", help="for the driver to get ready (10)")
    add("--call-timeout", metavar="SECONDS", help="for calls without a deadline (30)")
    add("--drain-timeout", metavar="SECONDS", help="for calls under way at the end (10)")
    switch = {"action": "store_const", "const": "true"}
    add("--require-handshake", **switch, help="refuse gateways older than 0.1")  # type: ignore[arg-type]  # argparse's stub knows no ** of str
    add("--reflection", **switch, help="serve gRPC reflection")  # type: ignore[arg-type]  # as above


def _with(text: str, default: str | None) -> str:
    return f"{text} ({default})".replace("%", "%%") if default else text


SERVER_FLAGS = (
    *("socket", "config", "log_level", "log_format", "socket_group", "allowed_uids"),
    *("start_timeout", "call_timeout", "drain_timeout", "require_handshake", "reflection"),
)


def given(namespace: argparse.Namespace, names: Sequence[str]) -> dict[str, str]:
    """Pick the flags that were there."""
    values = {name: getattr(namespace, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
