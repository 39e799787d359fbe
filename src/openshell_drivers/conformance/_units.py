"""Which checks run, under which presets: planning, with no look at the target but its services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Final

from openshell_drivers.conformance._checks import PROFILES, Check, ServiceName, checks
from openshell_drivers.conformance._clauses import Level, clauses
from openshell_drivers.errors import ConfigError
from openshell_drivers.testing.gateway import PRESETS

#: The gateway lines that know each service.
_LINES: Final[dict[ServiceName, str]] = {
    "compute": "FUN",
    "credentials": "F",
    "credential-store": "UN",
}
#: All but performance, whose figures need a quiet machine.
DEFAULT_PROFILES = PROFILES[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One check under one preset."""

    check: Check
    preset: str
    level: Level

    @property
    def key(self) -> str:
        """Its name everywhere: ``COMP-GET-01.a[0.1.2]``."""
        return f"{self.check.id}[{self.preset}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the user wants to have run."""

    presets: tuple[str, ...] = tuple(PRESETS)
    profiles: tuple[str, ...] = DEFAULT_PROFILES
    services: tuple[str, ...] = ()
    """Empty: those that the target serves."""
    levels: tuple[str, ...] = ("MUST", "SHOULD", "INFO")
    checks: tuple[str, ...] = ()
    """Ids, or with ``*``; empty: all."""
    not_checks: tuple[str, ...] = ()
    keys: frozenset[str] | None = field(default=None)
    """Exactly these units, out of the others; None: all of them."""

    @property
    def full(self) -> bool:
        """Whether nothing was left out by hand."""
        return not (
            self.checks
            or self.not_checks
            or self.services
            or self.keys is not None
            or set(self.presets) != set(PRESETS)
            or not set(DEFAULT_PROFILES) <= set(self.profiles)
            or "MUST" not in self.levels
        )

    def judge(self) -> None:
        """Raise `ConfigError` for names that nothing has."""
        _known("preset", self.presets, PRESETS)
        _known("profile", self.profiles, PROFILES)
        _known("service", self.services, ("compute", "credentials", "credential-store"))
        _known("level", self.levels, ("MUST", "SHOULD", "INFO"))
        for pattern in (*self.checks, *self.not_checks):
            if not any(fnmatchcase(name, pattern) or _of(name, pattern) for name in checks()):
                raise ConfigError(
                    f"there is no check {pattern!r}; openshell-drivers verify --list shows them"
                )


def _known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in given:
        if name not in known:
            raise ConfigError(f"there is no {what} {name!r}; there are {', '.join(known)}")


def _of(name: str, clause: str) -> bool:
    """Whether a check belongs to a clause that was given instead of it."""
    return checks()[name].clause == clause


def plan(selection: Selection, services: Sequence[str] | None = None) -> list[Unit]:
    """List the units, in the order of the report; `services` are those that are served."""
    wanted = selection.services or services
    units: list[Unit] = []
    for known in checks().values():
        check = _placed(known, wanted)
        if check is None:
            continue
        if check.profile in selection.profiles and _selected(check, selection):
            units.extend(_columns(check, selection))
    if selection.keys is None:
        return units
    return [unit for unit in units if unit.key in selection.keys]


def _placed(check: Check, wanted: Sequence[str] | None) -> Check | None:
    """The check at the first service that it can look at; None if there is none."""
    for service in check.services:
        if wanted is None or service in wanted:
            return check if service == check.service else replace(check, service=service)
    return None


def _selected(check: Check, selection: Selection) -> bool:
    def matches(patterns: Iterable[str]) -> bool:
        return any(fnmatchcase(check.id, p) or check.clause == p for p in patterns)

    if matches(selection.not_checks):
        return False
    return not selection.checks or matches(selection.checks)


def _columns(check: Check, selection: Selection) -> Iterable[Unit]:
    clause = clauses()[check.clause]
    for name in PRESETS:
        line = PRESETS[name].line
        level = clause.level(line) if line in _LINES[check.service] else None
        if name not in selection.presets or level is None or level not in selection.levels:
            continue
        if not check.presets or name in check.presets:
            yield Unit(check=check, preset=name, level=level)
