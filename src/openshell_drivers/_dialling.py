"""The commands that dial a driver: `health`, for probes, and `call`, for people."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

import anyio

from openshell_drivers._dialled import dialled_socket
from openshell_drivers._flags import Parser
from openshell_drivers.backoff import Backoff
from openshell_drivers.client import Connection, connect
from openshell_drivers.errors import ConfigError, Unavailable, Unimplemented
from openshell_drivers.secrets import Secret

_ATTEMPT_SECONDS = 0.1
_METHODS = ("resolve", "list", "capabilities", "stored", "sandboxes")


def _parser(prog: str, description: str) -> Parser:
    parser = Parser(prog, description)
    parser.add_argument(
        "--socket", "--bind-socket", dest="socket", metavar="PATH", help="the driver's socket"
    )
    parser.add_argument(
        "--wait", default="0", metavar="SECONDS", help="how long the driver may take to come up (0)"
    )
    return parser


def _backoff(text: str) -> Backoff:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise ConfigError("--wait: must be a number of seconds")
    return Backoff(attempts=1 + math.ceil(seconds / _ATTEMPT_SECONDS), delay=_ATTEMPT_SECONDS)


def health(arguments: list[str]) -> int:
    """Exit 0 if the driver serves; for exec probes."""
    parser = _parser("openshell-drivers health", "Ask whether a driver serves.")
    parser.add_argument("--service", default="", metavar="NAME", help="one gRPC service of it")
    options = parser.parse(arguments)

    async def ask(connection: Connection) -> None:
        if not await connection.is_serving(options.service):
            raise Unavailable("not serving")
        print("serving")

    return _dial(options.socket, options.wait, ask)


def call(arguments: list[str]) -> int:
    """Call one method and print the answer as JSON; secrets only when asked."""
    parser = _parser("openshell-drivers call", "Call a driver and print its answer as JSON.")
    parser.add_argument("method", metavar="METHOD", help=f"one of {', '.join(_METHODS)}")
    parser.add_argument("name", nargs="?", metavar="NAME", help="what to resolve")
    parser.add_argument("--reveal", action="store_true", help="print the token itself")
    options = parser.parse(arguments)
    if options.method not in _METHODS:
        raise ConfigError(f"METHOD: must be one of {', '.join(_METHODS)}")

    async def ask(connection: Connection) -> None:
        answer = await _method(connection, options.method, options.name)
        print(json.dumps(_plain(answer, reveal=options.reveal), indent=2))

    return _dial(options.socket, options.wait, ask)


async def _method(connection: Connection, method: str, name: str | None) -> Any:
    match method:
        case "resolve":
            return await connection.credentials.resolve_credential(name or "")
        case "list":
            return await connection.credentials.list_credentials()
        case "capabilities":
            return await _capabilities(connection)
        case "sandboxes":
            return await connection.compute.list_sandboxes()
        case _:
            return await connection.credential_store.list_stored_credentials()


async def _capabilities(connection: Connection) -> Mapping[str, Any]:
    """Ask each service that says what it can do, and leave out those that are not there."""
    found: dict[str, Any] = {}
    for name, service in (
        ("compute", connection.compute),
        ("credential_store", connection.credential_store),
    ):
        with contextlib.suppress(Unimplemented):
            found[name] = await service.get_capabilities()
    if not found:
        raise Unimplemented("the driver serves neither sandboxes nor a credential store")
    return found


def _plain(value: Any, *, reveal: bool) -> Any:
    """Give it in what JSON has; a secret only if it may be shown."""
    if isinstance(value, Secret):
        return value.reveal() if reveal else "***"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(each, reveal=reveal) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each, reveal=reveal) for key, each in value.items()}
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
        return {name: _plain(getattr(value, name), reveal=reveal) for name in names}
    return value


def _dial(socket: str | None, wait: str, ask: Callable[[Connection], Awaitable[None]]) -> int:
    path = dialled_socket(socket)
    backoff = _backoff(wait)

    async def main() -> None:
        async with connect(path, backoff=backoff, timeout=30.0) as connection:
            await ask(connection)

    anyio.run(main)
    sys.stdout.flush()
    return 0
