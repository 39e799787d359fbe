"""Whether a sandbox may attach a claim that somebody else made (COMP01-ADM-05)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from openshell_compute_k8s._api import Api
from openshell_compute_k8s._failures import ApiRefusal, answer
from openshell_compute_k8s._objects import Object
from openshell_compute_k8s._urls import core
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import FailedPrecondition

WORKSPACE: Final = "${workspace}"
DEFAULT_LABELS: Final[Mapping[str, str]] = {
    "openshell.ai/sandbox-attachable": "true",
    "openshell.ai/sandbox-attachable-workspace": WORKSPACE,
}
"""What a 0.1.x gateway's default policy asks of every external object."""


async def require_attachable(
    api: Api, config: KubernetesConfig, claims: Iterable[str], namespace: str, workspace: str
) -> None:
    """Refuse a claim without the required labels, as the API server has them, whatever the request
    says of it. Raises `FailedPrecondition`."""
    if config.admission_enabled is False:
        return
    required = DEFAULT_LABELS if config.admission_labels is None else config.admission_labels
    if not workspace and WORKSPACE in required.values():
        for claim in claims:
            raise FailedPrecondition(f"claim {claim}: only a sandbox of a workspace may attach it")
    for claim in claims:
        labels = await _labels(api, claim, namespace)
        for key, value in required.items():
            if labels.get(key) != (workspace if value == WORKSPACE else value):
                raise FailedPrecondition(f"claim {claim} lacks the label {key} that would allow it")


async def _labels(api: Api, claim: str, namespace: str) -> Mapping[str, str]:
    try:
        path = core("persistentvolumeclaims", namespace, claim)
        return (await api.get(path, Object)).metadata.labels
    except ApiRefusal as refusal:
        if refusal.code == 404:
            raise FailedPrecondition(f"there is no claim {claim}") from None
        if refusal.code == 403:
            raise FailedPrecondition(f"the driver may not read claim {claim} (RBAC)") from None
        raise answer(refusal, "read a claim") from None
