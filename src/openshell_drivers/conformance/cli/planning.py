"""``verify --plan``: what would run at a target, and what could not for want of something."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from openshell_drivers._logs import printable
from openshell_drivers.conformance._backend import Backend
from openshell_drivers.conformance._caller import Transcript
from openshell_drivers.conformance._checks import NEEDS, Check, checks
from openshell_drivers.conformance._client import Engine, Event, exit_status
from openshell_drivers.conformance._instances import Instance
from openshell_drivers.conformance._offers import profile_for
from openshell_drivers.conformance._profile import Profile
from openshell_drivers.conformance._request import Request
from openshell_drivers.conformance._targets import Target
from openshell_drivers.conformance.cli.targets import requested
from openshell_drivers.conformance.report.words import count
from openshell_drivers.errors import ConfigError


def show(options: Mapping[str, Any], text: str) -> int:
    """Start the driver, look at it, and print the plan. The exit status is 0 if there is one."""
    request = requested(text, options)
    engine = Engine(request, Path.cwd())
    try:
        plan = engine.feed.plan()
    finally:
        engine.close()
    if plan["event"] != "planned":
        problem = printable(str(plan["why"]).rstrip().replace("\n", "; "), 2000)
        if exit_status(plan) == 2:
            raise ConfigError(problem)
        print(f"openshell-drivers: {problem}")
        return exit_status(plan)
    whole = Request.model_validate({**request, "events": "-", "ledgers": "-"})
    profile, source = profile_for(whole)
    for line in _lines(plan, source, missing(whole.target.target(), profile)):
        print(line)
    return 0


def missing(target: Target, profile: Profile) -> dict[str, str]:
    """The needs that a target and its profile do not meet, and what to supply for each."""
    backend = Backend(profile.backend, _Unstarted(target), Transcript(lambda words: words))
    sections = (profile.compute, profile.credentials)

    def met(need: str) -> bool:
        if need == "spawned":
            return not target.attached
        if any(need in type(section).model_fields for section in sections):
            return any(getattr(section, need, None) for section in sections)
        return backend.can(need)

    return {need: words for need, words in NEEDS.items() if not met(need)}


class _Unstarted(Instance):
    """What stands for an instance where none is started."""

    def __init__(self, target: Target) -> None:
        self.target = target


def _lines(plan: Event, source: str, wanting: Mapping[str, str]) -> Iterator[str]:
    units = plan["units"]
    yield f"driver    {plan['name']} {plan['version']}, serves {', '.join(plan['services'])}"
    yield f"profile   {source}"
    places = Counter((unit["service"], unit["profile"]) for unit in units)
    for (service, name), number in places.items():
        yield f"  {service + ', ' + name:32}{count(number, 'result')}"
    found = {unit["check"] for unit in units}
    lacking = _lacking((checks()[name] for name in sorted(found)), wanting)
    if lacking:
        yield "could not be judged; to have it judged, supply:"
    for words, names in lacking.items():
        yield f"  {words}"
        yield f"    {', '.join(names)}"
    blocked = sum(map(len, lacking.values()))
    yield f"plan      {count(len(found), 'check')}, {blocked} of which could not be judged"


def _lacking(found: Iterable[Check], wanting: Mapping[str, str]) -> dict[str, list[str]]:
    """The checks that could not be judged, by the first thing that each lacks."""
    lacking: dict[str, list[str]] = defaultdict(list)
    for check in found:
        need = next((each for each in check.needs if each in wanting), None)
        if need is not None:
            lacking[wanting[need]].append(check.id)
    return lacking
