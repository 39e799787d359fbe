"""A sandbox's environment: what the user asked for, what the driver alone decides, in that order.

The supervisor reads the variables named here. All of them begin with ``OPENSHELL_``, and a user
sets none of these (COMP-IN-03, COMP-SEC-01).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from openshell_drivers._sandboxes import SandboxSpec
from openshell_drivers.errors import InvalidArgument

__all__ = [
    "ENDPOINT",
    "K8S_SA_TOKEN_FILE",
    "LOG_LEVEL",
    "MAIN_PROCESS_SPEC",
    "PROTECTED_PREFIX",
    "SANDBOX",
    "SANDBOX_COMMAND",
    "SANDBOX_ID",
    "SANDBOX_TOKEN_FILE",
    "SSH_SOCKET_PATH",
    "TLS_CA",
    "TLS_CERT",
    "TLS_KEY",
    "USER_ENVIRONMENT",
    "compose",
    "identity",
    "main_process_spec",
    "user_environment",
]

PROTECTED_PREFIX: Final = "OPENSHELL_"
"""Names that begin so are the driver's; a user's are dropped."""
SANDBOX_ID: Final = "OPENSHELL_SANDBOX_ID"
"""The sandbox's id."""
SANDBOX: Final = "OPENSHELL_SANDBOX"
"""The sandbox's name."""
MAIN_PROCESS_SPEC: Final = "OPENSHELL_MAIN_PROCESS_SPEC"
"""The main process, as `main_process_spec` writes it (COMP-IN-08)."""
SANDBOX_COMMAND: Final = "OPENSHELL_SANDBOX_COMMAND"
"""A shell command: what the supervisors of the kagenti line read instead."""
LOG_LEVEL: Final = "OPENSHELL_LOG_LEVEL"
"""The supervisor's log level."""
USER_ENVIRONMENT: Final = "OPENSHELL_USER_ENVIRONMENT"
"""The user's variables, as `user_environment` writes them, for sessions started later."""
ENDPOINT: Final = "OPENSHELL_ENDPOINT"
"""Where the supervisor finds its gateway: a URL."""
SANDBOX_TOKEN_FILE: Final = "OPENSHELL_SANDBOX_TOKEN_FILE"
"""The path of the file with the sandbox's token (COMP-SEC-01)."""
K8S_SA_TOKEN_FILE: Final = "OPENSHELL_K8S_SA_TOKEN_FILE"
"""The path of a projected service-account token, to be exchanged for the sandbox's token."""
SSH_SOCKET_PATH: Final = "OPENSHELL_SSH_SOCKET_PATH"
"""The Unix socket for SSH inside the sandbox."""
TLS_CA: Final = "OPENSHELL_TLS_CA"
"""The path of the certificates by which the gateway is known."""
TLS_CERT: Final = "OPENSHELL_TLS_CERT"
"""The path of the supervisor's own certificate."""
TLS_KEY: Final = "OPENSHELL_TLS_KEY"
"""The path of the key that belongs to it."""

_SPEC_VERSION: Final = 1
_SHELL: Final = ("/bin/bash", "-l")
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def compose(spec: SandboxSpec, own: Mapping[str, str] = _NOTHING) -> dict[str, str]:
    """Make the whole environment: the template's, the spec's over it, and `own` over both.

    `own` is what the driver decides: `identity`, paths, the endpoint. The user's names with the
    protected prefix are dropped. Raises `InvalidArgument` for a user's name or value that no
    process can have, so a driver composes when it validates, too.
    """
    return {**_of_user(spec), **own}


def identity(spec: SandboxSpec) -> dict[str, str]:
    """Make the variables that follow from the spec alone, and that every supervisor needs.

    Id, name, main process, and the log level if the gateway names one. Never a token: that goes
    into a file (COMP-SEC-01). Raises `InvalidArgument` as `main_process_spec` does.
    """
    variables = {
        SANDBOX_ID: spec.id,
        SANDBOX: spec.name,
        MAIN_PROCESS_SPEC: main_process_spec(spec),
    }
    if spec.log_level:
        variables[LOG_LEVEL] = spec.log_level
    return variables


def main_process_spec(spec: SandboxSpec) -> str:
    """Write the main process for the supervisor: JSON in ASCII, no shell in between (COMP-IN-08).

    An empty command means a login shell with a terminal. The wish to wait for the creating client
    is passed on if there is one (COMP01-IN-04); it holds for the create only, so a driver that
    starts the sandbox again from a kept spec takes it out first. Raises `InvalidArgument` if the
    command's first word is empty, which no supervisor takes.
    """
    if spec.command and not spec.command[0]:
        raise InvalidArgument("the first word of the command must not be empty")
    process: dict[str, object] = {
        "version": _SPEC_VERSION,
        "command": list(spec.command or _SHELL),
        "tty": spec.tty or not spec.command,
    }
    if spec.await_main_process_attachment:  # not read by the supervisors of older gateways
        process["await_main_process_attachment"] = True
    return json.dumps(process, separators=(",", ":"))


def user_environment(spec: SandboxSpec) -> str:
    """Write the user's variables alone as a JSON object in ASCII.

    For supervisors that start sessions with an environment made anew. Raises `InvalidArgument` as
    `compose` does.
    """
    return json.dumps(_of_user(spec), separators=(",", ":"))


def _of_user(spec: SandboxSpec) -> dict[str, str]:
    asked = {**spec.template.environment, **spec.environment}
    for name, value in asked.items():
        if not name or "=" in name or "\0" in name:
            raise InvalidArgument("an environment variable's name is empty or has '=' or NUL in it")
        if "\0" in value:
            raise InvalidArgument("an environment variable's value has NUL in it")
    return {name: value for name, value in asked.items() if not name.startswith(PROTECTED_PREFIX)}
