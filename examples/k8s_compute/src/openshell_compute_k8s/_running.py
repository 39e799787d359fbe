"""`Running`: sandboxes that are stopped and started."""

from __future__ import annotations

import time
from typing import Final, NoReturn

import anyio

from openshell_compute_k8s._api import Api
from openshell_compute_k8s._claims import require_attachable
from openshell_compute_k8s._failures import ApiRefusal
from openshell_compute_k8s._launch import put_launch
from openshell_compute_k8s._objects import Metadata, Sandbox
from openshell_compute_k8s._sandbox_api import SandboxApi
from openshell_compute_k8s._seen import Seen, is_stopped, observe
from openshell_compute_k8s._view import View
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import (
    Backoff,
    DeadlineExceeded,
    DriverError,
    FailedPrecondition,
    NotFound,
    SandboxRef,
    StartRequest,
    Unavailable,
)
from openshell_drivers.launch import LaunchAuthentication

_SIGHT: Final = 20.0
_LOOKS: Final = Backoff(attempts=None, delay=0.05, factor=1.5, maximum=1.0, jitter=0.2)
_REVERT: Final = 2.0


class Running:
    """Stops and starts the sandboxes of one gateway, as the view shows them."""

    def __init__(
        self, api: Api, sandboxes: SandboxApi, view: View, config: KubernetesConfig
    ) -> None:
        self._api = api
        self._sandboxes = sandboxes
        self._view = view
        self._config = config

    async def stop(self, ref: SandboxRef) -> None:
        """Have a sandbox's pod ended, and wait for that (COMP-STOP-02)."""
        seen = await self._find(ref)
        if seen.deleting:
            raise FailedPrecondition("the sandbox is being deleted")
        await self._suspend(seen)

    async def _suspend(self, before: Seen) -> None:
        """Have it said that a sandbox is not to run, whatever is believed of it, and wait until
        what was said is seen to be done."""
        said = await self._sandboxes.run(_metadata(before), wanted=False)
        view, began = await self._sight(), time.monotonic()

        def stopped() -> bool:
            seen = view.by_uid(before.uid)
            if seen is None:
                return True
            heard = seen.generation >= said.metadata.generation and not seen.wanted
            return heard and is_stopped(seen, view.pod_of(seen), pods_known=view.pods_known)

        ended = await view.until(before.id, stopped, self._config.stop_timeout)
        delays = iter(_LOOKS)
        while ended and await self._sandboxes.has_pod(before):
            # The controller has said so before it knew of the pod that it had just made.
            ended = time.monotonic() - began < self._config.stop_timeout
            await anyio.sleep(next(delays))
        if not ended:
            seconds = time.monotonic() - began
            raise DeadlineExceeded(f"the sandbox's pod has not ended in {seconds:.0f} s")
        if view.by_uid(before.uid) is None:
            raise NotFound("the sandbox was deleted meanwhile")

    async def start(self, ref: SandboxRef, request: StartRequest) -> str:
        """Let a sandbox run again, with new launch authentication if there is any.

        What runs goes on; a run that has ended by itself is cleared away first. After a failure the
        sandbox is stopped, if that can still be said (COMP-START-04).
        """
        seen = await self._find(ref)
        if seen.deleting:
            await self._until_gone(seen)
        expected = request.expected_runtime_identity
        if expected and expected != seen.runtime_identity:
            raise FailedPrecondition("the sandbox is not the one that the gateway knows")
        if seen.wanted and request.generation_id and request.generation_id == seen.started:
            return seen.runtime_identity  # made already, by a process before this one
        runs = seen.wanted and not self._has_ended(seen)
        if seen.claims and not runs:
            await require_attachable(
                self._api, self._config, seen.claims, seen.namespace, seen.workspace
            )
        await self._start(seen, request)
        return seen.runtime_identity

    async def _start(self, seen: Seen, request: StartRequest) -> None:
        launch, start = request.launch_authentication, request.generation_id
        if launch is not None:
            about = _metadata(seen, own_labels_of=await self._read(seen))
            parts = LaunchAuthentication.parse(launch)
            await put_launch(self._sandboxes, about, parts, new=False)
        revert = not seen.wanted
        if seen.wanted and self._has_ended(seen):
            await self._suspend(seen)
            revert = True
        try:
            if seen.awaits:
                await self._sandboxes.run_anew(_metadata(seen), start)
            else:  # one that runs goes on
                await self._sandboxes.run(_metadata(seen), wanted=True, start=start)
        except NotFound:
            raise
        except BaseException:  # a start that is given up, too, must not happen later
            if revert:
                with anyio.CancelScope(shield=True), anyio.move_on_after(_REVERT):
                    await self._revert(seen)
            raise

    async def _until_gone(self, seen: Seen) -> NoReturn:
        """Wait for the end of what somebody else is deleting: a gateway makes it anew when it is
        gone (COMP01-START-02)."""
        if await self._view.until(seen.id, lambda: self._view.by_uid(seen.uid) is None, _SIGHT):
            raise NotFound("the sandbox was deleted")
        raise FailedPrecondition("the sandbox is being deleted")

    async def _revert(self, seen: Seen) -> None:
        try:
            await self._sandboxes.run(_metadata(seen), wanted=False)
        except DriverError:
            return  # it is as the API server has it; the watch will tell

    async def _read(self, seen: Seen) -> Metadata:
        try:
            path = await self._sandboxes.path(seen.namespace, seen.object_name)
            found = (await self._api.get(path, Sandbox)).metadata
        except ApiRefusal as refusal:
            raise self._sandboxes.answer(refusal, "read the sandbox") from None
        if found.uid != seen.uid:
            raise NotFound("the sandbox's resource is gone")
        return found

    def _has_ended(self, seen: Seen) -> bool:
        pod = self._view.pod_of(seen)
        state = observe(seen, pod, given_up=False, pods_known=False).state
        return state.kind == "exited"

    async def _find(self, ref: SandboxRef) -> Seen:
        """Find a sandbox by its id: in sight, or where the API server has it."""
        view = await self._sight()
        seen = view.find(ref.id)
        if seen is None:
            if not await self._sandboxes.of_id(ref.id):
                raise NotFound("there is no sandbox with this id")
            if not await view.until(ref.id, lambda: view.find(ref.id) is not None, _SIGHT):
                raise Unavailable("the sandbox cannot be seen yet")
            seen = view.find(ref.id)
        if seen is None:
            raise NotFound("the sandbox was deleted meanwhile")
        return seen

    async def _sight(self) -> View:
        if not await self._view.sight(_SIGHT):
            raise Unavailable("the cluster cannot be observed")
        return self._view


def _metadata(seen: Seen, own_labels_of: Metadata | None = None) -> Metadata:
    labels = {} if own_labels_of is None else own_labels_of.labels
    return Metadata(name=seen.object_name, namespace=seen.namespace, uid=seen.uid, labels=labels)
