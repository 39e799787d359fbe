"""Settings: flag > environment > file > default, for the server and for a driver's configuration.

The only module that reads the environment, but for the socket to dial (`_dialled`). Errors are
`ConfigError`: they name the key and where it came from, and never show a value.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from openshell_drivers._dialled import COMPUTE_SOCKET, CREDENTIALS_SOCKET, STORE_SOCKET
from openshell_drivers._documents import read_file
from openshell_drivers._logs import LogFormat
from openshell_drivers._settings_config import read_config
from openshell_drivers._settings_mistakes import refuse_keys
from openshell_drivers._settings_values import READERS
from openshell_drivers.compute import ComputeDriver
from openshell_drivers.credential_store import CredentialStore
from openshell_drivers.credentials import CredentialsDriver
from openshell_drivers.driver import Driver
from openshell_drivers.errors import ConfigError

#: The gateways' and upstream drivers' own variables for the socket, by the service they belong to.
_SOCKET_VARIABLES: Final[Mapping[type[Driver[Any]], str]] = {
    CredentialsDriver: CREDENTIALS_SOCKET,
    CredentialStore: STORE_SOCKET,
    ComputeDriver: COMPUTE_SOCKET,
}
_PREFIX: Final = "OPENSHELL_DRIVER_"
_SECTION: Final = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What an operator can say about the process, whatever the driver."""

    socket: Path | None = None
    """Where to listen."""
    log_level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""
    log_format: LogFormat = "json"
    """``json`` or ``text``."""
    socket_group: str | None = None
    """A group, by number or name, that may connect."""
    allowed_uids: frozenset[int] | None = None
    """The only users that may connect, checked at each connection; None: the modes decide."""
    start_timeout: float = 10.0
    """Seconds for the driver to get ready."""
    call_timeout: float = 30.0
    """Seconds for a call whose caller set no deadline."""
    drain_timeout: float = 6.0
    """Seconds for calls under way when the process is told to stop."""
    require_handshake: bool = False
    """Refuse gateways older than 0.1."""
    reflection: bool = False
    """Serve gRPC reflection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where settings come from, in one place so that they can be read again on SIGHUP."""

    flags: Mapping[str, str] = field(default_factory=dict)
    """Server settings from the command line, by the name of the setting."""
    config_flags: Mapping[str, str] = field(default_factory=dict)
    """Keys of the driver's configuration from the command line."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    default_socket: Path | None = None
    default_config: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a process needs to serve a driver."""

    server: ServerSettings
    config: Any
    """The driver's validated configuration; None if it has none."""


def test_switch() -> Path | None:
    """The file of the test switch, for a process that the conformance suite has started."""
    text = os.environ.get("OPENSHELL_DRIVERS_TEST_SWITCH")
    return Path(text) if text else None


def inherited(names: Sequence[str]) -> dict[str, str]:
    """Give those of the named variables that this process has, for one that it starts."""
    return {name: os.environ[name] for name in names if name in os.environ}


def pytest_environment() -> dict[str, str]:
    """Give this process's environment for a pytest that nobody else's variables steer."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    return {**clean, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def state_folder() -> Path:
    """Make the folder of what outlives a process: in the XDG state home, or else in TMPDIR.

    It is private to the user. Raises `ConfigError` if no such folder can be had.
    """
    for folder in _state_folders():
        with contextlib.suppress(OSError, RuntimeError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            state = folder.lstat()  # one in TMPDIR may have been put there by somebody else
            ours = state.st_uid == os.geteuid() and stat.S_ISDIR(state.st_mode)
            if ours and os.access(folder, os.W_OK | os.X_OK):
                return folder
    raise ConfigError("no folder for state can be written: set XDG_STATE_HOME to one")


def _state_folders() -> Iterator[Path]:
    home = os.environ.get("XDG_STATE_HOME", "")
    if Path(home).is_absolute():
        yield Path(home) / "openshell-drivers"
    home = os.environ.get("HOME", "")
    if Path(home).is_absolute():
        yield Path(home) / ".local" / "state" / "openshell-drivers"
    yield Path(tempfile.gettempdir()) / f"openshell-drivers-{os.geteuid()}"


def load(driver: type[Driver[Any]], sources: Sources) -> Settings:
    """Read, merge and validate. Raises `ConfigError`."""
    path = _config_path(sources)
    document = {} if path is None else read_file(path)
    model = driver.config_model
    in_file = _section(document) if model is None or _SECTION not in model.model_fields else {}
    server = _server(driver, sources, in_file)
    if model is None:
        refuse_keys(document, [_SECTION], "the configuration file (this driver has no keys):")
        refuse_keys(sources.config_flags, [], "--set (this driver has no keys):")
        return Settings(server=server, config=None)
    config = read_config(
        model, document, path, environment=sources.environment, flags=sources.config_flags
    )
    return Settings(server=server, config=config)


def _config_path(sources: Sources) -> Path | None:
    text = sources.flags.get("config") or sources.environment.get(f"{_PREFIX}CONFIG")
    if text:
        return Path(text)
    return sources.default_config


def _section(document: dict[str, Any]) -> Mapping[str, Any]:
    section = document.pop(_SECTION, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{_SECTION}: must be a mapping")
    refuse_keys(section, [f.name for f in fields(ServerSettings)], f"{_SECTION}:")
    return section


def _server(
    driver: type[Driver[Any]], sources: Sources, section: Mapping[str, Any]
) -> ServerSettings:
    values: dict[str, Any] = {}
    for name, read in READERS.items():
        for origin, raw in _candidates(driver, name, sources, section):
            if raw is not None and raw != "":
                values[name] = read(origin, raw)
                break
    values.setdefault("socket", sources.default_socket)
    return ServerSettings(**values)


def _candidates(
    driver: type[Driver[Any]], name: str, sources: Sources, section: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """The places where a setting may be said, the strongest first."""
    yield f"--{name.replace('_', '-')}", sources.flags.get(name)
    if name == "socket":
        yield from _socket_variables(driver, sources.environment)
    variable = f"{_PREFIX}{name.upper()}"
    yield variable, sources.environment.get(variable)
    yield f"{_SECTION}.{name}", section.get(name)


def _socket_variables(
    driver: type[Driver[Any]], environment: Mapping[str, str]
) -> list[tuple[str, str]]:
    """The gateways' variables that are set, for the services that the driver has."""
    found = [
        (variable, environment[variable])
        for kind, variable in _SOCKET_VARIABLES.items()
        if issubclass(driver, kind) and environment.get(variable)
    ]
    if len({value for _, value in found}) > 1:
        names = " and ".join(variable for variable, _ in found)
        raise ConfigError(f"{names} differ, and one process has one socket")
    return found
