"""From what a gateway asks for to what a keeper needs: command, environment, files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Final

from openshell_drivers import FailedPrecondition, SandboxSpec, Secret, environment
from openshell_drivers.launch import LaunchAuthentication
from openshell_drivers.reference._folder import SUPERVISOR, TOKEN, WORKLOAD, Launch
from openshell_drivers.reference._keeper import WORKSPACE
from openshell_drivers.reference._members import MARK

UNPULLABLE: Final = "process/unpullable"
"""An image whose command is not found, on purpose, and only after the create."""
LENGTHY: Final = "process/lengthy"
"""An image whose command begins some seconds after the create, on purpose."""
_LENGTHY_SECONDS: Final = 3.0
_NO_COMMAND: Final = ("./process-unpullable",)
_TERMINAL: Final = "xterm"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def first_launch(
    spec: SandboxSpec, folder: Path, mark: str, everybody: Mapping[str, str]
) -> Launch:
    """Make the launch of a new sandbox. The lowest of its variables are those that everybody gets,
    then come the user's, then what the driver decides. Raises `InvalidArgument`."""
    own = {**environment.identity(spec), MARK: mark}
    if spec.sandbox_token is not None:
        own[environment.SANDBOX_TOKEN_FILE] = str(folder / TOKEN)
    main = json.loads(own[environment.MAIN_PROCESS_SPEC])
    below = {"PATH": _PATH, "HOME": str(folder / WORKSPACE), **everybody}
    if main["tty"]:
        below.setdefault("TERM", _TERMINAL)
    return Launch(
        command=_NO_COMMAND if spec.template.image == UNPULLABLE else tuple(main["command"]),
        tty=main["tty"],
        environment={**below, **environment.compose(spec, own)},
        delay=_LENGTHY_SECONDS if spec.template.image == LENGTHY else 0.0,
    )


def later_launch(launch: Launch) -> Launch:
    """Take out what holds for the create only (COMP01-IN-04)."""
    main = json.loads(launch.environment[environment.MAIN_PROCESS_SPEC])
    main.pop("await_main_process_attachment", None)
    text = json.dumps(main, separators=(",", ":"))
    again = {**launch.environment, environment.MAIN_PROCESS_SPEC: text}
    return replace(launch, environment=again, delay=0.0)


def require_program(launch: Launch) -> None:
    """Refuse a command that cannot be found. Blocks. What is relative to a workspace yet to be
    made cannot be known."""
    program = launch.command[0]
    if "/" in program and not program.startswith("/"):
        return
    if which(program, path=launch.environment.get("PATH", os.defpath)) is None:
        raise FailedPrecondition("the command's program is not on this host")


def launch_files(secret: Secret | None) -> dict[str, Secret]:
    """Split a launch authentication into files. Raises `InvalidArgument`."""
    if secret is None:
        return {}
    parts = LaunchAuthentication.parse(secret)
    files = {WORKLOAD: Secret(parts.workload.to_json())}
    if parts.supervisor is not None:
        files[SUPERVISOR] = parts.supervisor
    return files
