"""How the raw value of each server setting is read, whether a flag, a variable or a file said it.

A reader gets where the value came from and the value, and raises `ConfigError` with the first.
"""

from __future__ import annotations

import grp
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from openshell_drivers._logs import LogFormat
from openshell_drivers.errors import ConfigError

_LEVELS: Final = ("debug", "info", "warning", "error")
_LONGEST_SECONDS: Final = 86_400


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


#: By the name of the setting.
READERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
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
