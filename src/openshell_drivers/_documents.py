"""Read a configuration file: TOML, JSON or YAML, with no text of it in messages.

Knows nothing of what the keys mean.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from openshell_drivers.errors import ConfigError

_TOML_PLACE: Final = re.compile(r"\(at line (\d+), column \d+\)$")


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
        raise ConfigError(f"{str(path)!r} must hold a mapping, with text as keys")
    return document


def _parse_toml(raw: bytes) -> Any:
    import tomllib

    try:
        return tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # its messages may quote the text
        place = _TOML_PLACE.search(str(error))
        where = f" (line {place[1]})" if place else ""
        raise ConfigError(f"is not valid TOML{where}") from None


def _parse_json(raw: bytes) -> Any:
    try:
        return json.loads(raw, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ConfigError(f"is not valid JSON (line {error.lineno})") from None
    except (ValueError, RecursionError):
        raise ConfigError("is not valid JSON") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ConfigError(f"key {key!r} occurs twice")
        found[key] = value
    return found


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
