"""`Profile`: what the suite has to know of a driver that it cannot find out by itself.

From ``openshell-conformance.toml``, or for a Python driver from an object that its package offers
by an entry point of group `PROFILE_GROUP`, named like the driver. Every key has a default.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from openshell_drivers.errors import ConfigError

PROFILE_GROUP: Final = "openshell_drivers_conformance"
FILE_NAME: Final = "openshell-conformance.toml"

Seconds = Annotated[float, Field(gt=0, le=3600)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetProfile(_Section):
    """Who the driver is, and how its process is started."""

    name: str = ""
    organization: str = ""
    url: str = ""
    arguments: list[str] = []
    """Appended to the command line. ``{dir}`` is a folder of the process's own, which it keeps over
    a restart; ``{socket}`` its socket."""
    environment: dict[str, str] = {}
    """For the process, with the same placeholders."""
    isolated: bool = False
    """Whether each process has a backend of its own, so that several can be tried at once."""
    ready: Seconds = 10.0
    """Until its socket answers."""
    log_level: list[str] = []
    """Arguments that make it log all it can."""


class ComputeTimes(_Section):
    """How long the platform may take, in seconds."""

    ready: Seconds = 30.0
    stopped: Seconds = 30.0
    gone: Seconds = 30.0


class ComputeProfile(_Section):
    """What a sandbox looks like on this platform. Templates are DriverSandboxSpec as JSON."""

    template: dict[str, Any] = {}
    """``{}``: the driver's default image, running ``/bin/sleep 3600``."""
    unpullable: dict[str, Any] | None = None
    """One whose provisioning fails after its create was accepted."""
    refused: dict[str, Any] | None = None
    """One that is refused, at validate or at create."""
    lengthy: dict[str, Any] | None = None
    """One that is long in provisioning: two seconds and more."""
    workspaces: Annotated[list[str], Field(min_length=2)] = ["default", "conformance"]
    admission: str = "v1:{}"
    """The resource admission policy that the driver is configured with, as it acknowledges it."""
    name_max_length: Annotated[int, Field(ge=12, le=253)] = 19
    max_sandboxes: Annotated[int, Field(ge=2)] = 300
    """How many may exist at once."""
    timeouts: ComputeTimes = ComputeTimes()


class CredentialsProfile(_Section):
    """Of the fork's service."""

    known: list[str] = []
    unknown: str = "conformance-unknown-name"
    expiring: list[str] = []
    """Names whose tokens live for seconds."""


class StoreProfile(_Section):
    """Of the upstream service."""

    workspaces: Annotated[list[str], Field(min_length=2)] = ["default", "conformance"]
    max_value_bytes: Annotated[int, Field(ge=1)] = 65_536


class BackendProfile(_Section):
    """Verbs: commands that get JSON on standard input and answer JSON on standard output.

    A string is split as a shell would; ``{dir}``, ``{socket}``, ``{pid}`` and ``{python}`` are
    replaced: the process's folder, its socket, itself, and the suite's interpreter.
    """

    setup: str | list[str] = ""
    """Makes the backend of a process, before the first process of its folder is started."""
    teardown: str | list[str] = ""
    """Removes it, after the last one has ended; also of a run that was killed."""
    outage_begin: str | list[str] = ""
    outage_end: str | list[str] = ""
    slow: str | list[str] = ""
    """Gets ``{"seconds": s}``: every access to the platform takes that long."""
    fast: str | list[str] = ""
    remove: str | list[str] = ""
    """Gets ``{"id": …, "name": …, "workspace": …}``."""
    list_resources: str | list[str] = ""
    """Answers ``{"resources": ["name", …]}``: all that exists because of this driver."""
    foreign: str | list[str] = ""
    """Makes something on the platform that is not the driver's, and that it must not list."""
    workload: str | list[str] = ""
    """Gets an id; answers ``{"environment": {…}, "command": […], "tty": bool}``."""
    credential: str | list[str] = ""
    """Gets an id; answers ``{"credential": …}``, for AuthenticateSandbox."""
    exit_main: str | list[str] = ""
    """Gets an id; the main process ends."""
    timeout: Seconds = 30.0


class ProcessProfile(_Section):
    """For an attached socket: how to do what the suite does itself with a process it started."""

    pid: Annotated[int, Field(gt=0)] | None = None
    restart: str | list[str] = ""
    logs: str | list[str] = ""


class Profile(_Section):
    """All of it."""

    target: TargetProfile = TargetProfile()
    compute: ComputeProfile = ComputeProfile()
    credentials: CredentialsProfile = CredentialsProfile()
    store: StoreProfile = StoreProfile()
    backend: BackendProfile = BackendProfile()
    process: ProcessProfile = ProcessProfile()
    unsupported: dict[str, str] = {}
    """RPC -> why the driver does without it."""


def read_profile(path: Path) -> Profile:
    """Read a TOML file. Raises `ConfigError`; paths in ``template`` are relative to the file."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    compute = document.get("compute")
    if isinstance(compute, dict):
        for key in ("template", "unpullable", "refused", "lengthy"):
            if isinstance(compute.get(key), str):
                compute[key] = _template(path.parent / compute[key])
    try:
        return Profile.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first(error)}") from None


def _template(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
