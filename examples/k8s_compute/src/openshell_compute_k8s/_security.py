"""Who the workload is, and what its supervisor may do to keep it in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from openshell_compute_k8s.pod_parts import SecurityConfig

UID_RANGE: Final = "openshift.io/sa.scc.uid-range"
SUPPLEMENTAL_GROUPS: Final = "openshift.io/sa.scc.supplemental-groups"
DEFAULT_ID: Final = 1000

CAPABILITIES: Final = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYSLOG")
"""For network namespaces, Landlock and seccomp, and to know whose connection it is."""
USER_NAMESPACE_CAPABILITIES: Final = ("SETUID", "SETGID", "DAC_READ_SEARCH")
"""To become the workload's user, and to read other users' /proc, where the runtime's usual
capabilities are not there."""

_RANGE: Final = re.compile(r"\s*([0-9]{1,10})\s*[/-]\s*[0-9]{1,10}\s*(?:,.*)?")
_MOST: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class WorkloadUser:
    """Whom the supervisor becomes for the workload; never root."""

    uid: int
    gid: int


def workload_user(config: SecurityConfig, scc_annotations: Mapping[str, str]) -> WorkloadUser:
    """Decide it: the configuration, else OpenShift's annotations of the namespace, else 1000.

    An annotation that is no range, or begins with root, counts as missing.
    """
    uid = config.uid or _start(scc_annotations.get(UID_RANGE, "")) or DEFAULT_ID
    gid = config.gid or config.uid or _start(scc_annotations.get(SUPPLEMENTAL_GROUPS, "")) or uid
    return WorkloadUser(uid, gid)


def _start(text: str) -> int:
    match = _RANGE.fullmatch(text)
    start = int(match[1]) if match else 0
    return start if start <= _MOST else 0


def supervisor_context(config: SecurityConfig, *, user_namespace: bool) -> dict[str, Any]:
    """Make the security context of the container that is the sandbox."""
    capabilities = [*CAPABILITIES, *config.capabilities]
    if user_namespace:
        capabilities += USER_NAMESPACE_CAPABILITIES
    context: dict[str, Any] = {
        "runAsUser": 0,
        "capabilities": {"add": list(dict.fromkeys(capabilities))},
    }
    if config.privileged:
        context["privileged"] = True
    if config.apparmor:
        context["appArmorProfile"] = _apparmor(config.apparmor)
    return context


def helper_context(*capabilities: str) -> dict[str, Any]:
    """Make the security context of an init container: root without what it does not need."""
    kept: dict[str, Any] = {"drop": ["ALL"]}
    if capabilities:
        kept["add"] = list(capabilities)
    return {"runAsUser": 0, "allowPrivilegeEscalation": False, "capabilities": kept}


def _apparmor(profile: str) -> dict[str, str]:
    kind, _, name = profile.partition("/")
    return {"type": kind, "localhostProfile": name} if name else {"type": kind}
