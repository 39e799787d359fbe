"""The report of a run, as ``report.json`` holds it and as its JSON Schema publishes it.

Additive within a major version of `SCHEMA`: a reader ignores keys that it does not know.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Final = "openshell-driver-conformance/1"

Level = Literal["MUST", "SHOULD", "INFO"]
Outcome = Literal[
    "pass",
    "fail",  # a MUST does not hold
    "warn",  # a SHOULD does not hold
    "info",  # an observation, without a verdict
    "not-applicable",  # the driver may do without, and does
    "not-testable",  # the profile lacks something; `reason` says what to supply
    "not-observable",  # cannot be seen in this mode, such as a process behind a bare socket
    "blocked",  # another check failed first; `blocked_by`
    "waived",  # a failure, known and excused for a time
    "unexpected-pass",  # waived, and it passed
    "error",  # the suite itself broke
]
Verdict = Literal[
    "conformant",
    "conformant-with-waivers",
    "partial",  # nothing failed, but a MUST could not be tested
    "non-conformant",
    "incomplete",  # the run was cut short
]
Profile = Literal["core", "lifecycle", "resilience", "security", "performance"]
ServiceName = Literal["compute", "credentials", "credential-store"]
Mode = Literal["spawned", "attached"]


class Part(BaseModel):
    """Frozen, and open to keys of later versions. Docstrings become the schema's descriptions."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Exchange(Part):
    """One call of a transcript, with every secret taken out."""

    rpc: str
    request: str
    """Protobuf JSON on one line, cut where it is long."""
    code: str
    """The gRPC status code by name."""
    message: str = ""
    """The status message, or the answer as protobuf JSON."""
    milliseconds: float
    at: float
    """Seconds since the check began."""


class Failure(Part):
    """Why a check failed, for an author who reads nothing else."""

    expected: str
    observed: str
    sees: str
    """What the gateway's user would see."""
    mend: str
    transcript: list[Exchange] = []
    log: list[str] = []
    """The newest lines of the driver's log, with every secret taken out."""
    place: str = ""
    """Where in the suite the check failed: ``module:line``."""


class Result(Part):
    """One check under one gateway preset."""

    check: str
    """The id: the clause's, with ``.a`` and so on where a clause has several checks."""
    clause: str
    title: str
    service: ServiceName
    profile: Profile
    preset: str
    level: Level
    outcome: Outcome
    reason: str = ""
    """Why it is not a pass, in one line."""
    milliseconds: float = 0
    failure: Failure | None = None
    notes: list[str] = []
    """Observations that are no failures."""
    blocked_by: str = ""
    once: bool = False
    """Whether the gateway's line makes no difference: run under one preset, valid for all."""
    revision: int = 1
    """Raised when the check's meaning changes: results of different revisions do not compare."""
    repeat: str = ""
    """The command that runs this check alone."""
    sensitivity: Literal["", "proven", "insensitive", "n/a"] = ""
    fingerprint: str = ""
    """Of a failure: the same one has the same, on any machine."""


class ClauseText(Part):
    """A clause that the run's checks hold, so that a report can be read alone."""

    id: str
    text: str
    source: str
    where: str = ""
    checks: list[str] = []
    observed: str = "wire"
    unobserved: str = ""


class ServiceVerdict(Part):
    """The verdict of one service on one profile."""

    service: ServiceName
    profile: Profile
    verdict: Verdict
    counts: dict[str, int]
    """How many results have which outcome."""
    missing: list[str] = []
    """What to supply for the checks that could not be run."""


class Capability(Part):
    """What a driver says it can do, and what was found."""

    name: str
    declared: bool | None
    """None where nothing can be declared."""
    probed: Literal["works", "unsupported", "misbehaves", "not probed"]


class Target(Part):
    """What was judged."""

    given: str
    """The target as it was given on the command line."""
    read_as: str
    """The one explicit reading of it, such as ``cmd:./driver``."""
    mode: Mode
    name: str = ""
    """The driver's own name."""
    version: str = ""
    services: list[ServiceName] = []
    organization: str = ""
    url: str = ""


class Run(Part):
    """One run of the suite."""

    id: str
    started: str
    """RFC 3339, UTC."""
    seconds: float = 0
    seed: int
    complete: bool = False
    """Whether every planned check was executed."""
    planned: int = 0
    executed: int = 0
    """Checks that ended in pass, fail, warn, info or waived."""
    selection: Literal["full", "selective"] = "full"
    presets: list[str]
    profiles: list[Profile]
    command: str = ""
    suite: str
    """The version of this package."""
    faults: Literal["", "sdk-injected", "profile"] = ""
    """Where outages and latencies come from."""


class Environment(Part):
    """Where it ran."""

    system: str
    python: str
    grpc: str
    cpus: int
    plugins: list[str] = []
    """The pytest plugins of the host."""


class Leak(Part):
    """Something that the run left behind at the target."""

    kind: Literal["sandbox", "credential", "process", "resource"]
    name: str
    attributed: str = ""
    """A failed check that explains it."""


class Metric(Part):
    """A figure; `verdict` says how it lies to its budget, where it has one."""

    name: str
    value: float
    unit: str
    budget: float | None = None
    verdict: Literal["", "within", "over", "unstable"] = ""


class WaiverUse(Part):
    """A waiver of this run."""

    check: str
    issue: str
    owner: str
    expires: str
    used: bool


class Report(Part):
    """Everything. `verify` recomputes the verdicts from the results."""

    format: Annotated[str, Field(alias="schema")] = SCHEMA
    verdict: Verdict
    exit_status: int
    run: Run
    target: Target
    environment: Environment
    verdicts: list[ServiceVerdict]
    capabilities: list[Capability] = []
    clauses: list[ClauseText] = []
    results: list[Result]
    leaks: list[Leak] = []
    metrics: list[Metric] = []
    waivers: list[WaiverUse] = []
    warnings: list[str] = []

    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, use_attribute_docstrings=True
    )
