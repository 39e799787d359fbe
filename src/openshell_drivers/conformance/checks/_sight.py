"""What checks of several modules look at in an observed sandbox, and steps that they share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias, TypeVar

import anyio

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance.benches._watchlog import HEADERS, Seen, WatchLog
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench

#: How long it is waited for something that must not come.
QUIET: Final = 1.0
#: Between an answer and an event that are about the same moment.
CROSSING: Final = 0.3

#: For how long sandboxes are made where many are wanted.
CROWDING: Final = 20.0

_T = TypeVar("_T")
Essence: TypeAlias = tuple[tuple[tuple[str, str, str], ...], str, bool]


def essence(sandbox: wire.DriverSandbox) -> Essence:
    """What must be the same in all observations of one state: no texts, no times."""
    status = sandbox.status
    conditions = sorted((c.type, c.status.lower(), c.reason) for c in status.conditions)
    return tuple(conditions), status.instance_id, status.deleting


def in_words(found: Essence) -> str:
    """An essence for a failure's text."""
    conditions, instance, deleting = found
    words = [f"{kind}={status}/{reason}" for kind, status, reason in conditions]
    words += [f"instance_id {instance!r}"] + (["deleting"] if deleting else [])
    return ", ".join(words)


def is_true(sandbox: wire.DriverSandbox, kind: str) -> bool:
    """Whether some condition of a type, in any spelling, is True."""
    return any(
        each.type.lower() == kind.lower() and each.status.lower() == "true"
        for each in sandbox.status.conditions
    )


def runs(sandbox: wire.DriverSandbox) -> bool:
    """Whether the condition `Ready` is True, whatever else is said."""
    return any(c.type == "Ready" and c.status.lower() == "true" for c in sandbox.status.conditions)


def after(events: Iterable[Seen], moment: float) -> list[Seen]:
    """Those that came later than a moment of `time.monotonic`."""
    return [event for event in events if event.at > moment]


def told(log: WatchLog, sandbox_id: str) -> list[wire.DriverSandbox]:
    """The observations of a sandbox that a watch has told."""
    return [e.sandbox for e in log.of(sandbox_id, "sandbox") if e.sandbox is not None]


async def still(compute: ComputeBench, sandbox: wire.DriverSandbox) -> wire.DriverSandbox:
    """Get one that must be there for the check to go on."""
    seen = await compute.observed(sandbox.id)
    if seen is None:
        compute.need(False, "GetSandbox does not find a sandbox that lives", "COMP-CREATE-01")
    return seen or wire.DriverSandbox()


async def gets_running(
    compute: ComputeBench, sandbox_id: str, expected: str, *, mend: str = ""
) -> wire.DriverSandbox:
    """Wait until the condition `Ready` is True; fail if it does not get so."""
    last = ["nothing"]

    async def look() -> wire.DriverSandbox | None:
        seen = await compute.observed(sandbox_id)
        last[0] = "NOT_FOUND" if seen is None else compute.described(seen)
        if seen is None:
            return None
        again = rest is not None and compute.phase(seen) == rest  # as it did before, not Ready
        return seen if again or runs(seen) else None

    rest = compute.rested(sandbox_id)
    limit = compute.profile.compute.timeouts.ready
    return await compute.eventually(
        look, limit, expected, lambda: f"GetSandbox shows {last[0]}", mend=mend
    )


async def stops_sandboxes(compute: ComputeBench) -> bool:
    """Whether the line's gateways stop sandboxes and the driver can."""
    return compute.line != "F" and await compute.implements("StopSandbox")


async def deletes(compute: ComputeBench) -> None:
    """`Blocked` unless the driver deletes a running sandbox: other checks judge that."""

    async def ask() -> str:
        sandbox = await compute.made_settled()
        reply = await compute.delete(sandbox.id)
        if not reply.ok or not reply.answer.deleted:
            return f"{reply}, deleted {reply.answer.deleted}"
        await compute.gone(sandbox.id)
        return ""

    why = await compute.known("deletes", ask)
    compute.need(not why, f"a running sandbox cannot be deleted: {why}", "COMP-DEL-01")


async def tells(compute: ComputeBench) -> None:
    """`Blocked` unless an open watch tells of new sandboxes: other checks judge that."""

    async def ask() -> bool:
        async with compute.watching() as log:
            sandbox = await compute.made()
            return await until_true(lambda: bool(log.of(sandbox.id, "sandbox")), LAG)

    told = await compute.known("the watch tells", ask)
    compute.need(told, "an open watch does not tell of a new sandbox", "COMP-CREATE-01.c")


async def deleted(compute: ComputeBench, sandbox: wire.DriverSandbox) -> None:
    """Delete one that exists, until it is gone. `Blocked` if that does not go."""
    reply = await compute.delete(sandbox.id)
    compute.need(reply.ok, str(reply), "COMP-DEL-01")
    await compute.gone(sandbox.id)


def let_go(log: WatchLog, sandbox_id: str, since: float) -> bool:
    """Whether a gateway at this watch knows that a sandbox is gone.

    It was called deleted; or the stream was broken later than `since`, and the next one has been
    open for a while without a word of it.
    """
    if any(event.at > since for event in log.of(sandbox_id, "deleted")):
        return True
    broken = any(o.code and o.ended is not None and o.ended > since for o in log.openings)
    newest = log.openings[-1] if log.openings else None
    if not broken or newest is None or newest.began < since:
        return False
    headers = HEADERS if newest.headers is None else newest.headers  # late, or with an event only
    quiet = time.monotonic() - newest.began - headers > QUIET
    number = len(log.openings) - 1
    return quiet and not any(event.stream == number for event in log.of(sandbox_id, "sandbox"))


async def quiet() -> None:
    """Give what must not come its time to come."""
    await anyio.sleep(QUIET)


async def until_true(holds: Callable[[], bool], limit: float) -> bool:
    """Wait for something that other checks judge; whether it came."""
    deadline = time.monotonic() + limit
    while not holds():
        if time.monotonic() > deadline:
            return False
        await anyio.sleep(0.01)
    return True


async def crowd(
    compute: ComputeBench, count: int, patience: float = CROWDING
) -> list[wire.DriverSandbox]:
    """Create many, sixteen at a time; fewer if the platform takes too long for that."""

    async def one() -> wire.DriverSandbox:
        return await compute.made()

    count = min(count, compute.profile.compute.max_sandboxes)
    return await _many(compute, one, count, 16, patience)


async def churn(compute: ComputeBench, count: int) -> list[str]:
    """Make and delete many sandboxes, or fewer on a slow platform; their ids."""

    async def one() -> str:
        sandbox = await compute.made()
        reply = await compute.delete(sandbox.id)
        compute.need(reply.ok, str(reply), "COMP-DEL-04.a")
        return sandbox.id

    return await _many(compute, one, count, 12)


async def _many(
    compute: ComputeBench,
    one: Callable[[], Awaitable[_T]],
    count: int,
    at_once: int,
    patience: float = CROWDING,
) -> list[_T]:
    """Do something often, for as long as there is patience for it."""
    done: list[_T] = []
    left = iter(range(count))
    deadline = time.monotonic() + patience

    async def work() -> None:
        for _ in left:
            done.append(await one())
            if time.monotonic() > deadline:
                return

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(work())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    if len(done) < count:
        compute.note(f"judged with {len(done)} instead of {count}: more take over {patience:g} s")
    return done


async def stays_gone(compute: ComputeBench, sandbox_id: str, what: str) -> None:
    """Fail unless a sandbox is soon gone, and does not come back."""

    async def look() -> object:
        return True if await compute.observed(sandbox_id) is None else None

    limit = compute.profile.compute.timeouts.gone
    await compute.eventually(
        look, limit, f"a sandbox is gone that was {what}", lambda: "GetSandbox still finds it"
    )
    await quiet()
    compute.hold(
        await compute.observed(sandbox_id) is None,
        f"a sandbox stays gone that was {what}",
        "it came back",
    )


async def is_listed(compute: ComputeBench, sandbox_id: str) -> None:
    """Wait until List has a sandbox. `Blocked` if it does not get so."""
    deadline = time.monotonic() + LAG
    while sandbox_id not in await compute.listed():
        compute.need(time.monotonic() < deadline, "it is not listed", "COMP-LIST-01.a")
        await anyio.sleep(0.05)
