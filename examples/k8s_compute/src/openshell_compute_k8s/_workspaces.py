"""Workspaces as namespaces: one for all, one each made here, or one each made by an operator."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import anyio

from openshell_compute_k8s._api import APPLY_PATCH, FIELD_MANAGER, Api
from openshell_compute_k8s._failures import ApiRefusal, answer, answer_create
from openshell_compute_k8s._names import workspace_labels
from openshell_compute_k8s._objects import Metadata, Object
from openshell_compute_k8s._urls import core, group, namespace
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import FailedPrecondition, InvalidArgument, Unavailable
from openshell_drivers.naming import GATEWAY_ID, SANDBOX_WORKSPACE, label_value, object_name

WORKSPACE_NOTE: Final = SANDBOX_WORKSPACE
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_APPLY: Final = {"fieldManager": FIELD_MANAGER, "force": "true"}
_ALLOWING: Final = frozenset({"true"})
_LONGEST_LIST: Final = 2**20
_FRESH: Final = 60.0
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_log: Final = logging.getLogger("openshell_compute_k8s")


class Workspaces:
    """Finds the namespace of a workspace, and makes and removes it where that is this driver's."""

    def __init__(self, api: Api, config: KubernetesConfig) -> None:
        self._api = api
        self._config = config
        self._rules = config.workspaces
        self.home = config.namespace or api.namespace
        """The namespace of shared sandboxes, and what is copied from."""
        self._ready: set[str] = set()
        self._notes: dict[str, tuple[float, Mapping[str, str]]] = {}
        self._making = anyio.Lock()
        self._turns = anyio.Condition()
        self._users: Counter[str] = Counter()
        self._deleting: set[str] = set()

    @property
    def scope(self) -> str:
        """The namespace to be watched; empty for all of them."""
        return self.home if self._rules.mode == "shared" else ""

    def namespace_of(self, workspace: str) -> str:
        """Name the namespace of a workspace. Raises `FailedPrecondition` for a request without one
        where that decides, `InvalidArgument` for one that cannot be a namespace's."""
        if self._rules.mode == "shared":
            return self.home
        workspace = workspace or self._rules.default
        if not workspace:
            raise FailedPrecondition("a workspace is needed: each has a namespace of its own here")
        plain = self._rules.prefix + workspace
        if _LABEL.fullmatch(plain):
            return plain
        if self._rules.mode == "operator":
            raise InvalidArgument("the workspace's name cannot be that of a namespace")
        return object_name("", workspace, prefix=self._rules.prefix)

    @asynccontextmanager
    async def use(self, workspace: str) -> AsyncIterator[str]:
        """Give the namespace of a workspace for a create, and keep it from being deleted meanwhile.

        Managed, it is made if it is missing (COMP-CREATE-10). Raises `FailedPrecondition` if it may
        not be used.
        """
        name = self.namespace_of(workspace)
        async with self._turns:
            while name in self._deleting:
                await self._turns.wait()
            self._users[name] += 1
        try:
            await self.make_usable(workspace)
            yield name
        finally:
            with anyio.CancelScope(shield=True):
                async with self._turns:
                    self._users[name] -= 1
                    if not self._users[name]:
                        del self._users[name]
                    self._turns.notify_all()

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """Hold a namespace that nobody creates in."""
        async with self._turns:
            while name in self._deleting or self._users[name]:
                await self._turns.wait()
            self._deleting.add(name)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                async with self._turns:
                    self._deleting.discard(name)
                    self._turns.notify_all()

    async def make_usable(self, workspace: str) -> None:
        """See to it that the namespace of a workspace is there and may be used."""
        name = self.namespace_of(workspace)
        if self._rules.mode == "operator":
            await self._require_allowed(name)
        elif self._rules.mode == "managed" and name not in self._ready:
            await self.ensure(workspace)

    async def require_usable(self, workspace: str) -> None:
        """Refuse a workspace that `usable` would refuse, and make nothing."""
        name = self.namespace_of(workspace)
        if self._rules.mode == "operator":
            await self._require_allowed(name)

    def forget(self, name: str) -> None:
        """Take that a namespace is not as it was left."""
        self._ready.discard(name)
        self._notes.pop(name, None)

    async def annotations(self, name: str) -> Mapping[str, str]:
        """Give a namespace's annotations, at most a minute old; none if it may not be read."""
        until, known = self._notes.get(name, (0.0, _NOTHING))
        if time.monotonic() < until:
            return known
        try:
            known = (await self._api.get(namespace(name), Object)).metadata.annotations
        except ApiRefusal as refusal:
            if refusal.code not in {403, 404}:
                raise answer(refusal, "read the namespace") from None
            known = _NOTHING
        self._notes[name] = (time.monotonic() + _FRESH, known)
        return known

    async def ensure(self, workspace: str) -> None:
        """Make a workspace's namespace and what belongs into it; what is there stays
        (COMP-WS-02)."""
        name = self.namespace_of(workspace)
        if self._rules.mode == "operator":
            await self._require_allowed(name)
        if self._rules.mode != "managed":
            return
        async with self._making:
            await self._make(name, workspace or self._rules.default)
            self._ready.add(name)

    async def delete(self, workspace: str, is_empty: Callable[[str], Awaitable[bool]]) -> None:
        """Remove a namespace that was made here, if the API server has no sandbox in it.

        One that is not there is no error, and one of somebody else is left alone (COMP-WS-03). The
        one that was looked at is removed, and no successor of its name.
        """
        if self._rules.mode != "managed":
            return
        name = self.namespace_of(workspace)
        async with self._alone(name):
            self._ready.discard(name)
            found = await self._read(name)
            if found is None or not self._is_ours(found, workspace or self._rules.default):
                return
            if not await is_empty(name):
                raise FailedPrecondition("the workspace still has sandboxes")
            await self._remove(found)

    async def _remove(self, found: Metadata) -> None:
        body = {"preconditions": {"uid": found.uid}, "propagationPolicy": "Background"}
        try:
            await self._api.call("DELETE", namespace(found.name), Object, body=body, again=True)
        except ApiRefusal as refusal:
            if refusal.code not in {404, 409}:
                raise answer(refusal, "delete the workspace's namespace") from None

    async def _read(self, name: str) -> Metadata | None:
        try:
            return (await self._api.get(namespace(name), Object)).metadata
        except ApiRefusal as refusal:
            if refusal.code == 404:
                return None
            raise answer(refusal, "read the workspace's namespace") from None

    def _is_ours(self, found: Metadata, workspace: str) -> bool:
        return (
            found.labels.get(GATEWAY_ID) == label_value(self._config.gateway_id)
            and found.annotations.get(WORKSPACE_NOTE) == workspace
        )

    async def _make(self, name: str, workspace: str) -> None:
        found = await self._read(name)
        if found is None:
            await self._create(name, workspace)
        elif not self._is_ours(found, workspace):
            raise FailedPrecondition(f"namespace {name} belongs to somebody else")
        elif found.deletion_timestamp:
            raise Unavailable(f"namespace {name} is being deleted; try again when it is gone")
        for path, body in [*self._furniture(name, workspace), *await self._copies(name, workspace)]:
            await self._apply(path, body, name)

    async def _create(self, name: str, workspace: str) -> None:
        notes = {WORKSPACE_NOTE: workspace}
        if wanted := self._rules.copy_annotations:
            home = await self.annotations(self.home)
            notes.update({key: home[key] for key in wanted if key in home})
        labels = {**self._rules.namespace_labels, **workspace_labels(self._config, workspace)}
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels, "annotations": notes},
        }
        try:
            await self._api.call("POST", core("namespaces"), Object, body=body)
        except ApiRefusal as refusal:
            if not refusal.already_exists:  # another instance of this driver was quicker
                raise answer_create(refusal, "namespace", name) from None
            found = await self._read(name)
            if found is None or not self._is_ours(found, workspace):
                raise FailedPrecondition(f"namespace {name} belongs to somebody else") from None
        _log.info("made a workspace's namespace", extra={"namespace": name})

    def _furniture(self, name: str, workspace: str) -> list[tuple[str, dict[str, Any]]]:
        """The service account of sandboxes, and who may reach them."""
        labels = dict(workspace_labels(self._config, workspace))
        account = self._config.pod.service_account
        things: list[tuple[str, dict[str, Any]]] = []
        if account and account != "default":
            body: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": account, "namespace": name, "labels": labels},
                "automountServiceAccountToken": False,
            }
            things.append((core("serviceaccounts", name, account), body))
        if self._rules.gateway_pods:
            policy = "openshell-sandboxes"
            things.append(
                (
                    group("networking.k8s.io/v1", "networkpolicies", name, policy),
                    self._network_policy(policy, name, labels),
                )
            )
        return things

    def _network_policy(self, policy: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
        gateway = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.home}},
            "podSelector": {"matchLabels": dict(self._rules.gateway_pods)},
        }
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": policy, "namespace": name, "labels": labels},
            "spec": {
                "podSelector": {},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {
                        "from": [gateway],
                        "ports": [{"protocol": "TCP", "port": self._rules.ssh_port}],
                    }
                ],
            },
        }

    async def _copies(self, name: str, workspace: str) -> list[tuple[str, dict[str, Any]]]:
        """The Secrets that pods need, copied from home. One that is not there is left out."""
        labels = dict(workspace_labels(self._config, workspace))
        pod = self._config.pod
        wanted = {*self._rules.copy_secrets, *pod.image_pull_secrets, *pod.client_tls.secrets}
        copies = []
        for secret in sorted(wanted):
            found = await self._secret(secret)
            if found is not None:
                metadata = {"name": secret, "namespace": name, "labels": labels}
                kept: dict[str, Any] = {key: found[key] for key in ("type", "data") if key in found}
                body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **kept}
                copies.append((core("secrets", name, secret), body))
        return copies

    async def _secret(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._api.get(core("secrets", self.home, name), dict[str, Any])
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
            raise answer_create(refusal, body["kind"], name) from None

    # Operator mode.

    async def _require_allowed(self, name: str) -> None:
        if name in self._rules.allow or name in self._in_file() or await self._is_labelled(name):
            return
        raise FailedPrecondition(f"namespace {name} is not allowed for sandboxes")

    def _in_file(self) -> frozenset[str]:
        """Read who is allowed, anew each time: the file is small. Unreadable, it allows nobody."""
        path = self._rules.allow_file
        if path is None:
            return frozenset()
        try:
            return _lines(path)
        except (OSError, ValueError):
            _log.warning("the list of namespaces cannot be read; it allows none")
            return frozenset()

    async def _is_labelled(self, name: str) -> bool:
        key = self._rules.allow_label
        if key is None:
            return False
        found = await self._read(name)
        allowing = {*_ALLOWING, label_value(self._config.gateway_id)}
        return found is not None and found.labels.get(key) in allowing


def _lines(path: Path) -> frozenset[str]:
    with path.open("rb") as file:
        text = file.read(_LONGEST_LIST + 1)
    if len(text) > _LONGEST_LIST:
        raise ValueError("too long")
    lines = (line.partition("#")[0].strip() for line in text.decode().splitlines())
    return frozenset(line for line in lines if line)
