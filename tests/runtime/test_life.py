"""The life of a serving process: start, publish, drain, stop, and ends of all kinds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from anyio import to_thread

from openshell_drivers._wire.health_pb2 import HealthCheckResponse
from tests.fakes import grpc_calls
from tests.fakes.driver import CANARY, FAULT_CANARY
from tests.fakes.process import DriverProcess, accepts, eventually
from tests.fakes.users import SOMEBODY, need_root


def test_lifespan_is_entered_before_the_socket_exists(socket_path: Path) -> None:
    with DriverProcess(socket_path, life="gated entering") as driver:
        driver.says("entering")
        existed = socket_path.exists()
        driver.open_gate()
        driver.says("entered")
        driver.serving()

        assert not existed


async def test_health_serves_as_soon_as_the_socket_appears(socket_path: Path) -> None:
    with DriverProcess(socket_path) as driver:
        driver.serving()
        async with grpc_calls.channel(socket_path) as channel:
            status = await grpc_calls.check(channel)

    assert status == HealthCheckResponse.SERVING


def test_idle_driver_ends_with_0_on_sigterm_and_takes_its_socket_along(socket_path: Path) -> None:
    with DriverProcess(socket_path) as driver:
        driver.serving()
        began = time.monotonic()
        driver.send(signal.SIGTERM)
        status = driver.ended()

    assert status == 0
    assert time.monotonic() - began < 3
    assert list(socket_path.parent.iterdir()) == []
    assert driver.logged("stopped")


def test_sigint_is_as_good_as_sigterm(socket_path: Path) -> None:
    with DriverProcess(socket_path) as driver:
        driver.serving().send(signal.SIGINT)

        assert driver.ended() == 0


@pytest.mark.parametrize("allowed_uids", [None, [os.geteuid()]])
async def test_call_under_way_at_sigterm_is_answered(
    socket_path: Path, allowed_uids: list[int] | None
) -> None:
    with DriverProcess(socket_path, allowed_uids=allowed_uids) as driver:
        driver.serving()
        async with grpc_calls.channel(socket_path) as channel:
            call = grpc_calls.resolve(channel, "wait")
            await to_thread.run_sync(driver.says, "waiting")
            driver.send(signal.SIGTERM)
            await grpc_calls.refused(channel)
            driver.open_gate()
            answer = await call
        status = driver.ended()

    assert answer.token_type == "Bearer"
    assert status == 0
    assert not driver.logged("calls cancelled")


async def test_call_that_never_ends_is_cut_after_the_drain_and_told(socket_path: Path) -> None:
    with DriverProcess(socket_path, drain_timeout=0.5) as driver:
        driver.serving()
        async with grpc_calls.channel(socket_path) as channel:
            call = grpc_calls.resolve(channel, "never")
            await to_thread.run_sync(driver.says, "waiting")
            driver.send(signal.SIGTERM)
            code, _ = await grpc_calls.status_of(call)
        status = driver.ended(5)

    assert code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert status == 0
    assert "cancelled never" in driver.heard()
    assert driver.logged("calls cancelled")[0]["calls"] == 1


async def test_second_signal_cuts_the_drain_short(socket_path: Path) -> None:
    with DriverProcess(socket_path, drain_timeout=50) as driver:
        driver.serving()
        async with grpc_calls.channel(socket_path) as channel:
            call = grpc_calls.resolve(channel, "never")
            await to_thread.run_sync(driver.says, "waiting")
            driver.send(signal.SIGTERM)
            await grpc_calls.refused(channel)
            driver.send(signal.SIGTERM)
            await grpc_calls.status_of(call)

        assert driver.ended(5) == 0


async def test_open_stream_does_not_delay_the_end(socket_path: Path) -> None:
    with DriverProcess(socket_path, drain_timeout=50) as driver:
        driver.serving()
        async with grpc_calls.channel(socket_path) as channel:
            watching = grpc_calls.watch(channel)
            await watching.read()
            began = time.monotonic()
            driver.send(signal.SIGTERM)
            _, code = await grpc_calls.end_of(watching)
        status = driver.ended()

    assert code == grpc.StatusCode.UNAVAILABLE
    assert status == 0
    assert time.monotonic() - began < 2


async def test_streams_end_before_the_calls_that_are_waited_for(socket_path: Path) -> None:
    with DriverProcess(socket_path, drain_timeout=50) as driver:
        driver.serving()
        async with grpc_calls.channel(socket_path) as channel:
            call = grpc_calls.resolve(channel, "wait")
            await to_thread.run_sync(driver.says, "waiting")
            watching = grpc_calls.watch(channel)
            await watching.read()
            driver.send(signal.SIGTERM)
            _, code = await grpc_calls.end_of(watching)
            still_waiting = not call.done()
            driver.open_gate()
            answer = await call

    assert code == grpc.StatusCode.UNAVAILABLE
    assert still_waiting
    assert answer.token == CANARY


def test_reader_that_stopped_reading_does_not_delay_the_end(socket_path: Path) -> None:
    reader = [sys.executable, "-c", _STALLED_READER, str(socket_path)]
    with DriverProcess(socket_path, drain_timeout=50) as driver:
        driver.serving()
        with subprocess.Popen(reader, stdout=subprocess.PIPE, text=True) as stalled:
            assert stalled.stdout is not None
            assert stalled.stdout.readline() == "watching\n"
            stalled.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            driver.send(signal.SIGTERM)
            status = driver.ended()
            took = time.monotonic() - began
            stalled.kill()

    assert status == 0
    assert took < 3


_STALLED_READER = """
import sys, grpc
channel = grpc.insecure_channel("unix:" + sys.argv[1], [("grpc.default_authority", "localhost")])
watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
next(watching)
print("watching", flush=True)
next(watching)
"""


@pytest.mark.parametrize("life", ["gated entering", "slow entering"])
def test_sigterm_while_starting_ends_with_0(socket_path: Path, life: str) -> None:
    with DriverProcess(socket_path, life=life) as driver:
        driver.says("entering")
        driver.send(signal.SIGTERM)
        status = driver.ended()

    assert status == 0
    assert list(socket_path.parent.iterdir()) == []


@pytest.mark.parametrize("reload", ["succeeds", "fails", "refuses", "hangs", None])
def test_driver_serves_on_after_sighup(socket_path: Path, reload: str | None) -> None:
    with DriverProcess(socket_path, reload=reload) as driver:
        driver.serving().send(signal.SIGHUP)
        if reload is None:
            assert eventually(lambda: bool(driver.logged("no configuration to reload")))
        else:
            driver.says("reloading")
        still_there = accepts(socket_path)
        driver.send(signal.SIGTERM)
        status = driver.ended()

    assert still_there
    assert status == 0
    assert FAULT_CANARY not in driver.log
    if reload == "succeeds":
        assert driver.logged("configuration reloaded")
    if reload == "refuses":
        reason = driver.logged("the old configuration stays")[0]["reason"]
        assert reason == "key 'realm' is missing"


def test_killed_driver_can_be_started_again_at_its_path(socket_path: Path) -> None:
    with DriverProcess(socket_path) as first:
        first.serving().send(signal.SIGKILL)
        first.ended()
        left_behind = socket_path.exists()
        with DriverProcess(socket_path) as second:
            second.serving().send(signal.SIGTERM)
            status = second.ended()

    assert left_behind
    assert status == 0


def test_dead_background_task_ends_the_process_with_a_reason(socket_path: Path) -> None:
    with DriverProcess(socket_path, life="dying task") as driver:
        driver.serving().open_gate()
        status = driver.ended()

    assert status == 1
    fault = driver.logged("the driver failed")[0]["fault"]
    assert "RuntimeError" in fault
    assert "_die" in fault
    assert FAULT_CANARY not in driver.log
    assert not socket_path.exists()


def test_background_task_that_ends_on_purpose_gives_its_own_reason(socket_path: Path) -> None:
    with DriverProcess(socket_path, life="losing its backend") as driver:
        driver.serving().open_gate()
        status = driver.ended()

    assert status == 1
    assert driver.logged("cannot serve")[0]["reason"] == "the backend is gone for good"


def test_lifespan_that_cancels_its_own_tasks_is_no_success(socket_path: Path) -> None:
    with DriverProcess(socket_path, life="cancelling itself") as driver:
        driver.serving().open_gate()
        status = driver.ended()

    assert status == 1
    assert driver.logged("cannot serve")[0]["reason"] == "the driver's lifespan ended by itself"


@pytest.mark.parametrize("beside", ["a stubborn one", "a blocked thread"])
def test_process_ends_after_a_task_died_whatever_will_not_end(
    socket_path: Path, beside: str
) -> None:
    life = f"dying task beside {beside}"
    with DriverProcess(socket_path, life=life, drain_timeout=0.1, stop_timeout=0.1) as driver:
        driver.serving().open_gate()
        status = driver.ended()

    assert status == 1
    assert FAULT_CANARY not in driver.log


async def test_call_that_lets_nobody_cancel_it_cannot_keep_the_process(socket_path: Path) -> None:
    with DriverProcess(socket_path, drain_timeout=0.1, stop_timeout=0.1) as driver:
        driver.serving()
        async with grpc_calls.channel(socket_path) as channel:
            call = grpc_calls.resolve(channel, "stubborn")
            await to_thread.run_sync(driver.says, "waiting")
            driver.send(signal.SIGTERM)
            code, _ = await grpc_calls.status_of(call)
        status = driver.ended()

    assert code != grpc.StatusCode.OK
    assert status == 1
    assert not accepts(socket_path)


def test_lifespan_that_takes_too_long_is_given_up_with_a_reason(socket_path: Path) -> None:
    with DriverProcess(socket_path, life="slow entering", start_timeout=0.3) as driver:
        status = driver.ended()

    assert status == 1
    reason = driver.logged("cannot serve")[0]["reason"]
    assert reason == "lifespan took longer than 0.3 s"
    assert list(socket_path.parent.iterdir()) == []


def test_lifespan_that_blocks_the_loop_cannot_keep_the_process(socket_path: Path) -> None:
    with DriverProcess(
        socket_path,
        life="blocked entering",
        start_timeout=0.1,
        drain_timeout=0.1,
        stop_timeout=0.1,
    ) as driver:
        driver.says("entering")
        driver.send(signal.SIGTERM)
        status = driver.ended()

    assert status == 1
    assert driver.logged("something would not end; leaving without it")


def test_lifespan_that_fails_says_where_and_not_what(socket_path: Path) -> None:
    with DriverProcess(socket_path, life="failing") as driver:
        status = driver.ended()

    assert status == 1
    assert "_enter" in driver.logged("the driver failed")[0]["fault"]
    assert FAULT_CANARY not in driver.log


def test_lifespan_that_refuses_gives_its_reason(socket_path: Path) -> None:
    with DriverProcess(socket_path, life="refusing") as driver:
        status = driver.ended()

    assert status == 1
    assert driver.logged("cannot serve")[0]["reason"] == "key 'realm' is missing"


def test_path_that_cannot_be_claimed_is_the_reason_in_the_log(short_dir: Path) -> None:
    path = short_dir / "driver.sock"
    path.write_text("somebody's notes")
    with DriverProcess(path) as driver:
        status = driver.ended()

    assert status == 1
    assert "is not a socket" in driver.logged("cannot serve")[0]["reason"]
    assert path.read_text() == "somebody's notes"


def test_leaving_the_lifespan_is_limited(socket_path: Path) -> None:
    with DriverProcess(socket_path, life="slow leaving", stop_timeout=0.3) as driver:
        driver.serving().send(signal.SIGTERM)
        status = driver.ended(5)

    assert status == 0
    assert driver.logged("lifespan did not end in time")
    assert not socket_path.exists()


def test_first_process_of_a_container_ends_on_sigterm(socket_path: Path) -> None:
    namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no pid namespaces here")
    with DriverProcess(socket_path, before=namespace) as driver:
        driver.serving()
        child = _only_child(driver.process.pid)
        os.kill(child, signal.SIGTERM)

        assert driver.ended() == 0
    assert not socket_path.exists()


def _only_child(pid: int) -> int:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(listed) == 1
    return int(listed[0])


def test_user_without_a_name_or_a_home_can_serve(short_dir: Path) -> None:
    need_root()
    home = short_dir / "anybody"
    home.mkdir()
    os.chown(home, SOMEBODY, SOMEBODY)
    short_dir.chmod(0o755)
    path = home / "run" / "driver.sock"
    with DriverProcess(path, env={"PATH": os.environ["PATH"]}, become=SOMEBODY) as driver:
        owner = driver.serving().path.stat().st_uid
        driver.send(signal.SIGTERM)
        status = driver.ended()

    assert owner == SOMEBODY
    assert status == 0


def test_an_error_in_a_thread_of_the_author_is_described_and_not_quoted(socket_path: Path) -> None:
    with DriverProcess(socket_path, life="losing threads") as driver:
        driver.serving().send(signal.SIGTERM)
        status = driver.ended()

    (record,) = driver.logged("unhandled error")
    assert status == 0
    assert record["fault"].startswith("RuntimeError at serve.py:")
    assert FAULT_CANARY not in driver.log
