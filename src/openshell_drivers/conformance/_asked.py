"""`request_of`: from options, as they were given, to what the engine is told."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from openshell_drivers.conformance._options import OPTIONS
from openshell_drivers.conformance._targets import Target

PROFILE_FILE: Final = "openshell-conformance.toml"
_ALL_PROFILES: Final = ("core", "lifecycle", "resilience", "security", "performance")
_ALL: Final = frozenset(option.name for option in OPTIONS)
#: Without these a driver would not be the same one.
_LASTING: Final = frozenset(("config", "env"))
_FORMATS: Final = ("json", "junit", "html", "badge")
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


class BadOption(ValueError):
    """An option cannot be used as it was given. The message is for the user."""


def values(given: Sequence[str] | None) -> list[str]:
    """The values of an option that may be repeated, or hold commas."""
    parts = [part.strip() for each in given or () for part in each.split(",")]
    return list(dict.fromkeys(filter(None, parts)))


def seconds(text: str, option: str) -> float:
    """Read ``90s``, ``10m``, ``1h`` or ``90``. Raises `BadOption`."""
    match = _TIME.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise BadOption(f"--{option}: wants a time such as 90s or 10m")
    return float(match[1]) * _SECONDS[match[2]]


def request_of(target: Target, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What the engine is told, but for the files of its own. Raises `BadOption`.

    `options` are by name, as given; `folder` is what relative paths start from.
    """

    def path(name: str) -> str | None:
        text = options.get(name)
        return str((folder / text).absolute()) if text else None

    profiles = values(options.get("profile"))
    found: dict[str, Any] = {
        "presets": values(options.get("preset")),
        "profiles": list(_ALL_PROFILES) if "all" in profiles else profiles,
        "levels": [level.upper() for level in values(options.get("level"))],
        "formats": _formats(values(options.get("report-formats"))),
        "services": values(options.get("service")),
        "checks": values(options.get("check")),
        "not_checks": values(options.get("not-check")),
        "profile": path("config") or _beside(folder),
        "report": path("report"),
        "waivers": path("waivers"),
        "seed": _seed(options.get("seed")),
        "strict": bool(options.get("strict")),
        "sensitivity": bool(options.get("sensitivity")),
        "command": command(target, options),
        "repeat": command(target, options, only=_LASTING),
    }
    if options.get("time-budget"):
        found["time_budget"] = seconds(options["time-budget"], "time-budget")
    html = found["report"] and "html" in (found["formats"] or _FORMATS)
    if html and importlib.util.find_spec("jinja2") is None:
        raise BadOption(
            'the HTML report needs Jinja2: pip install "openshell-drivers[conformance]",\n'
            "or choose others: --report-formats json,junit,badge"
        )
    about = {name: value for name, value in asdict(target).items() if value is not None}
    about["socket"] = None if target.socket is None else str(target.socket)
    # What is empty is left out: the engine has the defaults.
    return {"target": about, **{name: value for name, value in found.items() if value}}


def command(target: Target, options: Mapping[str, Any], only: Container[str] = _ALL) -> str:
    """The command that repeats a run, with the options in `only`."""
    words = ["openshell-drivers", "verify", target.read_as]
    for option in OPTIONS:
        given = options.get(option.name) if option.name in only else None
        if option.many:
            words += [f"--{option.name}={','.join(values(given))}"] if given else []
        elif given:
            words += [f"--{option.name}={given}" if option.metavar else f"--{option.name}"]
    return shlex.join(words)


def _beside(folder: Path) -> str | None:
    file = folder / PROFILE_FILE
    return str(file.absolute()) if file.is_file() else None


def _formats(given: Sequence[str]) -> list[str]:
    for name in given:
        if name not in _FORMATS:
            known = ", ".join(_FORMATS)
            raise BadOption(f"--report-formats: there is no format {name!r}; there are {known}")
    return list(given)


def _seed(text: str | None) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or not int(text):
        raise BadOption("--seed: wants a whole number above 0")
    return int(text)
