"""Waivers: failures that are known and excused for a time, each by name, issue, owner and end.

A TOML file with a table per waiver::

    [[waiver]]
    check = "COMP-WATCH-10"
    issue = "https://…"
    owner = "@team"
    reason = "one queue for all watchers"
    created = 2026-11-21
    expires = 2027-02-21

A waiver holds for one check, under all presets or under `preset`, and with `fingerprint` for one
failure of it only. It lasts 180 days at most, and never makes a verdict ``conformant``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from openshell_drivers.conformance._checks import checks
from openshell_drivers.conformance.report.model import Result, WaiverUse
from openshell_drivers.errors import ConfigError

_LONGEST: Final = timedelta(days=180)


class WaiverError(ConfigError):
    """The file of waivers cannot be used."""


class Waiver(BaseModel):
    """One excuse."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str
    issue: str = Field(min_length=1)
    owner: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    created: date
    expires: date
    preset: str = ""
    fingerprint: str = ""

    @model_validator(mode="after")
    def _judge(self) -> Waiver:
        if self.check not in checks():
            raise ValueError(f"there is no check {self.check!r}")
        if checks()[self.check].clause.startswith("SEC-"):
            raise ValueError(f"{self.check}: a leak of secrets cannot be waived")
        if not timedelta(0) < self.expires - self.created <= _LONGEST:
            raise ValueError(f"{self.check}: expires must be 1 to 180 days after created")
        return self

    def excuses(self, result: Result) -> bool:
        """Whether it is about this result."""
        return (
            result.check == self.check
            and self.preset in {"", result.preset}
            and (not self.fingerprint or self.fingerprint == result.fingerprint)
        )


def read_waivers(path: Path) -> list[Waiver]:
    """Read the file. Raises `WaiverError`."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        unknown = set(document) - {"waiver"}
        if unknown:
            raise WaiverError(f"{path}: unknown key {sorted(unknown)[0]!r}")
        return [Waiver.model_validate(table) for table in document.get("waiver", [])]
    except OSError as error:
        raise WaiverError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WaiverError(f"{path}: {error}") from None
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(map(str, problem["loc"]))
        raise WaiverError(f"{path}: {at + ': ' if at else ''}{problem['msg']}") from None


def waived(result: Result, waivers: Iterable[Waiver], today: date) -> Result:
    """Excuse a failure that a waiver of today excuses; a pass that one expects to fail is odd."""
    for waiver in waivers:
        if waiver.expires < today or not waiver.excuses(result):
            continue
        if result.outcome in {"fail", "warn"}:
            return result.model_copy(update={"outcome": "waived"})
    return result


def used(
    waivers: Sequence[Waiver], results: Sequence[Result]
) -> tuple[list[WaiverUse], list[Result]]:
    """Say which waivers were used; results that pass in spite of one become ``unexpected-pass``."""
    uses = []
    passing: set[str] = set()
    for waiver in waivers:
        about = [r for r in results if r.check == waiver.check and waiver.preset in {"", r.preset}]
        hit = any(r.outcome == "waived" and waiver.excuses(r) for r in about)
        if about and not hit and all(r.outcome == "pass" for r in about):
            passing.add(waiver.check)
        uses.append(
            WaiverUse(
                check=waiver.check,
                issue=waiver.issue,
                owner=waiver.owner,
                expires=waiver.expires.isoformat(),
                used=hit,
            )
        )
    changed = [
        r.model_copy(update={"outcome": "unexpected-pass"})
        if r.check in passing and r.outcome == "pass"
        else r
        for r in results
    ]
    return uses, changed
