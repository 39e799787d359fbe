"""Get: what it shows, and that all observations of one state are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.checks._sight import (
    essence,
    in_words,
    still,
    stops_sandboxes,
    until_true,
)


@check("COMP-GET-04.a", "GetSandbox gives a status, from the first moment on")
async def get_has_a_status(compute: ComputeBench) -> None:
    sandbox = await compute.made()
    for moment in ("right after its create", "a moment later"):
        seen = await still(compute, sandbox)
        compute.hold(
            seen.HasField("status"),
            f"GetSandbox {moment} gives a sandbox with `status`",
            "DriverSandbox.status is not set",
        )


@check("COMP-GET-04.b", "every sandbox event of the watch has a status")
async def events_have_a_status(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        sandbox = await compute.made()

        heard = await until_true(lambda: bool(log.of(sandbox.id, "sandbox")), LAG)
        compute.need(heard, log.described(sandbox.id), "COMP-WATCH-01.a")
        await compute.reaches(sandbox.id, "Ready", "Provisioning", "Unknown")
        bare = [each for each in log.of(sandbox.id, "sandbox") if not _whole(each.sandbox)]
        compute.hold(
            not bare,
            "every WatchSandboxesSandboxEvent holds a sandbox with `status`",
            f"{len(bare)} of {len(log.of(sandbox.id, 'sandbox'))} events had none",
        )


def _whole(sandbox: wire.DriverSandbox | None) -> bool:
    return sandbox is not None and sandbox.HasField("status")


async def _at_rest(compute: ComputeBench) -> list[wire.DriverSandbox]:
    """A sandbox in each state that lasts."""
    made = [await compute.made_settled()]
    if await stops_sandboxes(compute):
        made.append(await compute.made_stopped())
    return made


@check("COMP-GET-07.a", "at rest, List tells what Get tells")
async def list_agrees_with_get(compute: ComputeBench) -> None:
    for sandbox in await _at_rest(compute):

        async def listed(sandbox_id: str = sandbox.id) -> wire.DriverSandbox | None:
            return (await compute.listed()).get(sandbox_id)

        await _agrees(compute, sandbox, "ListSandboxes gives", listed)


@check("COMP-GET-07.b", "at rest, the watch has told what Get tells")
async def watch_agrees_with_get(compute: ComputeBench) -> None:
    async with compute.watching() as log:
        for sandbox in await _at_rest(compute):

            async def told(sandbox_id: str = sandbox.id) -> wire.DriverSandbox | None:
                return log.last(sandbox_id)

            heard = await until_true(lambda key=sandbox.id: bool(log.last(key)), LAG)  # type: ignore[misc]
            compute.need(heard, log.described(sandbox.id), "COMP-CREATE-01.c")
            await _agrees(compute, sandbox, "the newest event of the watch has", told)


async def _agrees(
    compute: ComputeBench,
    sandbox: wire.DriverSandbox,
    where: str,
    look: Callable[[], Awaitable[wire.DriverSandbox | None]],
) -> None:
    """Fail unless some other place tells what Get tells."""
    words = ["", ""]

    async def same() -> object:
        got, other = await still(compute, sandbox), await look()
        words[:] = in_words(essence(got)), "no such sandbox"
        if other is not None:
            words[1] = in_words(essence(other)) if other.HasField("status") else "no status"
        return True if words[0] == words[1] else None

    await compute.eventually(
        same,
        LAG,
        f"at rest, {where} the same conditions and instance_id as GetSandbox",
        lambda: f"GetSandbox: {words[0]}; there: {words[1]}",
    )


@check("COMP01-STAT-05", "under load, Get answers for the id that was asked for")
async def never_another(compute: ComputeBench) -> None:
    made = await asyncio.gather(*(compute.made() for _ in range(6)))

    async def ask(sandbox: wire.DriverSandbox) -> None:
        for _ in range(8):
            reply = await compute.get(sandbox.id)
            if reply.ok and reply.answer.sandbox.id != sandbox.id:
                compute.fail(
                    f"GetSandbox of {sandbox.id} answers with the sandbox of this id",
                    f"it answered with {reply.answer.sandbox.id!r}, while others were asked for",
                )

    await asyncio.gather(*(ask(sandbox) for sandbox in made))
