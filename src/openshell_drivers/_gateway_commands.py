"""The commands of `openshell-drivers gateway`, given as arguments or at its prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from openshell_drivers._flags import Parser
from openshell_drivers.compute import ComputeResources, GpuRequest, SandboxTemplate
from openshell_drivers.errors import ConfigError

PROG: Final = "openshell-drivers gateway"
HELP: Final = """\
Be a gateway at a compute driver's socket and show what its user would see.

commands:
  create NAME [--image I] [--env K=V] [--gpu [N]] [--label K=V] [--cpu-limit Q]
              [--memory-limit Q] [--driver-config JSON] [--platform-config JSON] [-- COMMAND...]
  stop NAME, start NAME, delete NAME
  list              the sandboxes
  watch             what happens, until interrupted
  capabilities      what the driver says of itself

Without a command it shows what happens and takes commands from standard input; help and quit too.
A command waits for its outcome, unless it has --no-wait.
"""
COMMANDS: Final = "create, stop, start, delete, list, capabilities, help, quit"


def parse(words: Sequence[str], *, one_shot: bool) -> Any:
    """Read one command with its flags. Raises `ConfigError`."""
    command, rest = words[0], list(words[1:])
    plain = {"list", "capabilities", *(("watch",) if one_shot else ("help",))}
    if command not in {"create", "stop", "start", "delete", *plain}:
        raise ConfigError(f"there is no such command\ntry {PROG} --help")
    parser = Parser(f"{PROG} {command}", "")
    parser.set_defaults(command=command, no_wait=False)
    if command in plain:
        return parser.parse(rest)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the outcome")
    if command != "create":
        return parser.parse(rest)
    parser.add_argument("--image", default="", metavar="IMAGE")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--gpu", nargs="?", const="", metavar="N", help="GPUs; one without N")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--cpu-limit", default="", metavar="QUANTITY")
    parser.add_argument("--memory-limit", default="", metavar="QUANTITY")
    parser.add_argument("--driver-config", default="{}", metavar="JSON")
    parser.add_argument("--platform-config", default="{}", metavar="JSON")
    at = rest.index("--") if "--" in rest else len(rest)
    options = parser.parse(rest[:at])
    options.main = tuple(rest[at + 1 :])
    options.environment = dict(_pair("--env", each) for each in options.env)
    options.template = _template(options)
    options.gpu_request = _gpu(options.gpu)
    return options


def _template(options: Any) -> SandboxTemplate:
    limits = ComputeResources(cpu_limit=options.cpu_limit, memory_limit=options.memory_limit)
    return SandboxTemplate(
        image=options.image,
        labels=dict(_pair("--label", each) for each in options.label),
        resources=limits if options.cpu_limit or options.memory_limit else None,
        platform_config=_object("--platform-config", options.platform_config),
        driver_config=_object("--driver-config", options.driver_config),
    )


def _object(flag: str, text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{flag}: must be a JSON object")
    return {key: _frozen(value) for key, value in found.items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return {key: _frozen(each) for key, each in value.items()}
    return value


def _pair(flag: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"{flag}: wants KEY=VALUE")
    return key, value


def _gpu(text: str | None) -> GpuRequest | None:
    if text is None:
        return None
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigError("--gpu: must be a number")
    return GpuRequest(count=int(text) if text else None)
