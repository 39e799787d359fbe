"""What the conformance suite has to know of these drivers: their profiles, with every verb."""

from __future__ import annotations

import sys
from typing import Any, Final

from openshell_drivers.conformance import Profile

#: The suite's own switch makes the outages and the slowness.
_VERBS: Final = ("remove", "list_resources", "foreign", "workload", "exit_main")


def memory() -> Profile:
    """The profile of `Memory` with a state file."""
    place = ("memory", "--state", "{dir}/state.db")
    return Profile.model_validate(
        {
            "target": {
                "arguments": [
                    *("--set", "state={dir}/state.db", "--set", "ready_seconds=0.05"),
                    *("--set", 'issued={"issued": 300, "other": 300, "third": 300, "short": 3}'),
                ],
                "isolated": True,
            },
            "compute": {
                "unpullable": {"template": {"image": "memory/unpullable"}},
                "refused": {"template": {"image": "memory/refused"}},
                "lengthy": {"template": {"image": "memory/lengthy"}},
            },
            "credentials": {"known": ["issued", "other", "third"], "expiring": ["short"]},
            "backend": _backend(*place, verbs=(*_VERBS, "credential")),
        }
    )


def process() -> Profile:
    """The profile of `Process`."""
    return Profile.model_validate(
        {
            "target": {"arguments": ["--set", "root={dir}/root"], "isolated": True},
            "compute": {
                "unpullable": {"template": {"image": "process/unpullable"}},
                "refused": {"template": {"resources": {"cpu_limit": "1"}}},
                "lengthy": {"template": {"image": "process/lengthy"}},
            },
            "backend": _backend("process", "--root", "{dir}/root", verbs=_VERBS),
        }
    )


def _backend(*place: str, verbs: tuple[str, ...]) -> dict[str, Any]:
    command = [sys.executable, "-m", "openshell_drivers.reference.verbs", *place]
    return {verb: [*command, verb] for verb in verbs}
