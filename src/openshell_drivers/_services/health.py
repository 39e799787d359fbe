"""`grpc.health.v1.Health`: serving or not, as a whole and for each service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

import anyio

from openshell_drivers._rpc import Service, Stream, Unary
from openshell_drivers._services import names
from openshell_drivers._wire.health_pb2 import HealthCheckRequest, HealthCheckResponse
from openshell_drivers.errors import NotFound


class Health:
    """One state for all services of a process: they start and stop together."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services) | {""}
        self._serving = False
        self._changed = anyio.Event()

    def set(self, serving: bool) -> None:
        """Change the state and tell those who watch."""
        self._serving = serving
        self._changed.set()
        self._changed = anyio.Event()

    @property
    def _status(self) -> HealthCheckResponse.ServingStatus.ValueType:
        return HealthCheckResponse.SERVING if self._serving else HealthCheckResponse.NOT_SERVING

    async def check(self, request: HealthCheckRequest) -> HealthCheckResponse:
        if request.service not in self._services:
            raise NotFound("no such service")
        return HealthCheckResponse(status=self._status)

    async def watch(self, request: HealthCheckRequest) -> AsyncGenerator[HealthCheckResponse, None]:
        known = request.service in self._services
        while True:
            changed = self._changed
            status = self._status if known else HealthCheckResponse.SERVICE_UNKNOWN
            yield HealthCheckResponse(status=status)
            await changed.wait()

    def service(self) -> Service:
        return Service(
            name=names.HEALTH,
            methods=[
                Unary(name="Check", request=HealthCheckRequest, answer=self.check, quiet=True),
                Stream(name="Watch", request=HealthCheckRequest, answer=self.watch, quiet=True),
            ],
        )
