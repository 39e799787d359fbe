"""What a sandbox needs to authenticate itself, in Secrets that go with its resource."""

from __future__ import annotations

import anyio

from openshell_compute_k8s._launch_paths import (
    PUBLIC_KEY,
    SUPERVISOR_KEY,
    public_secret,
    supervisor_secret,
)
from openshell_compute_k8s._objects import Metadata
from openshell_compute_k8s._sandbox_api import SandboxApi
from openshell_drivers import DriverError
from openshell_drivers.launch import LaunchAuthentication


async def put_launch(
    sandboxes: SandboxApi, owner: Metadata, parts: LaunchAuthentication, *, new: bool
) -> None:
    """Write both Secrets side by side (COMP01-LAUNCH-02). Raises what the first failure is."""
    failures: list[DriverError] = []

    async def put(name: str, key: str, text: str) -> None:
        try:
            await sandboxes.put_secret(owner, name, key, text, new=new)
        except DriverError as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        if parts.supervisor is not None:
            bundle = parts.supervisor.reveal()
            tasks.start_soon(put, supervisor_secret(owner.name), SUPERVISOR_KEY, bundle)
        tasks.start_soon(put, public_secret(owner.name), PUBLIC_KEY, parts.workload.to_json())
    for failure in failures:
        raise failure
