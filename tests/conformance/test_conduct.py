"""How the suite runs a check: a result for each, whatever it ends by."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._assemble import Course, assemble
from openshell_drivers.conformance._caller import Caller, Transcript, channel_to
from openshell_drivers.conformance._checks import checks
from openshell_drivers.conformance._detect import Found
from openshell_drivers.conformance._instances import Instance, TargetNotReady, _starved
from openshell_drivers.conformance._ledger import Ledger
from openshell_drivers.conformance._outcomes import Blocked, TooSlow
from openshell_drivers.conformance._profile import Profile
from openshell_drivers.conformance._request import Request
from openshell_drivers.conformance._targets import Target
from openshell_drivers.conformance._units import Unit
from openshell_drivers.conformance.benches.compute import ComputeBench
from openshell_drivers.conformance.report.model import Result
from openshell_drivers.testing.gateway import PRESETS
from tests.conformance.matrix.harness import bare
from tests.peers.processes import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

Run = Callable[[Any], Awaitable[None]]


def unit(run: Run, name: str = "COMP-CAP-01") -> Unit:
    """A check that is one in name only."""
    made = next(each for each in checks().values() if each.clause == name)
    return Unit(
        check=replace(made, run=run, own=False, once=False), preset="0.1-latest", level="MUST"
    )


async def fine(_: ComputeBench) -> None:
    """Nothing to find."""


async def test_a_check_that_ends_by_a_cancellation_has_a_result() -> None:
    async def cancelled(_: ComputeBench) -> None:
        raise asyncio.CancelledError

    results: list[Result] = []
    async with bare() as conductor:
        await conductor.run([unit(cancelled), unit(fine, "COMP-GET-01")], results.append)

    assert {each.clause: each.outcome for each in results} == {
        "COMP-CAP-01": "error",
        "COMP-GET-01": "pass",
    }
    assert "CancelledError" in next(each.reason for each in results if each.outcome == "error")


async def test_cleaning_up_that_ends_by_a_cancellation_is_a_leak_and_no_lost_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def cancelled(_: ComputeBench) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(ComputeBench, "clean", cancelled)
    results: list[Result] = []
    async with bare() as conductor:
        await conductor.run([unit(fine)], results.append)

    assert [each.outcome for each in results] == ["pass"]
    assert [each.name for each in conductor.leaks] == [
        f"what {results[0].check} made could not be removed: CancelledError"
    ]


async def test_a_result_that_is_missing_is_named(tmp_path: Path) -> None:
    units = [unit(fine), unit(fine, "COMP-GET-01")]
    results: list[Result] = []
    target = {"given": "x", "read_as": "x", "kind": "command", "name": "x", "argv": ["x"]}
    asked = {"target": target, "events": tmp_path / "e", "ledgers": tmp_path / "l"}
    async with bare() as conductor:
        await conductor.run(units[:1], results.append)
        course = Course(
            world=conductor._world,
            found=Found(),
            units=units,
            results=results,
            leaks=[],
            started="2026-01-01T00:00:00+00:00",
            seconds=1.0,
            waivers=[],
            stopped="",
            full=True,
        )
    whole = assemble(Request.model_validate(asked), replace(course, units=units[:1]))
    assert (whole.run.complete, whole.warnings) == (True, [])
    report = assemble(Request.model_validate(asked), course)
    assert report.verdict == "incomplete"
    assert report.warnings == [f"by a fault of the suite there is no result of {units[1].key}"]


async def test_a_channel_that_closes_under_a_call_is_an_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "s"))
        mute.listen()
        mute.setblocking(False)
        channel = channel_to(tmp_path / "s", "localhost")
        caller = Caller(channel, "a.B", PRESETS["0.1-latest"], Transcript(str))
        call = asyncio.create_task(caller.ask_raw("C", b"", wire.GetCapabilitiesResponse))
        connection, _ = await asyncio.get_running_loop().sock_accept(mute)
        with connection:
            await channel.close(None)
            assert str(await call) == "C: CANCELLED 'the suite closed the channel'"


async def test_a_run_that_is_told_to_stop_ends_what_is_under_way() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hangs(_: ComputeBench) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    results: list[Result] = []
    async with bare() as conductor:
        run = asyncio.create_task(conductor.run([unit(hangs)], results.append))
        await begun.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert ended.is_set()

    assert results == []


# A machine that is slow because of the suite's own work.


async def test_what_waited_in_vain_is_tried_again_alone_with_its_whole_time() -> None:
    tries: list[set[tuple[str, tuple[str, ...]]]] = []

    async def slow(bench: ComputeBench) -> None:
        tries.append(set(bench.world.vain))
        if len(tries) == 1:
            bench.world.vain.add((bench.preset.name, ("Ready",)))
            raise TooSlow("it was not Ready")

    results: list[Result] = []
    async with bare() as conductor:
        await conductor.run([unit(slow)], results.append)

    assert [each.outcome for each in results] == ["pass"]
    assert tries == [set(), set()]


async def test_what_is_blocked_for_another_reason_is_not_tried_again() -> None:
    """Of a driver that dies under load the report has to tell."""
    tries = 0

    async def blocked(_: ComputeBench) -> None:
        nonlocal tries
        tries += 1
        raise Blocked("the driver's process has ended")

    results: list[Result] = []
    async with bare() as conductor:
        await conductor.run([unit(blocked)], results.append)

    assert ([each.outcome for each in results], tries) == (["blocked"], 1)


def test_a_process_that_waits_for_a_processor_is_starved() -> None:
    cpu = min(os.sched_getaffinity(0))
    burn = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{cpu}])\nwhile True: pass"]
    others = [subprocess.Popen(burn) for _ in range(3)]
    idle = subprocess.Popen(["sleep", "60"])
    try:
        waited = wait_until(lambda: any(_starved(each.pid) > 0.2 for each in others), 30)
        assert waited
        assert _starved(idle.pid) < 0.2
    finally:
        for each in (*others, idle):
            each.kill()
            each.wait()


@pytest.mark.parametrize(
    ("starved", "forgiven", "comes_up"), [(0.0, 10, False), (60.0, 10, True), (60.0, 0.1, False)]
)
async def test_waiting_for_a_processor_is_not_held_against_a_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    starved: float,
    forgiven: float,
    comes_up: bool,
) -> None:
    monkeypatch.setattr("openshell_drivers.conformance._instances._MOST_STARVED", forgiven)
    monkeypatch.setattr("openshell_drivers.conformance._instances._starved", lambda _: starved)
    serve = "import socket, sys, time; time.sleep(0.5); s = socket.socket(socket.AF_UNIX)"
    serve += "; s.bind(sys.argv[1]); s.listen(); time.sleep(60)"
    argv = (sys.executable, "-c", serve, "{socket}")
    target = Target(given="x", read_as="x", kind="command", name="x", argv=argv)
    profile = Profile.model_validate({"target": {"ready": 0.3}})
    instance = Instance(target, profile, tmp_path, Ledger(tmp_path / "ledgers", "x"))
    try:
        if comes_up:
            await instance.start()
        else:
            with pytest.raises(TargetNotReady, match="did not accept within"):
                await instance.start()
    finally:
        await instance.close()
