"""The options of a run: one table for pytest and for ``openshell-drivers verify``.

A module of its own, since pytest imports it whenever this package is installed.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Option(NamedTuple):
    """One option. pytest has it as ``--openshell-NAME``, ``verify`` as ``--NAME``."""

    name: str
    metavar: str
    """Empty for one that takes no value."""
    help: str
    many: bool = False
    """Whether it may be repeated, or hold several values with commas between them."""

    @property
    def dest(self) -> str:
        """As an attribute of pytest's options."""
        return f"openshell_{self.name.replace('-', '_')}"


OPTIONS: Final = (
    Option("preset", "NAMES", "gateways: fork-mvp, 0.0.111, 0.1.2, 0.1-latest (all)", many=True),
    Option(
        "profile",
        "NAMES",
        "core, lifecycle, resilience, security, performance or all (all but performance)",
        many=True,
    ),
    Option("service", "NAMES", "compute, credentials, credential-store (those served)", many=True),
    Option("level", "LEVELS", "must, should, info (all)", many=True),
    Option("check", "IDS", "only these checks or clauses; * stands for anything", many=True),
    Option("not-check", "IDS", "all checks but these", many=True),
    Option("config", "FILE", "what the suite should know (openshell-conformance.toml, if there)"),
    Option("report", "DIR", "write reports into this folder"),
    Option("report-formats", "NAMES", "json, junit, html, badge (all)", many=True),
    Option("seed", "N", "repeat the random choices of another run"),
    Option("strict", "", "a recommendation that is not followed fails the run"),
    Option("time-budget", "TIME", "begin no check after this time: 90s, 10m"),
    Option("waivers", "FILE", "failures that are known and excused"),
    Option("env", "NAMES", "environment variables that the driver gets, by name", many=True),
    Option("sensitivity", "", "prove after a green run that each check would notice"),
)
