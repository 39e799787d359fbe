"""A probe's one call, at real servers and at what no real server does."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest

from openshell_drivers import _probe
from openshell_drivers._probe import serves
from openshell_drivers._wire.health_pb2 import HealthCheckRequest, HealthCheckResponse
from tests.fakes.process import DriverProcess

SERVING = b"\x00\x00\x00\x00\x02\x08\x01"
Status: TypeAlias = HealthCheckResponse.ServingStatus.ValueType
Say = Callable[[socket.socket], object]


@contextmanager
def grpc_server(path: Path, status: Status) -> Iterator[None]:
    """A server that is not ours, and a service of it that serves."""
    known = {"": status, "a.Service": HealthCheckResponse.SERVING}

    def check(request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:
        if request.service not in known:
            context.abort(grpc.StatusCode.NOT_FOUND, "")
        return HealthCheckResponse(status=known[request.service])

    method = grpc.unary_unary_rpc_method_handler(
        check, HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
    )
    handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[handler])
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


def test_a_driver_that_serves(socket_path: Path) -> None:
    with DriverProcess(socket_path) as driver:
        driver.serving()
        assert serves(str(socket_path))
        assert not serves(str(socket_path), "no.such.Service")


@pytest.mark.parametrize(
    ("status", "service", "expected"),
    [
        (HealthCheckResponse.SERVING, "", True),
        (HealthCheckResponse.NOT_SERVING, "", False),
        (HealthCheckResponse.UNKNOWN, "", False),
        (HealthCheckResponse.NOT_SERVING, "a.Service", True),
        (HealthCheckResponse.SERVING, "another.Service", False),
        (HealthCheckResponse.SERVING, "a" * 128, False),
    ],
)
def test_another_server(short_dir: Path, status: Status, service: str, expected: bool) -> None:
    with grpc_server(short_dir / "s", status):
        assert serves(str(short_dir / "s"), service) is expected


@contextmanager
def scripted(path: Path, say: Say) -> Iterator[list[bytes]]:
    """Have the first caller answered so; give what it has sent."""
    sent: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            line, _ = listener.accept()
            with line, contextlib.suppress(OSError):  # it has heard enough
                say(line)
                line.shutdown(socket.SHUT_WR)
                while part := line.recv(65536):
                    sent.append(part)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield sent
        thread.join(10)


def frame(kind: int, flags: int, payload: bytes = b"", stream: int = 1) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


SETTINGS, PING, HEADERS, END = frame(4, 0, stream=0), frame(6, 0, b"12345678", 0), 1, frame(1, 5)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (SETTINGS + PING + frame(HEADERS, 4) + frame(0, 0, SERVING) + END, True),
        (SETTINGS + frame(0, 0, SERVING[:3]) + frame(0, 0, SERVING[3:]) + END, True),
        (SETTINGS + frame(0, 8, b"\x04" + SERVING + bytes(4)) + END, True),
        (frame(0, 1, SERVING), True),
        (frame(0, 0, SERVING), False),
        (frame(0, 0, SERVING + SERVING) + END, False),
        (frame(0, 0, b"\x01" + SERVING[1:]) + END, False),
        (SETTINGS + END, False),
        (frame(0, 8), False),
        (frame(3, 0, bytes(4)) + frame(0, 1, SERVING), False),
        (frame(7, 0, bytes(8), 0) + frame(0, 1, SERVING), False),
        (frame(4, 0, stream=0) * 200 + frame(0, 1, SERVING), False),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (b"\xff" * 100, False),
        (b"", False),
    ],
    ids=[
        *("between other frames", "in two parts", "padded", "without trailers", "cut off"),
        *("twice", "compressed", "no message", "no padding", "reset", "going away", "endless"),
        *("HTTP/1.1", "noise", "hangs up"),
    ],
)
def test_what_a_server_may_say(short_dir: Path, said: bytes, expected: bool) -> None:
    with scripted(short_dir / "s", lambda line: line.sendall(said)):
        assert serves(str(short_dir / "s")) is expected


def test_settings_and_pings_are_acknowledged(short_dir: Path) -> None:
    said = SETTINGS + PING + frame(0, 1, SERVING)
    with scripted(short_dir / "s", lambda line: line.sendall(said)) as sent:
        assert serves(str(short_dir / "s"))
    whole = b"".join(sent)
    assert frame(4, 1, stream=0) in whole
    assert frame(6, 1, b"12345678", 0) in whole


def test_a_server_that_says_nothing_is_not_waited_for(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_probe, "_ANSWER_SECONDS", 0.05)
    done = threading.Event()
    with scripted(short_dir / "s", lambda _: done.wait(10)):
        assert not serves(str(short_dir / "s"))
        done.set()


def test_a_driver_that_comes_up_is_waited_for(socket_path: Path) -> None:
    found: list[bool] = []
    waiting = threading.Thread(target=lambda: found.append(serves(str(socket_path), wait=20)))
    waiting.start()
    with DriverProcess(socket_path) as driver:
        driver.serving()
        waiting.join()
    assert found == [True]
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
        serves(str(socket_path))


def test_one_that_answers_is_not_waited_for(short_dir: Path) -> None:
    with scripted(short_dir / "s", lambda line: line.sendall(SETTINGS + END)):
        assert not serves(str(short_dir / "s"), wait=3600)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--wait", "0.3"], r"UNAVAILABLE: no driver at '.*/s' after 0\.[3-9] s: no socket yet\n"),
        ([], r"UNAVAILABLE: no driver at '.*/s' after 0\.0 s: no socket yet\n"),
    ],
)
def test_nobody_there_is_said_after_the_time_that_was_waited(
    short_dir: Path, flags: list[str], said: str
) -> None:
    began = time.monotonic()
    command = [sys.executable, "-m", "openshell_drivers", "health", "--socket"]
    ran = subprocess.run(
        [*command, str(short_dir / "s"), *flags], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert re.fullmatch(f"openshell-drivers: {said}", ran.stderr)
    assert time.monotonic() - began < 10


def test_a_probe_loads_next_to_nothing(socket_path: Path) -> None:
    """It runs within the memory limit of the driver that it asks."""
    with DriverProcess(socket_path) as driver:
        driver.serving()
        command = [sys.executable, "-X", "importtime", "-m", "openshell_drivers", "health"]
        for flags in (["--socket", str(socket_path)], [f"--bind-socket={socket_path}", "--wait=3"]):
            ran = subprocess.run([*command, *flags], capture_output=True, text=True, check=True)
            loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
            assert ran.stdout == "serving\n"
            assert loaded.isdisjoint({"grpc", "anyio", "asyncio", "argparse", "google.protobuf"})
