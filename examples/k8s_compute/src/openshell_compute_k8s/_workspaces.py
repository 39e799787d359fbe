"""Workspaces as namespaces: one for all, one each made here, or one each made by an operator."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import anyio

from openshell_compute_k8s._allowance import Allowance
from openshell_compute_k8s._api import Api
from openshell_compute_k8s._managed import ManagedNamespaces
from openshell_compute_k8s._namespaces import Namespaces
from openshell_compute_k8s._turns import Turns
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import FailedPrecondition, InvalidArgument, PermissionDenied
from openshell_drivers.naming import object_name

READY_FOR: Final = 300.0
"""Seconds for which a namespace that was made, and is complete, is not looked at again: so old may
the copies of Secrets be that a new sandbox finds."""
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Workspaces:
    """Finds the namespace of a workspace, and makes and removes it where that is this driver's."""

    def __init__(self, api: Api, config: KubernetesConfig) -> None:
        self._rules = config.workspaces
        self.home = config.namespace or api.namespace
        """The namespace of shared sandboxes, and what is copied from."""
        self._namespaces = Namespaces(api)
        self._allowance = Allowance(config, self._namespaces)
        self._managed = ManagedNamespaces(api, config, self._namespaces, self.home)
        self._ready: dict[str, float] = {}
        self._making = anyio.Lock()
        self._turns = Turns()

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

        Raises as `make_usable`.
        """
        name = self.namespace_of(workspace)
        async with self._turns.using(name):
            await self.make_usable(workspace)
            yield name

    async def make_usable(self, workspace: str) -> None:
        """See to it for a create that the namespace of a workspace is there and may be used.

        Managed, it is made if it is missing (COMP-CREATE-10), and what it holds is renewed if it
        was not for `READY_FOR` or was not complete. Raises `FailedPrecondition` if it may not be
        used, or a right is missing (COMP-CREATE-06).
        """
        name = self.namespace_of(workspace)
        with _passed_on():
            if self._rules.mode == "operator":
                await self._allowance.require(name)
            elif self._rules.mode == "managed" and not self._is_ready(name):
                async with self._making:
                    if not self._is_ready(name):
                        await self._make(name, workspace)

    async def require_usable(self, workspace: str) -> None:
        """Refuse a workspace that is there for no create, and make nothing. Raises
        `FailedPrecondition`."""
        name = self.namespace_of(workspace)
        with _passed_on():
            if self._rules.mode == "operator":
                await self._allowance.require(name)

    def forget(self, name: str) -> None:
        """Take that a namespace is not as it was left."""
        self._ready.pop(name, None)
        self._namespaces.forget(name)

    async def annotations(self, name: str) -> Mapping[str, str]:
        """Give a namespace's annotations, at most a minute old; none if it may not be read."""
        return await self._namespaces.annotations(name)

    async def ensure(self, workspace: str) -> None:
        """Make a workspace's namespace and what belongs into it, or renew that; the rest stays.

        Raises `FailedPrecondition` if it may not be used, `PermissionDenied` for a missing right
        (COMP-WS-02).
        """
        name = self.namespace_of(workspace)
        if self._rules.mode == "operator":
            await self._allowance.require(name)
        elif self._rules.mode == "managed":
            async with self._making:
                await self._make(name, workspace)

    async def delete(self, workspace: str, is_empty: Callable[[str], Awaitable[bool]]) -> None:
        """Remove a namespace that was made here and `is_empty`; nobody creates in it meanwhile.

        Raises `FailedPrecondition` if it is not; see `ManagedNamespaces.remove`.
        """
        if self._rules.mode != "managed":
            return
        name = self.namespace_of(workspace)
        async with self._turns.removing(name):
            self._ready.pop(name, None)
            await self._managed.remove(name, workspace or self._rules.default, is_empty)

    def _is_ready(self, name: str) -> bool:
        return time.monotonic() < self._ready.get(name, 0.0)

    async def _make(self, name: str, workspace: str) -> None:
        if await self._managed.make(name, workspace or self._rules.default):
            self._ready[name] = time.monotonic() + READY_FOR
        else:
            self._ready.pop(name, None)


@contextmanager
def _passed_on() -> Iterator[None]:
    """Tell a missing right with the one code of a create whose text a gateway passes on."""
    try:
        yield
    except PermissionDenied as error:
        raise FailedPrecondition(error.message) from None
