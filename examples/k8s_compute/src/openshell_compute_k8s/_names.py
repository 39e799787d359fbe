"""How a sandbox's resource is named and marked, so that it is found again by its id alone."""

from __future__ import annotations

from collections.abc import Mapping
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
UNFINISHED: Final = "openshell.ai/unfinished"
"""A label of what a create has not completed: it is no sandbox yet, to nobody."""


HOLDER: Final = "openshell.ai/creating"
"""An annotation of the same: the process that is at it."""
ATTEMPT: Final = "openshell.ai/create"
"""An annotation: which call of a create has made it."""
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


def passing_annotations(spec: SandboxSpec) -> dict[str, str]:
    """Make the annotations of the resource that its first start takes off."""
    return {AWAITS: "true"} if spec.await_main_process_attachment else {}


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


def selector(config: KubernetesConfig, *, finished: bool | None = True) -> str:
    """Select this gateway's objects: `finished` ones, unfinished ones, or (None) both."""
    terms = [f"{MANAGED_BY}={OURS}", SANDBOX_ID]
    if config.gateway_id:
        terms.append(f"{GATEWAY_ID}={label_value(config.gateway_id)}")
    if finished is not None:
        terms.append(f"!{UNFINISHED}" if finished else UNFINISHED)
    return ",".join(terms)


def selector_of(config: KubernetesConfig, sandbox_id: str) -> str:
    """Select what this gateway has of one sandbox, finished or not."""
    return f"{selector(config, finished=None)},{SANDBOX_ID}={label_value(sandbox_id)}"


def unlabelled_selector() -> str:
    """Select what no gateway is named for."""
    return f"{MANAGED_BY}={OURS},{SANDBOX_ID},!{GATEWAY_ID}"


def workspace_labels(config: KubernetesConfig, workspace: str) -> Mapping[str, str]:
    """Mark what belongs to a workspace and no sandbox."""
    return {
        MANAGED_BY: OURS,
        GATEWAY_ID: label_value(config.gateway_id),
        SANDBOX_WORKSPACE: label_value(workspace),
    }
