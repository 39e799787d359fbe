"""Settings: flag > environment > file > default, for the server and for a driver's configuration.

The only module that reads the environment. Errors are `ConfigError`: they name the key and where it
came from, and never show a value.
"""

from __future__ import annotations

import contextlib
import difflib
import grp
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin

from openshell_drivers._documents import read_file
from openshell_drivers._faults import describe
from openshell_drivers._logs import LogFormat, printable
from openshell_drivers.compute import ComputeDriver
from openshell_drivers.credential_store import CredentialStore
from openshell_drivers.credentials import CredentialsDriver
from openshell_drivers.driver import Driver
from openshell_drivers.errors import ConfigError
from openshell_drivers.secrets import Secret

if TYPE_CHECKING:
    from pydantic import ValidationError

#: The gateways' and upstream drivers' own variables for the socket, by the service they belong to.
_SOCKET_VARIABLES: Final[Mapping[type[Driver[Any]], str]] = {
    CredentialsDriver: "OPENSHELL_CREDENTIALS_DRIVER_SOCKET",
    CredentialStore: "OPENSHELL_CREDENTIAL_DRIVER_SOCKET",
    ComputeDriver: "OPENSHELL_COMPUTE_DRIVER_SOCKET",
}
_PREFIX: Final = "OPENSHELL_DRIVER_"
_CONFIG_PREFIX: Final = "OPENSHELL_DRIVER_CONFIG_"
_LEVELS: Final = ("debug", "info", "warning", "error")
_SECTION: Final = "server"
_LONGEST_SECONDS: Final = 86_400
#: Shorter texts are found in any sentence, and are no secrets.
_SHORTEST_HIDDEN: Final = 4


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
        _refuse_keys(document, [_SECTION], "the configuration file (this driver has no keys):")
        _refuse_keys(sources.config_flags, [], "--set (this driver has no keys):")
        return Settings(server=server, config=None)
    return Settings(server=server, config=_config(model, document, sources, path))


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
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_SECONDS or isinstance(raw, bool):
        raise ConfigError(f"{origin}: must be seconds, above 0 and at most {_LONGEST_SECONDS}")
    return seconds


def _flag(origin: str, raw: Any) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(raw, bool):
        return raw
    if not isinstance(raw, str) or raw.lower() not in known:
        raise ConfigError(f"{origin}: must be true or false")
    return known[raw.lower()]


def _path(origin: str, raw: Any) -> Path:
    text = _text(origin, raw)
    if "\0" in text or not text.isprintable():
        raise ConfigError(f"{origin}: must be a path")
    return Path(text)


def _is_number(text: str) -> bool:
    """Whether the text is the number of a user or a group."""
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**32 - 1


def _uids(origin: str, raw: Any) -> frozenset[int]:
    parts = [str(part).strip() for part in (raw if isinstance(raw, list) else str(raw).split(","))]
    if not parts or not all(map(_is_number, parts)):
        raise ConfigError(f"{origin}: must be user numbers, separated by commas")
    return frozenset(map(int, parts))


def _group(origin: str, raw: Any) -> str:
    text = _text(origin, str(raw) if type(raw) is int else raw)
    try:
        if not _is_number(text):
            grp.getgrnam(text)
    except (KeyError, ValueError):
        raise ConfigError(f"{origin}: there is no such group") from None
    return text


_READERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "socket": _path,
    "log_level": _one_of(_LEVELS),
    "log_format": _one_of(get_args(LogFormat)),
    "socket_group": _group,
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
            raise ConfigError(f"{where} unknown key {key!r}{_suggestion(str(key), known)}")


def _suggestion(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _config(model: type[Any], document: dict[str, Any], sources: Sources, path: Path | None) -> Any:
    from pydantic import ValidationError

    _refuse_keys(sources.config_flags, list(model.model_fields), "--set:")
    merged = dict(document)
    origins: dict[str, str] = {}
    for key, info in model.model_fields.items():
        variable = f"{_CONFIG_PREFIX}{key.upper()}"
        raw = sources.environment.get(variable)
        if raw is not None:
            merged[key], origins[key] = _value(raw, info.annotation), variable
    for key, raw in sources.config_flags.items():
        annotation = model.model_fields[key].annotation
        if _holds_secret(annotation):
            raise ConfigError(f"{key}: a secret cannot be a flag, every process could read it")
        merged[key], origins[key] = _value(raw, annotation), "the command line"
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_explain(error, model, origins, path)) from None
    except Exception as error:  # noqa: BLE001  # an author's validator may raise anything
        raise ConfigError(f"the configuration cannot be judged: {describe(error)}") from None


def _value(raw: str, annotation: Any) -> Any:
    """Read a flag's or a variable's text: JSON for a list or a mapping, else the text itself."""
    if raw[:1] in {"[", "{"} and not _takes_text(annotation):
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            return raw
    return raw


def _takes_text(annotation: Any) -> bool:
    union = get_origin(annotation) in {Union, UnionType}
    kinds = get_args(annotation) if union else (annotation,)
    return all(kind in {str, Secret, NoneType} for kind in kinds)


def _holds_secret(annotation: Any) -> bool:
    """Whether a secret is somewhere in the type: in a list, a mapping, another model."""
    from pydantic import PydanticUserError, TypeAdapter

    try:
        schema = TypeAdapter(annotation).json_schema()
    except PydanticUserError:  # a type without a schema
        return "Secret" in str(annotation)
    return '"writeOnly": true' in json.dumps(schema, default=str)


def _explain(
    error: ValidationError, model: type[Any], origins: Mapping[str, str], file: Path | None
) -> str:
    """One line per mistake: the path of the key and the rule. Never the input."""
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        path = printable(".".join(str(part) for part in item["loc"])) or "configuration"
        if item["type"] == "extra_forbidden":
            rule = f"unknown key{_suggestion(str(item['loc'][-1]), _keys(model, item['loc']))}"
        elif item["type"] == "missing":
            rule = "is missing" + (f" in {str(file)!r}" if file and len(item["loc"]) == 1 else "")
        else:
            rule = _hide(item["input"], item["msg"].removeprefix("Value error, "))
        origin = origins.get(str(item["loc"][0])) if item["loc"] else None
        lines.append(f"{path}: {rule}" + (f" (from {origin})" if origin else ""))
    return "\n".join(lines)


def _keys(model: type[Any], place: Sequence[int | str]) -> list[str]:
    """The keys that may be meant at a place: the model's own, or those of all models in it."""
    from pydantic import PydanticUserError

    if len(place) == 1:
        return list(model.model_fields)
    try:
        parts = model.model_json_schema().get("$defs", {}).values()
    except PydanticUserError:  # a type without a schema
        return []
    return sorted({key for part in parts for key in part.get("properties", ())})


def _hide(value: object, message: str) -> str:
    """Take out what a validator, an author's or pydantic's own, quotes of the value."""
    for text in sorted(_texts(value), key=len, reverse=True):
        message = message.replace(text, "***")
    return message


def _texts(value: object) -> set[str]:
    """Every text in a value that is long enough to tell anything, plain and escaped."""
    found: set[str] = set()
    seen: set[int] = set()  # YAML can make circles
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, Mapping | list | tuple | set | frozenset):
            if id(each) not in seen:
                seen.add(id(each))
                rest += each.values() if isinstance(each, Mapping) else each
        elif each is not None:
            text = str(each).strip()
            found |= {text, repr(text)[1:-1]}
    return {text for text in found if len(text) >= _SHORTEST_HIDDEN}


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
