"""`clauses()` and `exclusions()`: what a driver has to keep, by the ids of the contract.

They stand in `clauses/*.toml`, a table per clause; `Clause` says what each key means. Two kinds of
things in the contract are named by `Clause.covers` and by the table in `clauses/exclusions.toml`:

* An RPC is ``StoreCredential``. If more than one service has it, the service's own name stands
  before it: ``CredentialDriver.ListCredentials``.
* A field is ``DriverSandbox.id``, with the names of the superset messages in `_wire`. If more than
  one contract has the message, the contract's key in ``revisions.toml`` stands before it:
  ``credentials_driver.ResolveCredentialRequest.name``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, Literal, cast, get_args

Level = Literal["MUST", "SHOULD", "INFO"]
Line = Literal["F", "U", "N"]
"""A gateway line, as the marks in ``revisions.toml``: the fork, 0.0.x, 0.1.x."""
Source = Literal["proto", "gateway", "architecture", "upstream-issue", "documentation", "sdk"]
Observed = Literal["wire", "process", "logs", "backend", "none"]

_FILES: Final = (
    "socket",
    "capabilities",
    "validate",
    "inputs",
    "create",
    "observe",
    "status",
    "lifecycle",
    "negotiation",
    "admission",
    "identity",
    "credentials",
    "credential_store",
    "process",
    "secrecy",
)
_EXCLUSIONS: Final = "exclusions.toml"
_ID: Final = re.compile(r"(COMP(AT)?(01)?|CREDF|CREDU(01)?|PROC|SEC)-([A-Z]+-)?\d\d")
_NAME: Final = re.compile(r"\w+(\.\w+){0,2}")


def clause_of(check: str) -> str:
    """The clause of a check, by its id: of its checks each but an only one has a letter."""
    head, dot, tail = check.rpartition(".")
    return head if dot and len(tail) == 1 and tail.islower() else check


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One rule of the contract, or one of our own."""

    id: str
    text: str
    """The rule, in a sentence or two."""
    levels: Mapping[Line, Level] = field(hash=False)
    """How binding it is under each gateway line; a line that it says nothing of is missing."""
    source: Source
    """What it was learnt from. ``sdk`` is an invention of ours, and at most SHOULD."""
    where: str
    """The public evidence: repository, commit, path and lines; empty only if we invented it."""
    observed: Observed
    """How it shows: to the gateway's calls, to whoever sees the process or its logs, or only
    with help of the driver's backend."""
    unobserved: str
    """Why it cannot be seen from outside; empty unless `observed` is ``none``."""
    sees: str
    """What a user of the gateway sees if it is broken."""
    mend: str
    """How to mend a driver in any language."""
    covers: tuple[str, ...]
    """The RPCs and fields that it is about; the module says how they are named."""

    def level(self, line: Line) -> Level | None:
        """Say how binding it is under a gateway line; None if it says nothing of that line."""
        return self.levels.get(line)


@cache
def clauses() -> Mapping[str, Clause]:
    """Give every clause by its id, in the order of the files.

    Raises ValueError, with the file and the id, if one is not as it should be.
    """
    found: dict[str, Clause] = {}
    for name in _FILES:
        file = f"{name}.toml"
        for clause in parse_clauses(file, _text(file)):
            if clause.id in found:
                raise ValueError(f"{file}: {clause.id}: stands in the clauses already")
            found[clause.id] = clause
    return MappingProxyType(found)


@cache
def exclusions() -> Mapping[str, str]:
    """Give the RPCs and fields that no clause covers, and why.

    Raises ValueError, with the file and the name, if one is not as it should be.
    """
    return MappingProxyType(parse_exclusions(_EXCLUSIONS, _text(_EXCLUSIONS)))


def parse_clauses(file: str, text: str) -> Iterator[Clause]:
    """Read the clauses of one file; `file` is its name in errors."""
    for name, table in _toml(file, text).items():
        if _ID.fullmatch(name) is None:
            raise ValueError(f"{file}: {name}: is no id of a clause")
        if not isinstance(table, dict):
            raise ValueError(f"{file}: {name}: is no table")
        yield _Table(f"{file}: {name}", table).clause(name)


def parse_exclusions(file: str, text: str) -> dict[str, str]:
    """Read the exclusions; `file` is the file's name in errors."""
    raw = _toml(file, text)
    table = raw.get("excluded")
    if set(raw) != {"excluded"} or not isinstance(table, dict):
        raise ValueError(f"{file}: excluded: has to be its one table")
    for name, reason in table.items():
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{file}: {name}: names no RPC and no field")
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"{file}: {name}: has no reason")
    return table


class _Table:
    """One clause as it stands in its file, and the checks of it."""

    def __init__(self, place: str, raw: Mapping[str, Any]) -> None:
        self._place = place
        self._raw = raw
        known = {name for name in Clause.__dataclass_fields__ if name != "id"}
        for key in sorted(known ^ set(raw)):
            raise self._wrong(key, "is missing" if key in known else "is unknown")

    def clause(self, name: str) -> Clause:
        source = cast("Source", self._one_of("source", get_args(Source)))
        observed = cast("Observed", self._one_of("observed", get_args(Observed)))
        return Clause(
            id=name,
            text=self._words("text"),
            levels=self._levels(source),
            source=source,
            where=self._words("where", empty=source == "sdk"),
            observed=observed,
            unobserved=self._unobserved(observed),
            sees=self._words("sees"),
            mend=self._words("mend"),
            covers=self._covers(),
        )

    def _wrong(self, key: str, what: str) -> ValueError:
        return ValueError(f"{self._place}: {key} {what}")

    def _words(self, key: str, *, empty: bool = False) -> str:
        value = self._raw[key]
        if not isinstance(value, str) or value != value.strip() or not value.isprintable():
            raise self._wrong(key, "is not one trimmed line of text")
        if not value and not empty:
            raise self._wrong(key, "is empty")
        return value

    def _one_of(self, key: str, allowed: tuple[str, ...]) -> str:
        value = self._words(key)
        if value not in allowed:
            raise self._wrong(key, f"is none of {', '.join(allowed)}")
        return value

    def _levels(self, source: Source) -> Mapping[Line, Level]:
        value = self._raw["levels"]
        if not isinstance(value, dict) or not value or not set(value) <= set(get_args(Line)):
            raise self._wrong("levels", f"is no table of {', '.join(get_args(Line))}")
        if not all(level in get_args(Level) for level in value.values()):
            raise self._wrong("levels", f"has one that is none of {', '.join(get_args(Level))}")
        if source == "sdk" and "MUST" in value.values():
            raise self._wrong("levels", "has a MUST that we invented")
        return MappingProxyType(value)

    def _unobserved(self, observed: Observed) -> str:
        reason = self._words("unobserved", empty=True)
        if bool(reason) != (observed == "none"):
            raise self._wrong("unobserved", "goes with observed = none, and only with that")
        return reason

    def _covers(self) -> tuple[str, ...]:
        value = self._raw["covers"]
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self._wrong("covers", "is no list of names")
        for name in value:
            if _NAME.fullmatch(name) is None or value.count(name) > 1:
                raise self._wrong("covers", f"has {name!r}, twice or as no name")
        return tuple(value)


def _text(file: str) -> str:
    return (
        resources.files("openshell_drivers.conformance.clauses").joinpath(file).read_text("utf-8")
    )


def _toml(file: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: {error}") from None
