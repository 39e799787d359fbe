"""`Request`: all that the engine is told, as JSON, by the plugin or by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from openshell_drivers.conformance._targets import Kind, Target
from openshell_drivers.conformance._units import DEFAULT_PROFILES, Selection
from openshell_drivers.testing.gateway import PRESETS


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetRequest(_Part):
    """A `Target`."""

    given: str
    read_as: str
    kind: Kind
    name: str
    argv: list[str] = []
    verbose: list[str] = []
    socket: Path | None = None
    environment: dict[str, str] = {}

    def target(self) -> Target:
        """The same, as the rest knows it."""
        return Target(
            given=self.given,
            read_as=self.read_as,
            kind=self.kind,
            name=self.name,
            argv=tuple(self.argv),
            verbose=tuple(self.verbose),
            socket=self.socket,
            environment=self.environment,
        )


class Request(_Part):
    """One run."""

    target: TargetRequest
    profile: Path | None = None
    """A TOML file; None: what the target's package offers, or defaults."""
    presets: list[str] = list(PRESETS)
    profiles: list[str] = list(DEFAULT_PROFILES)
    services: list[str] = []
    levels: list[str] = ["MUST", "SHOULD", "INFO"]
    checks: list[str] = []
    not_checks: list[str] = []
    report: Path | None = None
    """A folder for all reports; None: none are written."""
    formats: list[str] = ["json", "junit", "html", "badge"]
    events: Path
    """Where every event is appended as a JSON line."""
    ledgers: Path
    """The folder of ledgers."""
    seed: Annotated[int, Field(ge=0)] = 0
    """0: by the clock."""
    strict: bool = False
    """Whether a SHOULD that does not hold fails the run."""
    time_budget: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which no further check begins."""
    waivers: Path | None = None
    sensitivity: bool = False
    command: str = ""
    repeat: str = ""
    """The command that judges the same driver again, for a check and a preset to be added."""
    plugins: list[str] = []

    def selection(self, keys: frozenset[str] | None = None) -> Selection:
        """What is to be run."""
        return Selection(
            presets=tuple(self.presets),
            profiles=tuple(self.profiles),
            services=tuple(self.services),
            levels=tuple(self.levels),
            checks=tuple(self.checks),
            not_checks=tuple(self.not_checks),
            keys=keys,
        )
