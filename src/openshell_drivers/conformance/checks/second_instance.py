"""That a second instance of the driver on the same backend has what the first one made."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._backend import Backend
from openshell_drivers.conformance._caller import Caller
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance._instances import accepts
from openshell_drivers.conformance._outcomes import NotApplicable, NotTestable
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sight import deletes, gets_running, stays_gone


@asynccontextmanager
async def _second(compute: ComputeBench) -> AsyncIterator[Caller]:
    """Another process of the driver on the same backend, at a socket of its own."""
    folder = compute.instance.folder / "second"
    folder.mkdir(mode=0o700)
    socket = folder / "d.sock"
    process = compute.instance.spawn(socket=socket)
    try:
        await _serves(compute, process, socket)
        async with compute.another_caller(socket=socket) as caller:
            yield caller
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 5)
        process.kill()
        process.wait()


async def _serves(compute: ComputeBench, process: subprocess.Popen[bytes], socket: Path) -> None:
    deadline = time.monotonic() + compute.profile.target.ready
    while not accepts(socket):
        if process.poll() is not None:
            raise NotApplicable(
                f"a second process on the same backend ends with status {process.returncode}"
            )
        compute.need(time.monotonic() < deadline, "a second process does not serve")
        await asyncio.sleep(0.02)


async def _shares_backend(compute: ComputeBench) -> None:
    """`NotTestable` unless something tells that processes at two sockets have one backend."""
    words = [*compute.instance.target.argv, *compute.profile.target.arguments]
    if any("{dir}" in word for word in [*words, *compute.profile.target.environment.values()]):
        return  # which is the folder of both
    seen: list[str] = []
    if compute.backend.can("resources"):
        other = copy.copy(compute.instance)
        other.socket = compute.instance.folder / "second" / "d.sock"
        seen = await Backend(compute.profile.backend, other, compute.transcript).resources()
    if not seen:
        raise NotTestable(
            "whether two processes have one backend: a {dir} in target.arguments, where the backend"
            " is in a folder, or a backend verb list_resources that tells of it for {socket}"
        )


@check(
    "COMP-SOCK-11.f",
    "a second instance on the same backend has the sandboxes of the first",
    profile="resilience",
    own=True,
    once=True,
)
async def second_instance(compute: ComputeBench) -> None:
    await deletes(compute)
    made = [await compute.made_going() for _ in range(2)]
    async with _second(compute) as caller:
        await _shares_backend(compute)
        await _found_by(compute, caller, made[0])
        reply = await compute.delete(made[0].id, caller=caller)
        compute.code(reply, "OK", when="by a second instance on the same backend")
        compute.hold(
            reply.answer.deleted,
            "DeleteSandboxResponse.deleted is true, of a second instance too",
            "it is false",
        )
        await stays_gone(compute, made[0].id, "deleted by a second instance")
    await gets_running(compute, made[1].id, "what the second instance did not touch is Ready")


async def _found_by(compute: ComputeBench, caller: Caller, sandbox: wire.DriverSandbox) -> None:
    words = [""]

    async def look() -> object:
        request = wire.GetSandboxRequest(sandbox_id=sandbox.id, name=sandbox.name)
        got = await caller.ask("GetSandbox", request, wire.GetSandboxResponse)
        listed = await caller.ask(
            "ListSandboxes", wire.ListSandboxesRequest(), wire.ListSandboxesResponse
        )
        ids = {each.id for each in listed.answer.sandboxes}
        words[0] = f"{got}; in its list: {sandbox.id in ids}"
        return True if got.ok and sandbox.id in ids else None

    await compute.eventually(
        look,
        LAG,
        "Get and List of a second instance on the same backend have a sandbox of the first",
        lambda: words[0],
    )
