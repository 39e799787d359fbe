"""Whether some node has as many GPUs as are asked for."""

from __future__ import annotations

import time
from typing import Final

import anyio

from openshell_compute_k8s._api import Api
from openshell_compute_k8s._failures import ApiRefusal
from openshell_compute_k8s._objects import Node
from openshell_compute_k8s._urls import NODES
from openshell_drivers import DriverError, FailedPrecondition
from openshell_drivers.compute import GpuRequest

_FRESH: Final = 30.0


class GpuCapacity:
    """The most GPUs that one node has for pods, looked up at most every 30 s."""

    def __init__(self, api: Api, resource: str) -> None:
        self._api = api
        self._resource = resource
        self._most = 0
        self._until = 0.0
        self._looking = anyio.Lock()

    async def require(self, request: GpuRequest) -> None:
        """Refuse what no node has, whether it is free now or not. Raises `FailedPrecondition`."""
        count = request.count or 1
        most = await self._look()
        if most == 0:
            raise FailedPrecondition(f"no node has {self._resource}")
        if count > most:
            raise FailedPrecondition(f"no node has {count} of {self._resource}; the most is {most}")

    async def _look(self) -> int:
        async with self._looking:
            if time.monotonic() > self._until:
                self._most = await self._count()
                self._until = time.monotonic() + _FRESH
            return self._most

    async def _count(self) -> int:
        most = 0
        try:
            async for page in self._api.pages(NODES, Node, {}):
                for node in page.items:
                    amount = node.status.allocatable.get(self._resource, "")
                    if amount.isdecimal() and not node.spec.unschedulable:
                        most = max(most, int(amount))
        except ApiRefusal as refusal:
            if refusal.code == 403:
                raise FailedPrecondition(
                    "GPUs: the driver may not list nodes (RBAC), so it cannot tell whether there "
                    "are any; allow that, or set check_gpu_capacity to false"
                ) from None
            raise FailedPrecondition("GPUs: the cluster's nodes cannot be listed now") from None
        except DriverError:
            raise FailedPrecondition("GPUs: the cluster's nodes cannot be listed now") from None
        return most
