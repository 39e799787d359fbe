"""That nothing is left at the platform, or on disk, of what was deleted or refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._checks import check
from openshell_drivers.conformance._outcomes import NotTestable
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.checks._sight import deleted, deletes, until_true

_SMALL: Final = 64 * 1024
_SLOWED: Final = 0.5


async def _left(compute: ComputeBench, sandbox: wire.DriverSandbox, before: set[str]) -> list[str]:
    """The resources of a sandbox: by its id or name, or all that are new where nobody else is."""
    found = await compute.backend.resources()
    named = [each for each in found if sandbox.id in each or sandbox.name in each]
    return named or ([each for each in found if each not in before] if _alone(compute) else [])


def _alone(compute: ComputeBench) -> bool:
    return compute.profile.target.isolated


@check(
    "COMP-DEL-05",
    "a delete leaves nothing at the platform",
    profile="resilience",
    needs=("resources",),
    own=True,
    once=True,
)
async def nothing_is_left(compute: ComputeBench) -> None:
    await deletes(compute)
    before = set(await compute.backend.resources())
    sandbox = compute.sandbox()
    sandbox.spec.sandbox_token = compute.secret("token")
    await compute.made_settled(sandbox)
    if not await _left(compute, sandbox, before):
        raise NotTestable("the names that list_resources gives hold neither id nor name")
    await deleted(compute, sandbox)
    await _nothing(compute, sandbox, before, "after its sandbox was deleted")
    if compute.backend.can("slow") and _alone(compute):
        await _nothing_of_the_unfinished(compute, before)


async def _nothing_of_the_unfinished(compute: ComputeBench, before: set[str]) -> None:
    """Fail if work that a delete has met in full swing goes on and leaves something."""
    sandbox = compute.sandbox()
    async with compute.backend.slow(_SLOWED):
        await compute.made(sandbox)
        reply = await compute.delete(sandbox.id)
        await asyncio.sleep(_SLOWED * 3)
    compute.need(reply.ok, str(reply), "COMP-DEL-04.a")
    await compute.gone(sandbox.id)
    await _nothing(compute, sandbox, before, "after its sandbox was deleted while it was made")


async def _nothing(
    compute: ComputeBench, sandbox: wire.DriverSandbox, before: set[str], when: str
) -> None:
    left: list[str] = []

    async def look() -> object:
        left[:] = await _left(compute, sandbox, before)
        return None if left else True

    await compute.eventually(
        look,
        min(compute.profile.compute.timeouts.gone, 10.0),
        f"no resource is left at the platform {when}",
        lambda: f"there is still {', '.join(left[:5])}",
    )


@check(
    "COMP-SEC-04.a",
    "a refused create leaves nothing at the platform",
    profile="security",
    needs=("resources", "refused"),
    own=True,
    once=True,
)
async def nothing_of_a_refusal(compute: ComputeBench) -> None:
    before = set(await compute.backend.resources())
    sandbox = compute.variant("refused")
    sandbox.spec.sandbox_token = compute.secret("token")
    reply = await compute.create(sandbox)
    compute.need(not reply.ok, "the `refused` template was accepted", "COMP-CREATE-06")
    await _nothing(compute, sandbox, before, f"after its create was answered {reply.code}")


@check(
    "COMP-SEC-04.b",
    "a sandbox's token is not kept in a file after its delete",
    profile="security",
    own=True,
    once=True,
    presets=("0.0.111", "0.1.2", "0.1-latest"),
)
async def no_token_file(compute: ComputeBench) -> None:
    await deletes(compute)
    sandbox = compute.sandbox()
    sandbox.spec.sandbox_token = compute.secret("token")
    await compute.made_settled(sandbox)
    await deleted(compute, sandbox)
    await until_true(lambda: not _files(compute, sandbox), 3.0)
    left = _files(compute, sandbox)
    compute.hold(
        not left,
        "no file with a sandbox's token in the driver's folder, after its delete",
        f"{left[0].name!r} holds it" if left else "",
    )


def _files(compute: ComputeBench, sandbox: wire.DriverSandbox) -> list[Path]:
    """Small files that are a token's: not a database, which may keep what it has deleted."""
    token = sandbox.spec.sandbox_token.encode()
    found = []
    for path in compute.instance.keep.rglob("*"):
        try:
            if not path.is_file() or path.stat().st_size > _SMALL:
                continue
            data = path.read_bytes()
        except OSError:
            continue
        own = sandbox.id in str(path) or sandbox.name in str(path) or data.strip() == token
        if token in data and own:
            found.append(path)
    return found
