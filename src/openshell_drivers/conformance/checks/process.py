"""The process of a sidecar: its start, its surroundings, its end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, Final

from openshell_drivers.conformance._checks import NEEDS, SERVICES, check
from openshell_drivers.conformance._instances import Instance, TargetNotReady
from openshell_drivers.conformance._outcomes import NotTestable
from openshell_drivers.conformance.benches._base import Bench
from openshell_drivers.conformance.benches.compute import LAG, ComputeBench
from openshell_drivers.conformance.benches.credentials import CredentialsBench
from openshell_drivers.conformance.benches.store import StoreBench
from openshell_drivers.conformance.checks._procs import alive, descendants
from openshell_drivers.conformance.checks._sight import until_true
from openshell_drivers.conformance.checks._spawning import answers, launched, must_refuse

#: Seconds for an orderly end, and what a busy machine may add.
EXIT: Final = 10.0
_MARGIN: Final = 5.0
_LATE_CALL: Final = 8.0
_SLOW: Final = 1.5
#: Until a call is surely under way, and a platform that hangs.
_UNDER_WAY: Final = 0.5
_HANGING: Final = 60.0
_BACK: Final = 20.0
#: When a create is cut off, and how long what is left may take to go.
_MOMENTS: Final = (0.0, 0.01, 0.03, 0.08)
_LEFT: Final = 5.0
_UID: Final = "54321"

_process_check = partial(
    check, services=SERVICES, profile="resilience", needs=("spawned",), once=True
)


@_process_check("PROC-START-01", "an option that it does not know ends the process at start")
async def unknown_option(bench: Bench) -> None:
    extra = ("--conformance-no-such-option=1",)
    async with bench.spare() as spare, launched(spare, extra=extra) as launch:
        must_refuse(bench, launch, "with the unknown option --conformance-no-such-option")
        bench.hold(
            "conformance-no-such-option" in launch.said,
            "the message names the option --conformance-no-such-option",
            str(launch),
        )


@check(
    "PROC-START-02",
    "a driver starts while its backend is down, and works when that is back",
    services=SERVICES,
    profile="resilience",
    needs=("spawned", "outage"),
    own=True,
    once=True,
)
async def starts_without_backend(bench: Bench) -> None:
    bench.instance.signal(signal.SIGTERM)
    if await bench.instance.ended(EXIT) is None:
        bench.instance.kill()
    async with bench.backend.outage():
        try:
            await bench.instance.restart()
        except TargetNotReady as error:
            bench.fail("the driver starts while its backend is down", str(error))
        await bench.reconnect()
        reply = await bench.ping()
        bench.hold(reply.ok, f"{reply.rpc} answers OK while the backend is down", str(reply))
    last = "nothing"

    async def works() -> bool | None:
        nonlocal last
        reply = await reaches_backend(bench)
        last = str(reply)
        return True if reply.ok else None

    await bench.eventually(
        works,
        _BACK,
        "after the outage the driver works without a restart",
        lambda: f"the last answer was {last}",
    )


async def reaches_backend(bench: Bench) -> Any:
    """A call that cannot be answered without the backend; a token may be in a cache."""
    if isinstance(bench, ComputeBench):
        return await bench.create(bench.sandbox())
    if isinstance(bench, StoreBench):
        return await bench.store(bench.slot(), bench.value())
    assert isinstance(bench, CredentialsBench)  # noqa: S101  # there are three benches
    if not bench.profile.credentials.known:
        raise NotTestable(NEEDS["known"])
    return await bench.resolve(bench.known_name)


@_process_check("PROC-ENV-01", "any user id without a passwd entry and without HOME will do")
async def anybody(bench: Bench) -> None:
    prefix = _as_nobody()
    if not prefix:
        bench.note("unshare cannot be used here: judged without HOME only, under this user id")
    async with bench.spare() as spare:
        kept = {k: v for k, v in spare.environment().items() if k not in {"HOME", "USER"}}
        env = shutil.which("env") or "/usr/bin/env"
        pairs = [f"{name}={value}" for name, value in kept.items()]
        command = [*prefix, env, "-i", *pairs, *spare.command()]
        async with launched(spare, command=command, within=bench.profile.target.ready) as launch:
            bench.hold(
                launch.serving,
                f"under user id {_UID}, which has no passwd entry, and without HOME and USER the"
                " driver serves",
                str(launch),
            )


def _as_nobody() -> list[str]:
    """A prefix that gives a command a user id without a name; empty where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return []
    prefix = [unshare, "--user", f"--map-user={_UID}", f"--map-group={_UID}"]
    tried = subprocess.run(  # noqa: S603
        [*prefix, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return prefix if tried.returncode == 0 else []


@_process_check("COMP-SOCK-07.a", "SIGTERM removes the socket and exits with status 0")
async def terminated(bench: Bench) -> None:
    await _ends_well(bench, signal.SIGTERM)


@_process_check("COMP-SOCK-07.b", "SIGINT removes the socket and exits with status 0")
async def interrupted(bench: Bench) -> None:
    await _ends_well(bench, signal.SIGINT)


async def _ends_well(bench: Bench, number: signal.Signals) -> None:
    async with bench.started_spare() as spare:
        reply = await answers(bench, spare.socket)
        bench.need(reply.ok, str(reply))
        spare.signal(number)
        status = await spare.ended(EXIT + _MARGIN)
        bench.need(status is not None, f"the driver does not end on {number.name}", "PROC-EXIT-02")
        bench.hold(
            status == 0, f"after {number.name} the process exits with status 0", f"status {status}"
        )
        bench.hold(
            not _there(spare.socket),
            f"after {number.name} the socket is removed",
            "the process has ended and its socket is still there",
        )


def _there(path: Path) -> bool:
    return os.path.lexists(path)


@check(
    "COMP-SOCK-07.c",
    "a call that is under way at SIGTERM is finished",
    services=SERVICES,
    profile="resilience",
    needs=("slow",),
    own=True,
    once=True,
)
async def call_under_way(bench: Bench) -> None:
    async with bench.backend.slow(_SLOW):
        call = asyncio.create_task(reaches_backend(bench))
        await asyncio.sleep(_UNDER_WAY)
        bench.apply(not call.done(), "the call is answered without the platform")
        bench.instance.signal(signal.SIGTERM)
        reply = await call
    bench.hold(reply.ok, f"{reply.rpc}, begun before SIGTERM, is answered OK", str(reply))


@_process_check("PROC-EXIT-01", "no process of the driver's own outlives it")
async def no_orphans(bench: Bench) -> None:
    async with bench.started_spare() as spare:
        reply = await answers(bench, spare.socket)
        bench.need(reply.ok, str(reply))
        pid = spare.pid
        helpers = descendants(pid)
        spare.signal(signal.SIGTERM)
        ended = await spare.ended(EXIT + _MARGIN)
        bench.need(ended is not None, "the driver does not end on SIGTERM", "PROC-EXIT-02")

        async def gone() -> bool | None:
            return True if not _left(helpers, pid) else None

        await bench.eventually(
            gone,
            2.0,
            "the processes that the driver had started end with it",
            lambda: "left are: " + "; ".join(_left(helpers, pid)),
        )


def _left(helpers: dict[int, str], session: int) -> list[str]:
    named = {**helpers, **descendants(session, session=True)}
    return [f"{pid} {name}" for pid, name in named.items() if alive(pid)]


@check(
    "PROC-EXIT-02.a",
    "with watches open a driver ends within 10 s of SIGTERM",
    profile="resilience",
    needs=("spawned",),
    once=True,
)
async def ends_with_watches(bench: ComputeBench) -> None:
    async with (
        bench.started_spare() as spare,
        bench.another_caller(socket=spare.socket) as caller,
        bench.watching(reopen=False, caller=caller) as log,
    ):
        if log.openings[0].headers is None:  # they may come with the first event only
            await bench.create(bench.sandbox(), caller=caller)
            await until_true(lambda: bool(log.events), LAG)
        bench.need(log.openings[0].headers is not None, "no watch opens", "COMP-WATCH-01")
        await _must_end(bench, spare, "with a watch open")
        await log.until(
            lambda: log.openings[0].ended is not None,
            2.0,
            "the watch has ended with the driver",
            lambda: "it is still open",
        )


@check(
    "PROC-EXIT-02.b",
    "while its backend hangs a driver ends within 10 s of SIGTERM",
    services=SERVICES,
    profile="resilience",
    needs=("slow",),
    own=True,
    once=True,
)
async def ends_while_backend_hangs(bench: Bench) -> None:
    async with bench.backend.slow(_HANGING):
        calls = [asyncio.create_task(reaches_backend(bench)) for _ in range(3)]
        await asyncio.sleep(_UNDER_WAY)
        await _must_end(bench, bench.instance, "while calls wait for a platform that hangs")
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def _must_end(bench: Bench, instance: Instance, when: str) -> None:
    instance.signal(signal.SIGTERM)
    status = await instance.ended(EXIT + _MARGIN)
    bench.hold(
        status is not None,
        f"{when}, the process ends within {EXIT:g} s of SIGTERM",
        f"after {EXIT + _MARGIN:g} s it still runs",
    )


@_process_check("PROC-EXIT-03", "a call that comes during shutdown is not left without an answer")
async def late_call(bench: Bench) -> None:
    async with (
        bench.started_spare() as spare,
        bench.another_caller(socket=spare.socket) as caller,
    ):
        reply = await bench.ping(caller)
        bench.need(reply.ok, str(reply))
        spare.signal(signal.SIGTERM)
        for _ in range(20):
            reply = await bench.ping(caller, patience=_LATE_CALL)
            bench.hold(
                reply.code in {"OK", "UNAVAILABLE", "CANCELLED"},
                f"{reply.rpc} after SIGTERM is answered, or fails with UNAVAILABLE",
                str(reply),
            )
            if reply.code == "UNAVAILABLE":
                return


@check(
    "PROC-KILL-01",
    "kill -9 during a create leaves nothing that cannot be deleted",
    profile="resilience",
    needs=("spawned", "resources"),
    own=True,
    once=True,
)
async def killed_in_create(bench: ComputeBench) -> None:
    bench.apply(bench.profile.target.isolated, "others work on the same platform")
    for delay in _MOMENTS:
        before = set(await bench.backend.resources())
        sandbox = await bench.complete(bench.sandbox())
        await bench.mint(sandbox.spec)
        create = asyncio.create_task(bench.create(sandbox))
        await asyncio.sleep(delay)
        await bench.kill_and_restart(create)
        await create
        await _nothing_lost(bench, sandbox.id, before, delay)


async def _nothing_lost(
    bench: ComputeBench, sandbox_id: str, before: set[str], delay: float
) -> None:
    if sandbox_id in await bench.listed():
        gone = await bench.delete(sandbox_id)
        bench.need(gone.ok, str(gone), "COMP-DEL-01")
        await bench.gone(sandbox_id)
    left: list[str] = []

    async def clean() -> bool | None:
        left[:] = sorted(set(await bench.backend.resources()) - before)
        return None if left else True

    await bench.eventually(
        clean,
        _LEFT,
        f"after a SIGKILL {delay * 1000:.0f} ms into a CreateSandbox, a restart, and a delete if it"
        " is listed, nothing of the sandbox is left at the platform",
        lambda: f"ListSandboxes does not have it, and the platform has {left}",
    )
