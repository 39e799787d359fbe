"""Settings: flag > environment > file > default, for the server and for a driver's configuration.

The only module that reads the environment. Errors are `ConfigError`: they name the key and where it
came from, and never show a value.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from openshell_drivers._logs import LogFormat
from openshell_drivers.credential_store import CredentialStore
from openshell_drivers.credentials import CredentialsDriver
from openshell_drivers.driver import Driver
from openshell_drivers.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import ValidationError

#: The gateways' and upstream drivers' own variables for the socket, by the service they belong to.
_SOCKET_VARIABLES: Final[Mapping[type[Driver[Any]], str]] = {
    CredentialsDriver: "OPENSHELL_CREDENTIALS_DRIVER_SOCKET",
    CredentialStore: "OPENSHELL_CREDENTIAL_DRIVER_SOCKET",
}
_PREFIX: Final = "OPENSHELL_DRIVER_"
_CONFIG_PREFIX: Final = "OPENSHELL_DRIVER_CONFIG_"
_LEVELS: Final = ("debug", "info", "warning", "error")
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
    drain_timeout: float = 10.0
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


def load(driver: type[Driver[Any]], sources: Sources) -> Settings:
    """Read, merge and validate. Raises `ConfigError`."""
    path = _config_path(sources)
    document = {} if path is None else read_file(path)
    model = driver.config_model
    in_file = _section(document) if model is None or _SECTION not in model.model_fields else {}
    server = _server(driver, sources, in_file)
    if model is None:
        _refuse_keys(document, [_SECTION], "the configuration file (this driver has no keys)")
        _refuse_keys(sources.config_flags, [], "--set (this driver has no keys)")
        return Settings(server=server, config=None)
    return Settings(server=server, config=_config(model, document, sources))


def _config_path(sources: Sources) -> Path | None:
    text = sources.flags.get("config") or sources.environment.get(f"{_PREFIX}CONFIG")
    if text:
        return Path(text)
    return sources.default_config


def _section(document: dict[str, Any]) -> Mapping[str, Any]:
    section = document.pop(_SECTION, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{_SECTION}: must be a mapping")
    _refuse_keys(section, [f.name for f in fields(ServerSettings)], f"{_SECTION}:")
    return section


def _server(
    driver: type[Driver[Any]], sources: Sources, section: Mapping[str, Any]
) -> ServerSettings:
    values: dict[str, Any] = {}
    for name, read in _READERS.items():
        for origin, raw in _candidates(driver, name, sources, section):
            if raw is not None and raw != "":
                values[name] = read(origin, raw)
                break
    values.setdefault("socket", sources.default_socket)
    return ServerSettings(**values)


def _candidates(
    driver: type[Driver[Any]], name: str, sources: Sources, section: Mapping[str, Any]
) -> list[tuple[str, Any]]:
    flag = f"--{name.replace('_', '-')}"
    variable = f"{_PREFIX}{name.upper()}"
    found: list[tuple[str, Any]] = [(flag, sources.flags.get(name))]
    if name == "socket":
        found += _socket_variables(driver, sources.environment)
    found.append((variable, sources.environment.get(variable)))
    found.append((f"{_SECTION}.{name}", section.get(name)))
    return found


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


def _text(origin: str, raw: Any) -> str:
    if not isinstance(raw, str):
        raise ConfigError(f"{origin}: must be text")
    return raw


def _one_of(choices: Sequence[str]) -> Callable[[str, Any], str]:
    def read(origin: str, raw: Any) -> str:
        text = _text(origin, raw).lower()
        if text not in choices:
            raise ConfigError(f"{origin}: must be one of {', '.join(choices)}")
        return text

    return read


def _seconds(origin: str, raw: Any) -> float:
    try:
        seconds = float(raw)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds <= 86_400 or isinstance(raw, bool):
        raise ConfigError(f"{origin}: must be a number of seconds above 0")
    return seconds


def _flag(origin: str, raw: Any) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(raw, bool):
        return raw
    if not isinstance(raw, str) or raw.lower() not in known:
        raise ConfigError(f"{origin}: must be true or false")
    return known[raw.lower()]


def _uids(origin: str, raw: Any) -> frozenset[int]:
    parts = raw if isinstance(raw, list) else str(raw).split(",")
    try:
        return frozenset(int(str(part).strip()) for part in parts)
    except ValueError:
        raise ConfigError(f"{origin}: must be user numbers, separated by commas") from None


_READERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "socket": lambda origin, raw: Path(_text(origin, raw)),
    "log_level": _one_of(_LEVELS),
    "log_format": _one_of(get_args(LogFormat)),
    "socket_group": lambda origin, raw: str(raw),
    "allowed_uids": _uids,
    "start_timeout": _seconds,
    "call_timeout": _seconds,
    "drain_timeout": _seconds,
    "require_handshake": _flag,
    "reflection": _flag,
}


def _refuse_keys(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise ConfigError(f"{where} unknown key {key!r}{_suggestion(key, known)}")


def _suggestion(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _config(model: type[Any], document: dict[str, Any], sources: Sources) -> Any:
    from pydantic import ValidationError

    known = list(model.model_fields)
    merged = dict(document)
    for key in known:
        raw = sources.environment.get(f"{_CONFIG_PREFIX}{key.upper()}")
        if raw is not None:
            merged[key] = _value(raw)
    _refuse_keys(sources.config_flags, known, "--set:")
    for key, raw in sources.config_flags.items():
        _refuse_secret_flag(model, key)
        merged[key] = _value(raw)
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_explain(error, known)) from None


def _value(raw: str) -> Any:
    """Read a flag's or a variable's text: JSON for a list or a mapping, else the text itself."""
    if raw[:1] in {"[", "{"}:
        try:
            return json.loads(raw)
        except ValueError:
            return raw
    return raw


def _refuse_secret_flag(model: type[Any], key: str) -> None:
    if "Secret" in str(model.model_fields[key].annotation):
        raise ConfigError(f"{key}: a secret cannot be a flag, every process could read it")


def _explain(error: ValidationError, known: Sequence[str]) -> str:
    """One line per mistake: the path of the key and the rule. Never the input."""
    lines = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = ".".join(str(part) for part in item["loc"]) or "configuration"
        if item["type"] == "extra_forbidden":
            last = str(item["loc"][-1])
            top = known if len(item["loc"]) == 1 else ()
            lines.append(f"{path}: unknown key{_suggestion(last, top)}")
        elif item["type"] == "missing":
            lines.append(f"{path}: is missing")
        else:
            lines.append(f"{path}: {item['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def read_file(path: Path) -> dict[str, Any]:
    """Read a TOML, JSON or YAML file, told apart by suffix. Raises `ConfigError`."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {os.strerror(error.errno or 0)}") from None
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise ConfigError(f"{str(path)!r} must end in {', '.join(_PARSERS)}")
    try:
        document = parse(raw)
    except ConfigError as error:
        raise ConfigError(f"{str(path)!r}: {error}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError(f"{str(path)!r} must hold a mapping")
    return document


def _parse_toml(raw: bytes) -> Any:
    import tomllib

    try:
        return tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise ConfigError("is not valid TOML") from None  # its messages may quote the text


def _parse_json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        raise ConfigError(f"is not valid JSON (line {error.lineno})") from None
    except UnicodeDecodeError:
        raise ConfigError("is not valid JSON") from None


def _parse_yaml(raw: bytes) -> Any:
    try:
        from openshell_drivers._yaml import parse
    except ImportError:
        raise ConfigError("YAML needs the package PyYAML: openshell-drivers[yaml]") from None
    return parse(raw)


_PARSERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    ".toml": _parse_toml,
    ".json": _parse_json,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
}


def dialled_socket(flag: str | None) -> Path:
    """Find the socket to dial: the flag, else the variables that drivers read."""
    names = [f"{_PREFIX}SOCKET", *_SOCKET_VARIABLES.values()]
    found = {os.environ[name] for name in names if os.environ.get(name)}
    if flag:
        return Path(flag)
    if len(found) != 1:
        state = "several differ" if found else "none is set"
        raise ConfigError(f"--socket is missing, and of {', '.join(names)} {state}")
    return Path(found.pop())
