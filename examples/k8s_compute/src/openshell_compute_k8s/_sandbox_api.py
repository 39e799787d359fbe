"""`SandboxApi`: Sandbox resources, in the version that the cluster speaks, and their Secrets."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import Any, Final

import anyio

from openshell_compute_k8s._api import MERGE_PATCH, Api, Interrupted
from openshell_compute_k8s._environment import for_restart
from openshell_compute_k8s._failures import ApiRefusal, answer, answer_create
from openshell_compute_k8s._names import (
    ATTEMPT,
    AWAITS,
    HOLDER,
    START,
    UNFINISHED,
    identity_of,
    selector,
    selector_of,
)
from openshell_compute_k8s._objects import Group, Metadata, Object, Page, Sandbox
from openshell_compute_k8s._seen import Seen
from openshell_compute_k8s._strays import Strays
from openshell_compute_k8s._urls import GROUP, VERSIONS, core, group
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import (
    Aborted,
    AlreadyExists,
    Backoff,
    CreateScope,
    DriverError,
    FailedPrecondition,
    NotFound,
    Unavailable,
)

_GOING: Final = Backoff(attempts=None, delay=0.1, factor=1.5, maximum=1.0, jitter=0.2)
_PREDECESSOR: Final = Backoff(attempts=9, delay=0.1, factor=1.6, maximum=2.0, jitter=0.2)
_NAME_IS_FREE: Final = 20.0
_CHANGED_MEANWHILE: Final = Backoff(attempts=6, delay=0.05, factor=2.0, maximum=1.0, jitter=0.5)


class SandboxApi:
    """What is done to Sandbox resources."""

    def __init__(
        self, api: Api, config: KubernetesConfig, strays: Strays, *, namespace: str
    ) -> None:
        """Work in one namespace, or (empty) in all."""
        self._api = api
        self._config = config
        self._strays = strays
        self._scope = namespace
        self._version = ""
        self._finding = anyio.Lock()

    async def version(self) -> str:
        """Give the group and version to speak, ``agents.x-k8s.io/v1beta1`` first; asked for once.

        Raises `FailedPrecondition` if the cluster has neither, and what `Api.call` raises.
        """
        async with self._finding:
            if not self._version:
                self._version = await self._find()
        return self._version

    def forget_version(self) -> None:
        """Take that the version is not served any more."""
        self._version = ""

    async def _find(self) -> str:
        asked = self._config.api_version
        wanted = VERSIONS if asked == "auto" else (asked,)
        try:
            served = {
                each.version for each in (await self._api.get(f"/apis/{GROUP}", Group)).versions
            }
        except ApiRefusal as refusal:
            if refusal.code != 404:
                raise answer(refusal, f"read which versions of {GROUP} there are") from None
            served = set()
        for version in wanted:
            if version in served:
                return f"{GROUP}/{version}"
        raise FailedPrecondition(f"the cluster does not have {GROUP}/{' or '.join(wanted)}")

    async def path(self, namespace: str, name: str = "") -> str:
        """Say where sandboxes of a namespace are; of all namespaces, if it is empty."""
        return group(await self.version(), "sandboxes", namespace, name)

    async def running(self, wanted: bool) -> dict[str, Any]:
        """Write whether a sandbox is to run, as the version has it."""
        if (await self.version()).endswith("v1alpha1"):
            return {"replicas": 1 if wanted else 0}
        return {"operatingMode": "Running" if wanted else "Suspended"}

    async def create(
        self, namespace: str, body: dict[str, Any], sandbox_id: str, scope: CreateScope
    ) -> Sandbox:
        """Create, and give what the API server made of it. A request on its way is carried to its
        end.

        Of two tries of which the first broke, the second finds what the first has made. What is
        going, or was left unfinished by a driver that was killed, is waited for: its name will be
        free. Raises `ApiRefusal` or as `Api.call`.
        """
        path = await self.path(namespace)
        post = partial(self._api.call, "POST", path, Sandbox, body=body)
        longest = self._config.request_timeout + 1
        broken, until = False, time.monotonic() + _NAME_IS_FREE
        delays = iter(_GOING)
        while True:
            try:
                return await scope.shielded(post, seconds=longest)
            except Interrupted:
                if broken:
                    raise
                broken = True
            except ApiRefusal as refusal:
                there = await self._in_the_way(refusal, namespace, body)
                if there is not None and broken and _is_same_attempt(there.metadata, body):
                    return there
                if there is not None:
                    await self._make_room(there.metadata, refusal, sandbox_id)
                if time.monotonic() > until:
                    raise
            await anyio.sleep(next(delays))

    async def _make_room(self, there: Metadata, refusal: ApiRefusal, sandbox_id: str) -> None:
        """Remove what nobody will finish. Raises if what has the name stays."""
        if there.deletion_timestamp:
            return
        if not self._strays.is_left(there):
            if not _is_of(there, sandbox_id):
                raise refusal
            if UNFINISHED not in there.labels:
                raise AlreadyExists("the sandbox exists already")
        with contextlib.suppress(Aborted):
            await self.delete(there, as_it_is=True)

    async def _in_the_way(
        self, refusal: ApiRefusal, namespace: str, body: dict[str, Any]
    ) -> Sandbox | None:
        """Find what has the name already; None if it has just gone. Raises any other refusal."""
        if not refusal.already_exists:
            raise refusal
        try:
            path = await self.path(namespace, body["metadata"]["name"])
            return await self._api.get(path, Sandbox)
        except ApiRefusal as missing:
            if missing.code == 404:
                return None
            raise

    async def finish(self, about: Metadata) -> Sandbox:
        """Take the mark off what a create has completed, and let it run."""
        marks = {"labels": {UNFINISHED: None}, "annotations": {HOLDER: None}}
        change = {"metadata": marks, "spec": await self.running(True)}
        return await self._change(about, change)

    async def run(self, about: Metadata, wanted: bool, start: str = "") -> Sandbox:
        """Say whether a sandbox is to run, by which start, and give what it is then. Raises
        `NotFound` if this very one is gone."""
        marks = {"annotations": {START: start or None}}
        return await self._change(about, {"metadata": marks, "spec": await self.running(wanted)})

    async def run_anew(self, about: Metadata, start: str) -> Sandbox:
        """Let a sandbox run whose first pod was to wait for the creating client, and no other."""
        path = await self.path(about.namespace, about.name)
        try:
            whole = await self._api.get(path, dict[str, Any])
        except ApiRefusal as refusal:
            raise self._changing(refusal) from None
        template = for_restart(whole["spec"]["podTemplate"])
        change = {
            "metadata": {"annotations": {AWAITS: None, START: start or None}},
            "spec": {**await self.running(True), "podTemplate": template},
        }
        return await self._change(about, change)

    async def label(self, about: Metadata, labels: dict[str, str]) -> None:
        """Add labels, also to the pods to come."""
        of_pods = {"podTemplate": {"metadata": {"labels": labels}}}
        await self._change(about, {"metadata": {"labels": labels}, "spec": of_pods})

    async def _change(self, about: Metadata, change: dict[str, Any]) -> Sandbox:
        """Merge a change into this very object. An account without ``patch`` updates instead."""
        path = await self.path(about.namespace, about.name)
        guarded = {**change, "metadata": {**change.get("metadata", {}), "uid": about.uid}}
        try:
            return await self._api.call(
                "PATCH", path, Sandbox, body=guarded, media=MERGE_PATCH, again=True
            )
        except ApiRefusal as refusal:
            if refusal.code == 403:
                return await self._update(path, about.uid, change)
            raise self._changing(refusal) from None

    async def _update(self, path: str, uid: str, change: dict[str, Any]) -> Sandbox:
        delays = iter(_CHANGED_MEANWHILE)
        while True:
            try:
                whole = await self._api.get(path, dict[str, Any])
                if whole["metadata"].get("uid") != uid:
                    raise NotFound("the sandbox's resource is gone")
                return await self._api.call("PUT", path, Sandbox, body=_merged(whole, change))
            except ApiRefusal as refusal:
                delay = next(delays, None)
                if not refusal.conflict or delay is None:
                    raise self._changing(refusal) from None
                await anyio.sleep(delay)

    def _changing(self, refusal: ApiRefusal) -> DriverError:
        if refusal.gone or _is_successor(refusal):
            return NotFound("the sandbox's resource is gone")
        if refusal.conflict:
            return Aborted("the sandbox's resource is changed all the time")
        return self.answer(refusal, "change the sandbox")

    def answer(self, refusal: ApiRefusal, doing: str) -> DriverError:
        """Give the error for a call, in which a 404 says nothing of a sandbox: its kind is not
        served, or something on the way has answered."""
        if refusal.code == 404 and not refusal.gone:
            self.forget_version()
            return Unavailable(f"could not {doing}: the API server does not serve sandboxes now")
        return answer(refusal, doing)

    async def of_id(self, sandbox_id: str) -> list[Metadata]:
        """Find all that there is of one sandbox, finished or not, as the API server has it now."""
        query = {"labelSelector": selector_of(self._config, sandbox_id)}
        path = await self.path(self._scope)
        try:
            found = await self._api.everything(path, Sandbox, query)
        except ApiRefusal as refusal:
            raise self.answer(refusal, "look for the sandbox") from None
        named = [(identity_of(each.metadata), each.metadata) for each in found]
        return [about for identity, about in named if identity and identity.id == sandbox_id]

    async def is_empty(self, namespace: str) -> bool:
        """Whether the API server has no sandbox of this gateway in a namespace, finished or not."""
        query = {"labelSelector": selector(self._config), "limit": "1"}
        try:
            page = await self._api.get(await self.path(namespace), Page[Object], query)
        except ApiRefusal as refusal:
            raise self.answer(refusal, "look for sandboxes") from None
        return not page.items

    async def has_pod(self, seen: Seen) -> bool:
        """Whether the API server has a pod of this very sandbox. False if that may not be read:
        what is watched has to do then."""
        try:
            pod = await self._api.get(core("pods", seen.namespace, seen.pod_name), Object)
        except ApiRefusal as refusal:
            if refusal.code in {403, 404}:
                return False
            raise answer(refusal, "look for the sandbox's pod") from None
        return any(each.uid == seen.uid for each in pod.metadata.owner_references)

    async def delete_left(self, about: Metadata) -> None:
        """Remove what a create has left, unless it has become a sandbox since it was seen."""
        if UNFINISHED not in about.labels:  # a create of this process has failed
            await self.delete(about)
            return
        try:
            path = await self.path(about.namespace, about.name)
            there = (await self._api.get(path, Object)).metadata
        except ApiRefusal as refusal:
            if refusal.gone:
                return
            raise self.answer(refusal, "read what a create has left") from None
        if there.uid == about.uid and UNFINISHED in there.labels:
            await self.delete(there, as_it_is=True)

    async def delete(self, about: Metadata, *, as_it_is: bool = False) -> None:
        """Have this very object removed, after what blocks its deletion: its pod and what else the
        controller has made. The garbage collector takes its Secrets after it. Gone already is as
        good.

        Guarded by the uid alone: a change meanwhile is no obstacle, and a successor of the same
        name is left alone (COMP-DEL-03). `as_it_is`: not if it has changed; raises `Aborted` then.
        """
        guard = {"uid": about.uid}
        if as_it_is:
            guard["resourceVersion"] = about.resource_version
        body = {"preconditions": guard, "propagationPolicy": "Foreground"}
        path = await self.path(about.namespace, about.name)
        for delay in (*_CHANGED_MEANWHILE, None):
            try:
                await self._api.call("DELETE", path, Object, body=body, again=True)
            except ApiRefusal as refusal:
                if refusal.gone or _is_successor(refusal):
                    return
                if as_it_is and refusal.conflict:
                    raise Aborted("it has changed since it was seen") from None
                if not refusal.conflict or delay is None:
                    raise self.answer(refusal, "delete the sandbox") from None
                await anyio.sleep(delay)
            else:
                return

    async def put_secret(
        self, owner: Metadata, name: str, key: str, text: str, *, new: bool
    ) -> None:
        """Write a Secret that is removed together with the sandbox it belongs to.

        For a `new` sandbox, that of a predecessor with its name is waited out for a while: it is
        on its way to the garbage collector.
        """
        reference = {"apiVersion": await self.version(), "kind": "Sandbox"}
        labels = {key: value for key, value in owner.labels.items() if key != UNFINISHED}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": owner.namespace,
                "labels": labels,
                "ownerReferences": [{**reference, "name": owner.name, "uid": owner.uid}],
            },
            "type": "Opaque",
            "stringData": {key: text},
        }
        try:
            for delay in (*_PREDECESSOR, None) if new else (None,):
                if await self._post_or_put(owner.namespace, name, body, put=delay is None):
                    return
                await anyio.sleep(delay or 0)
        except ApiRefusal as refusal:
            raise answer_create(refusal, "Secret", owner.namespace) from None

    async def _post_or_put(
        self, namespace: str, name: str, body: dict[str, Any], *, put: bool
    ) -> bool:
        """Make a Secret, or (`put`) write one that is there; False if it is in the way."""
        try:
            await self._api.call("POST", core("secrets", namespace), Object, body=body, again=True)
        except ApiRefusal as refusal:
            if not refusal.already_exists:
                raise
            if put:
                path = core("secrets", namespace, name)
                await self._api.call("PUT", path, Object, body=body, again=True)
            return put
        return True


def _is_of(about: Metadata, sandbox_id: str) -> bool:
    identity = identity_of(about)
    return identity is not None and identity.id == sandbox_id


def _is_same_attempt(about: Metadata, body: dict[str, Any]) -> bool:
    """Whether it was made by the very call that looks for it."""
    wanted = body["metadata"].get("annotations", {}).get(ATTEMPT)
    return bool(wanted) and about.annotations.get(ATTEMPT) == wanted


def _is_successor(refusal: ApiRefusal) -> bool:
    """Whether the name belongs to another object by now."""
    return refusal.conflict and "UID" in refusal.status.message


def _merged(whole: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Merge as RFC 7396 does."""
    result = dict(whole)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = _merged(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = value
    return result
