"""`Health`: one state for all services, told to those who watch."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

from openshell_drivers import NotFound
from openshell_drivers._services.health import Health
from openshell_drivers._wire.health_pb2 import HealthCheckRequest, HealthCheckResponse


@pytest.mark.parametrize("service", ["", "a.Service"])
async def test_watcher_is_told_of_every_change(service: str) -> None:
    health = Health(["a.Service"])
    seen = []
    with anyio.fail_after(5):
        async with aclosing(health.watch(HealthCheckRequest(service=service))) as watching:
            for serving in (True, False, True):
                seen.append((await anext(watching)).status)
                health.set(serving)
            seen.append((await anext(watching)).status)

    no, yes = HealthCheckResponse.NOT_SERVING, HealthCheckResponse.SERVING
    assert seen == [no, yes, no, yes]


async def test_state_is_that_of_every_service() -> None:
    health = Health(["a.Service"])
    health.set(True)
    answers = [
        (await health.check(HealthCheckRequest(service=name))).status for name in ("", "a.Service")
    ]

    assert answers == [HealthCheckResponse.SERVING] * 2


async def test_unknown_service_is_not_found() -> None:
    with pytest.raises(NotFound):
        await Health([]).check(HealthCheckRequest(service="other"))
