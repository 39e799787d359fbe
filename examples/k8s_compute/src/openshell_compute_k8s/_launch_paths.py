"""Where a sandbox's launch authentication comes to lie: names of Secrets, of files, of variables.

Two Secrets per sandbox, which may be missing: gateways before 0.1 give none (COMP01-LAUNCH-01). The
pod template always mounts both, so that a start can bring them without another template. Only
root reads the supervisor's; the workload reads the public one (COMP01-LAUNCH-02).
"""

from __future__ import annotations

from typing import Final

SUPERVISOR_SUFFIX: Final = "-supervisor"
PUBLIC_SUFFIX: Final = "-public"
SUPERVISOR_KEY: Final = "supervisor.json"
PUBLIC_KEY: Final = "launch.json"

SUPERVISOR_DIR: Final = "/run/openshell/launch"
PUBLIC_DIR: Final = "/run/openshell/public"
SUPERVISOR_FILE: Final = f"{SUPERVISOR_DIR}/{SUPERVISOR_KEY}"
PUBLIC_FILE: Final = f"{PUBLIC_DIR}/{PUBLIC_KEY}"

# No gateway line fixes names for these; a supervisor that reads the files finds them here.
LAUNCH_FILE: Final = "OPENSHELL_LAUNCH_FILE"
LAUNCH_PUBLIC_FILE: Final = "OPENSHELL_LAUNCH_PUBLIC_FILE"


def supervisor_secret(object_name: str) -> str:
    """Name the Secret with the supervisor's bundle."""
    return object_name + SUPERVISOR_SUFFIX


def public_secret(object_name: str) -> str:
    """Name the Secret with what the workload may know."""
    return object_name + PUBLIC_SUFFIX
