"""The client: what it waits for, what it does not, and when it gives up."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from openshell_drivers import Backoff, NotFound, Unavailable, Unimplemented
from openshell_drivers._rpc import Service, Traffic, Unary, generic_handler
from openshell_drivers._services.names import HEALTH
from openshell_drivers._wire.health_pb2 import HealthCheckRequest, HealthCheckResponse
from openshell_drivers.client import connect, connect_blocking
from openshell_drivers.errors import DriverError, PermissionDenied
from openshell_drivers.server import running
from tests.fakes.driver import CANARY, Named
from tests.fakes.process import DriverProcess
from tests.fakes.users import as_somebody

SHORT = Backoff(attempts=5, delay=0.05)
LONG = Backoff(attempts=100, delay=0.1)


async def _after(seconds: float, path: Path) -> None:
    await anyio.sleep(seconds)
    async with running(Named(), socket=path):
        await anyio.sleep_forever()


@asynccontextmanager
async def _answering(path: Path, *answers: int | DriverError) -> AsyncIterator[list[object]]:
    """A server whose health gives these answers one after the other, the last one for ever."""
    from grpc import aio

    asked: list[object] = []

    async def check(request: HealthCheckRequest) -> HealthCheckResponse:
        answer = answers[min(len(asked), len(answers) - 1)]
        asked.append(answer)
        if isinstance(answer, DriverError):
            raise answer
        return HealthCheckResponse(status=answer)  # type: ignore[arg-type]  # any number

    server = aio.server()
    method = Unary(name="Check", request=HealthCheckRequest, answer=check)
    service = Service(name=HEALTH, methods=[method])
    server.add_generic_rpc_handlers([generic_handler(service, Traffic(5, 5, 5))])
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield asked
    finally:
        await server.stop(0)


async def test_socket_that_appears_is_dialled_at_once(socket_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_after, 0.5, socket_path)
        began = time.monotonic()
        async with connect(socket_path, backoff=Backoff(attempts=3, delay=30)) as client:
            took = time.monotonic() - began
            credential = await client.credentials.resolve_credential("quick")
        tasks.cancel_scope.cancel()

    assert credential.token.reveal() == CANARY
    assert took < 5  # and not the 30 s of the policy


async def test_dead_socket_is_waited_at(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_after, 0.3, path)
        async with connect(path, backoff=LONG) as client:
            serving = await client.is_serving()
        tasks.cancel_scope.cancel()

    assert serving


@pytest.mark.parametrize(
    "first", [Unavailable("starting"), HealthCheckResponse.NOT_SERVING, Unavailable("")]
)
async def test_driver_that_does_not_serve_yet_is_waited_for(
    short_dir: Path, first: int | DriverError
) -> None:
    path = short_dir / "s.sock"
    async with (
        _answering(path, first, first, HealthCheckResponse.SERVING) as asked,
        connect(path, backoff=LONG),
    ):
        pass

    assert len(asked) == 3


@pytest.mark.parametrize("answer", [Unimplemented("no health here"), NotFound("no whole")])
async def test_driver_without_health_counts_as_there(short_dir: Path, answer: DriverError) -> None:
    path = short_dir / "s.sock"
    async with _answering(path, answer) as asked, connect(path, backoff=SHORT):
        pass

    assert len(asked) == 1


async def test_any_other_answer_is_raised_at_once(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    async with _answering(path, PermissionDenied("not you")) as asked:
        with pytest.raises(PermissionDenied, match="not you"):
            async with connect(path, backoff=LONG):
                pass

    assert len(asked) == 1


def test_path_without_permission_is_raised_at_once(short_dir: Path) -> None:
    (short_dir / "s.sock").touch()
    short_dir.chmod(0o700)
    code = (
        "try:\n"
        "    with connect_blocking(sys.argv[1]): pass\n"
        "except PermissionError: print('PermissionError')\n"
    )

    assert as_somebody(code, str(short_dir / "s.sock")) == "PermissionError"


@pytest.mark.parametrize("kind", ["file", "directory"])
async def test_path_that_is_no_socket_is_raised_at_once(short_dir: Path, kind: str) -> None:
    path = short_dir / "s.sock"
    await to_thread.run_sync(path.touch if kind == "file" else path.mkdir)
    began = time.monotonic()
    with pytest.raises(OSError, match="non-socket"):
        async with connect(path, backoff=LONG):
            pass

    assert time.monotonic() - began < 2


async def test_path_that_is_too_long_is_raised_at_once(short_dir: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        async with connect(short_dir / ("x" * 108), backoff=LONG):
            pass


async def test_giving_up_says_what_was_missing(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"no driver at '.*s\.sock' after .* s: no socket yet"):
        async with connect(path, backoff=SHORT):
            pass

    assert 0.15 < time.monotonic() - began < 2


async def test_giving_up_at_a_dead_socket_says_so(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(Unavailable, match="nobody listens"):
        async with connect(path, backoff=SHORT):
            pass


async def test_giving_up_at_a_driver_that_never_serves_says_so(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    async with _answering(path, HealthCheckResponse.NOT_SERVING) as asked:
        with pytest.raises(Unavailable, match="it is not serving"):
            async with connect(path, backoff=SHORT):
                pass

    assert len(asked) == 5


async def test_server_that_accepts_and_never_answers_costs_no_more_than_the_policy(
    short_dir: Path,
) -> None:
    path = short_dir / "s.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen(64)
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"DEADLINE_EXCEEDED|UNAVAILABLE"):
            async with connect(path, backoff=Backoff(attempts=21, delay=0.1)):
                pass
        took = time.monotonic() - began

    assert took < 2.0 + 2.0  # the policy's 20 delays of 0.1 s, and the last attempt


async def test_waiting_can_be_cancelled(short_dir: Path) -> None:
    with anyio.move_on_after(0.1) as scope:
        async with connect(short_dir / "s.sock", backoff=Backoff(attempts=None)):
            pass

    assert scope.cancelled_caught


@pytest.mark.parametrize("authority", ["localhost", "[::]:50052"])
async def test_requests_carry_the_authority(short_dir: Path, authority: str) -> None:
    path = short_dir / "s.sock"
    received = bytearray()
    with socket.socket(socket.AF_UNIX) as raw:
        raw.bind(str(path))
        raw.listen()
        reading = threading.Thread(target=_read_requests, args=(raw, received))
        reading.start()
        with pytest.raises(Unavailable):
            async with connect(path, backoff=Backoff(attempts=1), authority=authority):
                pass
        await to_thread.run_sync(reading.join)

    assert authority.encode() in received
    assert b"unix" not in received
    assert str(path).encode() not in received


def _read_requests(listener: socket.socket, into: bytearray) -> None:
    """Take the probe's connection and the channel's, and keep what the latter says."""
    for _ in range(2):
        peer, _address = listener.accept()
        with peer:
            peer.settimeout(10)
            while chunk := peer.recv(65536):
                if not into:
                    peer.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")  # empty SETTINGS
                into += chunk


async def test_connection_survives_a_restart_of_the_driver(socket_path: Path) -> None:
    with DriverProcess(socket_path) as first:
        await to_thread.run_sync(first.serving)
        async with connect(socket_path) as client:
            before = await client.credentials.resolve_credential("quick")
            first.process.kill()
            await to_thread.run_sync(first.ended)
            with DriverProcess(socket_path) as second:
                await to_thread.run_sync(second.serving)
                after = None
                with anyio.fail_after(10):
                    while after is None:
                        try:
                            after = await client.credentials.resolve_credential("quick")
                        except Unavailable:
                            await asyncio.sleep(0.01)

    assert before.token == after.token


def test_code_without_a_loop_can_connect_and_call(socket_path: Path) -> None:
    with DriverProcess(socket_path), connect_blocking(socket_path) as client:
        credential = client.call(client.credentials.resolve_credential, "quick")
        listed = client.call(client.credentials.list_credentials)
        serving = client.call(client.is_serving)
        with pytest.raises(NotFound, match="as asked"):
            client.call(client.credentials.resolve_credential, "raise:NOT_FOUND")

    assert credential.token.reveal() == CANARY
    assert [info.name for info in listed] == ["quick"]
    assert serving


def test_code_without_a_loop_is_told_why_as_well(short_dir: Path) -> None:
    opening = connect_blocking(short_dir / "s.sock", backoff=SHORT)
    with pytest.raises(Unavailable, match="no socket yet"), opening:
        pass


@pytest.mark.parametrize("code", ["NOT_FOUND", "FAILED_PRECONDITION", "DATA_LOSS", "INTERNAL"])
async def test_client_raises_the_error_of_the_status(socket_path: Path, code: str) -> None:
    async with running(Named(), socket=socket_path), connect(socket_path) as client:
        with pytest.raises(DriverError) as caught:
            await client.credentials.resolve_credential(f"raise:{code}")

    assert caught.value.code == code
    assert caught.value.message == "as asked"
    assert caught.value.__cause__ is None


async def test_call_that_takes_too_long_is_given_up(socket_path: Path) -> None:
    async with running(Named(), socket=socket_path), connect(socket_path, timeout=0.1) as client:
        with pytest.raises(DriverError) as caught:
            await client.credentials.resolve_credential("never")

    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_time_from_socket_to_answer_is_short(
    socket_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Reported; the bound is generous, since machines differ."""
    with DriverProcess(socket_path), connect_blocking(socket_path):
        took = time.time() - socket_path.stat().st_ctime
    record_property("milliseconds from appearing to answering", took * 1000)

    assert took < 2
