"""`follow`: observe the cluster for as long as the driver serves, through every kind of outage."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from openshell_compute_k8s._api import Api
from openshell_compute_k8s._events import Events
from openshell_compute_k8s._failures import ApiRefusal, answer
from openshell_compute_k8s._names import pod_selector, selector, unlabelled_selector
from openshell_compute_k8s._objects import Event, Metadata, Object, Page, Pod, Sandbox
from openshell_compute_k8s._reflector import Reflector
from openshell_compute_k8s._sandbox_api import SandboxApi
from openshell_compute_k8s._sinks import PodSink, SandboxSink
from openshell_compute_k8s._strays import Strays
from openshell_compute_k8s._urls import core
from openshell_compute_k8s._view import View
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import Backoff, DriverError, SandboxFeed, Unavailable
from openshell_drivers.naming import GATEWAY_ID, label_value

_AGAIN: Final = Backoff(attempts=None, delay=0.25, factor=2.0, maximum=5.0, jitter=0.5)
_PULSE: Final = 5.0
_PATIENCE: Final = 10.0
_LAPSE: Final = 1.0
_ADOPTING: Final = Backoff(attempts=None, delay=3.0, factor=2.0, maximum=60.0, jitter=0.5)
_log: Final = logging.getLogger("openshell_compute_k8s")


class Follower:
    """Follows the sandboxes of one gateway."""

    def __init__(
        self,
        api: Api,
        sandboxes: SandboxApi,
        strays: Strays,
        config: KubernetesConfig,
        *,
        namespace: str,
    ) -> None:
        """Follow one namespace, or (empty) all of them."""
        self._api = api
        self._sandboxes = sandboxes
        self._strays = strays
        self._config = config
        self._scope = namespace

    async def follow(self, feed: SandboxFeed, view: View) -> None:
        """Tell the feed what there is, and keep it in the view, for ever. It begins anew when the
        cluster speaks another version than before."""
        delays = iter(_AGAIN)
        view.begin(feed)
        while True:
            try:
                path = await self._sandboxes.path(self._scope)
            except DriverError as error:
                view.lost("sandboxes", error)
            else:
                view.begin(feed)
                try:
                    await self._until_missing(path, feed, view)
                finally:
                    was_seen = view.sighted
                    view.close()
                if was_seen:
                    delays = iter(_AGAIN)
                self._sandboxes.forget_version()
                problem = Unavailable("the cluster does not serve sandboxes any more")
                view.lost("sandboxes", problem)
            await anyio.sleep(next(delays))

    async def _until_missing(self, path: str, feed: SandboxFeed, view: View) -> None:
        """Follow until the resource itself is not served any more."""
        query = {"labelSelector": selector(self._config)}
        sink = SandboxSink(view, self._strays)
        sandboxes = Reflector(self._api, path, Sandbox, query, sink)
        query = {"labelSelector": pod_selector(self._config)}
        path_of_pods = core("pods", self._scope)
        pods = Reflector(self._api, path_of_pods, Pod, query, PodSink(view), optional=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pods.run)
            tasks.start_soon(self._pulse, path, view, sandboxes)
            tasks.start_soon(_lapsing, view)
            if self._config.events:
                for kind in ("Pod", "Sandbox"):
                    tasks.start_soon(self._events(kind, feed, view).run)
            tasks.start_soon(self._strays.removing, self._sandboxes.delete_left)
            if self._config.adopt_unlabelled and self._config.gateway_id:
                tasks.start_soon(_until_done, self._adopt)
            await sandboxes.run()
            tasks.cancel_scope.cancel()

    def _events(self, kind: str, feed: SandboxFeed, view: View) -> Reflector[Event]:
        return Reflector(
            self._api,
            core("events", self._scope),
            Event,
            {"fieldSelector": f"involvedObject.kind={kind}"},
            Events(feed, view.of_object),
            from_now=True,
            optional=True,
        )

    async def _pulse(self, path: str, view: View, sandboxes: Reflector[Sandbox]) -> None:
        """Ask for one sandbox every few seconds: a watch does not tell that its server is stuck.

        This is all that the driver asks at rest, however many sandboxes there are. After a break
        only a new list makes it see again: who knows what the watch has missed.
        """
        query = {"labelSelector": selector(self._config), "limit": "1"}
        broken = False
        while True:
            problem = await self._ask(path, query)
            if problem is not None:
                view.lost("pulse", problem)
            elif broken:
                view.lost("sandboxes", Unavailable("sandboxes are listed anew"))
                sandboxes.relist()
                view.regained("pulse")
            broken = problem is not None
            await anyio.sleep(_LAPSE if broken else _PULSE)

    async def _ask(self, path: str, query: dict[str, str]) -> DriverError | None:
        try:
            with anyio.fail_after(_PATIENCE):
                await self._api.call("GET", path, Page[Object], query=query)
        except TimeoutError:
            return Unavailable(f"the API server does not answer within {_PATIENCE:g} s")
        except ApiRefusal as refusal:
            return answer(refusal, "list sandboxes")
        except DriverError as error:
            return error
        return None

    async def _adopt(self) -> None:
        for about in await self._list(unlabelled_selector()):
            _log.info("taking over a sandbox", extra={"object": about.name})
            labels = {GATEWAY_ID: label_value(self._config.gateway_id)}
            await self._sandboxes.label(about, labels)

    async def _list(self, labels: str) -> list[Metadata]:
        path = await self._sandboxes.path(self._scope)
        try:
            found = await self._api.everything(path, Object, {"labelSelector": labels})
        except ApiRefusal as refusal:
            raise answer(refusal, "list sandboxes") from None
        return [each.metadata for each in found]


async def _until_done(step: Callable[[], Awaitable[None]]) -> None:
    for delay in _ADOPTING:
        try:
            await step()
        except DriverError as error:
            _log.warning("a sandbox could not be taken over", extra={"reason": error.message})
            await anyio.sleep(delay)
        else:
            return


async def _lapsing(view: View) -> None:
    while True:
        await anyio.sleep(_LAPSE)
        view.lapse()
