"""`GatewaySettings`: the flags of `openshell-drivers gateway` itself, parted from its command."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openshell_drivers._dialled import dialled_socket
from openshell_drivers._flags import Parser
from openshell_drivers._gateway_commands import HELP, PROG
from openshell_drivers.errors import ConfigError
from openshell_drivers.testing.gateway import PRESETS

_VALUED: Final = {"socket", "bind-socket", "preset", "state", "speed", "workspace", "within"}
_OWN: Final = _VALUED | {"json", "allow-driver-config"}


@dataclass(slots=True, kw_only=True)
class GatewaySettings:
    """What the flags say."""

    socket: Path
    state: Path
    preset: str
    speed: float
    workspace: str
    within: float
    as_json: bool
    allow_driver_config: bool


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the gateway's own flags, wherever they stand before a ``--``, from the command."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own: list[str] = []
    command: list[str] = []
    rest = iter(arguments[:end])
    for each in rest:
        name, equals, _ = each.lstrip("-").partition("=")
        if not each.startswith("-") or (command and name not in _OWN):
            command.append(each)
        else:
            own.append(each)
            if name in _VALUED and not equals:
                own += [value for value in [next(rest, None)] if value is not None]
    return own, [*command, *arguments[end:]]


def read_settings(arguments: Sequence[str]) -> GatewaySettings:
    """Read the gateway's own flags. Raises `ConfigError`."""
    parser = Parser(PROG, HELP)
    add = parser.add_argument
    add("--socket", "--bind-socket", dest="socket", metavar="PATH", help="the driver's socket")
    add("--preset", default="0.1-latest", metavar="NAME", help=f"{', '.join(PRESETS)} (the last)")
    add("--state", metavar="FILE", help="where the records are kept (SOCKET.gateway.json)")
    add("--speed", default="1", metavar="N", help="the gateway's seconds in a real one (1)")
    add("--workspace", default="default", metavar="NAME", help="of the sandboxes (default)")
    add("--within", default="300", metavar="SECONDS", help="how long to wait for an outcome (300)")
    add("--allow-driver-config", action="store_true", help="its own resource admission policy")
    add("--json", action="store_true", help="one JSON object a line")
    options = parser.parse(arguments)
    if options.preset not in PRESETS:
        raise ConfigError(f"--preset: must be one of {', '.join(PRESETS)}")
    socket = Path(dialled_socket(options.socket))
    return GatewaySettings(
        socket=socket,
        state=Path(options.state) if options.state else Path(f"{socket}.gateway.json"),
        preset=options.preset,
        speed=_positive("--speed", options.speed),
        workspace=options.workspace,
        within=_positive("--within", options.within),
        as_json=options.json,
        allow_driver_config=options.allow_driver_config,
    )


def _positive(flag: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1e6:
        raise ConfigError(f"{flag}: must be a positive number")
    return number
