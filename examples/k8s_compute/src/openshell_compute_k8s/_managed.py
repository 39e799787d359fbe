"""`ManagedNamespaces`: namespaces that this driver makes, furnishes and removes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from openshell_compute_k8s._api import APPLY_PATCH, FIELD_MANAGER, Api
from openshell_compute_k8s._failures import ApiRefusal, answer, answer_create
from openshell_compute_k8s._furniture import Thing, copy_of, furniture, secrets_to_copy
from openshell_compute_k8s._names import workspace_labels
from openshell_compute_k8s._namespaces import Namespaces
from openshell_compute_k8s._objects import Metadata, Object
from openshell_compute_k8s._urls import core, namespace
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import DriverError, FailedPrecondition, PermissionDenied, Unavailable
from openshell_drivers.naming import GATEWAY_ID, SANDBOX_WORKSPACE, label_value

_APPLY: Final = {"fieldManager": FIELD_MANAGER, "force": "true"}
_log: Final = logging.getLogger("openshell_compute_k8s")


class ManagedNamespaces:
    """What is made for workspaces. `home` is the namespace that Secrets are copied from; nothing
    is ever written there."""

    def __init__(
        self, api: Api, config: KubernetesConfig, namespaces: Namespaces, home: str
    ) -> None:
        self._api = api
        self._config = config
        self._namespaces = namespaces
        self._home = home

    async def make(self, name: str, workspace: str) -> bool:
        """Make a namespace and what belongs into it, or renew that; the rest stays as it is.

        False if a Secret that is to be copied is not there: the others are. Raises
        `FailedPrecondition` for a namespace of somebody else, and for what the cluster refuses;
        `PermissionDenied` for a missing right; `Unavailable` while one of this name is going.
        """
        found = await self._namespaces.read(name)
        if found is not None:
            self._require_usable(found, workspace)
        wanted = secrets_to_copy(self._config)
        copies = await self._copies(wanted, name, workspace)
        if found is None:
            await self._create(name, workspace)
        for path, body in [*furniture(self._config, self._home, name, workspace), *copies]:
            await self._apply(path, body, name)
        return len(copies) == len(wanted)

    async def remove(
        self, name: str, workspace: str, is_empty: Callable[[str], Awaitable[bool]]
    ) -> None:
        """Remove a namespace that was made here, with all that is in it, if it `is_empty`.

        One that is not there is no error, and one of somebody else is left alone (COMP-WS-03). The
        one that was looked at is removed, and no successor of its name.
        """
        found = await self._namespaces.read(name)
        if found is None or not self._is_ours(found, workspace):
            return
        if not await is_empty(name):
            raise FailedPrecondition("the workspace still has sandboxes")
        body = {"preconditions": {"uid": found.uid}, "propagationPolicy": "Background"}
        try:
            await self._api.call("DELETE", namespace(name), Object, body=body, again=True)
        except ApiRefusal as refusal:
            if refusal.code not in {404, 409}:
                raise answer(refusal, "delete the workspace's namespace") from None

    def _require_usable(self, found: Metadata, workspace: str) -> None:
        if not self._is_ours(found, workspace):
            raise _foreign(found.name)
        if found.deletion_timestamp:
            raise Unavailable(f"namespace {found.name} is being deleted; try again when it is gone")

    def _is_ours(self, found: Metadata, workspace: str) -> bool:
        return (
            found.labels.get(GATEWAY_ID) == label_value(self._config.gateway_id)
            and found.annotations.get(SANDBOX_WORKSPACE) == workspace
        )

    async def _create(self, name: str, workspace: str) -> None:
        rules = self._config.workspaces
        notes = {SANDBOX_WORKSPACE: workspace}
        if wanted := rules.copy_annotations:
            home = await self._namespaces.annotations(self._home)
            notes.update({key: home[key] for key in wanted if key in home})
        labels = {**rules.namespace_labels, **workspace_labels(self._config, workspace)}
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels, "annotations": notes},
        }
        try:
            await self._api.call("POST", core("namespaces"), Object, body=body)
        except ApiRefusal as refusal:
            if not refusal.already_exists:  # another instance of this driver was quicker
                raise _refused(refusal, "namespace", name) from None
            found = await self._namespaces.read(name)
            if found is None or not self._is_ours(found, workspace):
                raise _foreign(name) from None
        _log.info("made a workspace's namespace", extra={"namespace": name})

    async def _copies(self, wanted: list[str], name: str, workspace: str) -> list[Thing]:
        """Copy Secrets. One that is not there is left out; one that may not be read is an error:
        somebody has to add its name to the account's Role."""
        found = [await self._secret(each) for each in wanted]
        return [copy_of(each, self._config, name, workspace) for each in found if each is not None]

    async def _secret(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._api.get(core("secrets", self._home, name), dict[str, Any])
        except ApiRefusal as refusal:
            if refusal.code == 404:
                _log.warning("a Secret to be copied is not there", extra={"secret": name})
                return None
            raise answer(refusal, f"read Secret {name}") from None

    async def _apply(self, path: str, body: dict[str, Any], name: str) -> None:
        try:
            await self._api.call(
                "PATCH", path, Object, query=_APPLY, body=body, media=APPLY_PATCH, again=True
            )
        except ApiRefusal as refusal:
            raise _refused(refusal, body["kind"], name) from None


def _foreign(name: str) -> FailedPrecondition:
    return FailedPrecondition(f"namespace {name} belongs to somebody else")


def _refused(refusal: ApiRefusal, what: str, name: str) -> DriverError:
    """Give the error for a write. What is forbidden has a code of its own (COMP-WS-02)."""
    error = answer_create(refusal, what, name)
    forbidden = refusal.code == 403 and not refusal.ending_namespace
    return PermissionDenied(error.message) if forbidden else error
