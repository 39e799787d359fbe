"""How a sandbox's resource is named and marked, so that it is found again by its id alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from openshell_compute_k8s._objects import Metadata
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import SandboxSpec
from openshell_drivers.naming import (
    GATEWAY_ID,
    MANAGED_BY,
    SANDBOX_ID,
    SANDBOX_NAME,
    SANDBOX_WORKSPACE,
    identity_labels,
    label_value,
    merge_labels,
    object_name,
)

OURS: Final = "openshell"
_EVERYBODYS: Final = f"{MANAGED_BY}={OURS},{SANDBOX_ID}"
UNFINISHED: Final = "openshell.ai/unfinished"
"""A label of what a create has not completed: it is no sandbox yet, to nobody."""
HOLDER: Final = "openshell.ai/creating"
"""An annotation of the same: the process that is at it."""
ATTEMPT: Final = "openshell.ai/create"
"""An annotation: which call of a create has made it."""
START: Final = "openshell.ai/start"
"""An annotation: the generation of the start that was last made."""
CLAIMS: Final = "openshell.ai/attached-claims"
"""An annotation: the claims that the sandbox attaches from outside, with commas between them."""
AWAITS: Final = "openshell.ai/awaits-attachment"
"""An annotation: the pod template has the wish to wait for the creating client, which holds for the
create only (COMP01-IN-04)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose a resource is, in the gateway's own words."""

    id: str
    name: str
    workspace: str


def resource_name(spec: SandboxSpec) -> str:
    """Give the name of a sandbox's resource, which its pod has, too: at most 63 characters,
    and another one for each name and workspace (COMP-IN-02)."""
    return object_name(spec.workspace, spec.name)


def own_labels(spec: SandboxSpec, config: KubernetesConfig) -> dict[str, str]:
    """Make the labels of the resource and its pod: the user's, the operator's, the driver's."""
    own = identity_labels(spec, driver=OURS, gateway_id=config.gateway_id)
    return merge_labels({**spec.template.labels, **config.extra_labels}, own)


def identity_annotations(spec: SandboxSpec) -> dict[str, str]:
    """Make the annotations that keep the identity byte for byte; a label may be shortened
    (COMP-GET-03)."""
    return {SANDBOX_ID: spec.id, SANDBOX_NAME: spec.name, SANDBOX_WORKSPACE: spec.workspace}


def other_annotations(spec: SandboxSpec, claims: Iterable[str]) -> dict[str, str]:
    """Make the annotations that a start needs to know."""
    notes = {AWAITS: "true"} if spec.await_main_process_attachment else {}
    attached = ",".join(claims)
    return {**notes, CLAIMS: attached} if attached else notes


def identity_of(about: Metadata) -> Identity | None:
    """Read back whose a resource is; the labels of older drivers will do."""
    notes, labels = about.annotations, about.labels
    sandbox_id = notes.get(SANDBOX_ID) or labels.get(SANDBOX_ID)
    if not sandbox_id:
        return None
    return Identity(
        id=sandbox_id,
        name=notes.get(SANDBOX_NAME) or labels.get(SANDBOX_NAME) or about.name,
        workspace=notes.get(SANDBOX_WORKSPACE, labels.get(SANDBOX_WORKSPACE, "")),
    )


def selector(config: KubernetesConfig) -> str:
    """Select this gateway's objects, finished or not."""
    if not config.gateway_id:
        return _EVERYBODYS
    return f"{_EVERYBODYS},{GATEWAY_ID}={label_value(config.gateway_id)}"


def selector_of(config: KubernetesConfig, sandbox_id: str) -> str:
    """Select what this gateway has of one sandbox, finished or not."""
    return f"{selector(config)},{SANDBOX_ID}={label_value(sandbox_id)}"


def pod_selector(config: KubernetesConfig) -> str:
    """Select the pods of this gateway's sandboxes. Of one that was adopted the pod names none."""
    return _EVERYBODYS if config.adopt_unlabelled else selector(config)


def unlabelled_selector() -> str:
    """Select what no gateway is named for."""
    return f"{_EVERYBODYS},!{GATEWAY_ID}"


def workspace_labels(config: KubernetesConfig, workspace: str) -> Mapping[str, str]:
    """Mark what belongs to a workspace and no sandbox."""
    return {
        MANAGED_BY: OURS,
        GATEWAY_ID: label_value(config.gateway_id),
        SANDBOX_WORKSPACE: label_value(workspace),
    }
