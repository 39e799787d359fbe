"""Two servers and one path."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import pytest

from openshell_drivers import Backoff, SocketError
from openshell_drivers.client import connect
from openshell_drivers.server import ServerOptions, SocketPolicy, running, serve
from tests.fakes.driver import CANARY, Named
from tests.fakes.process import DriverProcess, accepts, eventually


async def test_second_server_on_live_socket_is_refused(socket_path: Path) -> None:
    async with running(Named(), socket=socket_path), connect(socket_path) as client:
        with pytest.raises(SocketError, match="another server is listening"):
            async with running(Named(), socket=socket_path):
                pass
        credential = await client.credentials.resolve_credential("quick")

    assert credential.token.reveal() == CANARY


async def test_serving_raises_why_it_cannot_and_no_group(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    async with running(Named(), socket=path):
        with pytest.raises(SocketError, match="another server is listening"):
            await serve(Named(), socket=path)


async def test_path_of_107_bytes_is_served_and_dialled(short_dir: Path) -> None:
    path = short_dir / ("x" * (107 - len(str(short_dir)) - 1))
    async with running(Named(), socket=path), connect(path) as client:
        serving = await client.is_serving()

    assert len(str(path)) == 107
    assert serving


@pytest.mark.parametrize("allowed_uids", [None, frozenset({0, 1000})])
async def test_server_can_start_again_at_once(
    socket_path: Path, allowed_uids: frozenset[int] | None
) -> None:
    options = ServerOptions(socket=SocketPolicy(allowed_uids=allowed_uids))
    for _ in range(10):
        async with running(Named(), socket=socket_path, options=options):
            assert accepts(socket_path)

    assert list(socket_path.parent.iterdir()) == []


_RACE = """
import socket, sys, time
from pathlib import Path
from openshell_drivers import SocketError
from openshell_drivers._socket import SocketPolicy, claim
for line in sys.stdin:
    path = Path(line.rstrip())
    with claim(path, SocketPolicy()) as place, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place.bind_path("s"))
        listener.listen()
        print("ready", flush=True)
        start = float(sys.stdin.readline())
        while time.time() < start:
            pass
        try:
            place.publish("s")
            print("published", flush=True)
        except SocketError as error:
            print(error, flush=True)
        sys.stdin.readline()
    print("over", flush=True)
"""


def test_of_two_that_publish_at_the_same_instant_exactly_one_serves(short_dir: Path) -> None:
    with _Racer() as one, _Racer() as two:
        rounds = [_race(short_dir / str(number) / "s.sock", one, two) for number in range(150)]

    for answers in rounds:
        assert "published" in answers
        assert len(answers) == 2
        assert "another server is listening" in str(answers)


class _Racer:
    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _RACE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _race(path: Path, *racers: _Racer) -> set[str]:
    for racer in racers:
        racer.tell(str(path))
    assert {racer.hear() for racer in racers} == {"ready"}
    start = time.time() + 0.005
    for racer in racers:
        racer.tell(str(start))
    answers = {racer.hear() for racer in racers}
    for racer in racers:
        racer.tell("")
    assert {racer.hear() for racer in racers} == {"over"}
    return answers


def test_of_two_drivers_started_together_exactly_one_serves(socket_path: Path) -> None:
    with (
        DriverProcess(socket_path, wait_for_start=True) as one,
        DriverProcess(socket_path, wait_for_start=True) as two,
    ):
        for each in (one, two):
            each.says("ready")
        for each in (one, two):
            each.open_gate()
        assert eventually(lambda: any(each.process.poll() is not None for each in (one, two)))
        loser, winner = (one, two) if one.process.poll() is not None else (two, one)
        winner.serving()
        status = loser.ended()

    assert status == 1
    assert "another server is listening" in loser.logged("cannot serve")[0]["reason"]


async def test_client_reaches_the_restarted_driver(socket_path: Path) -> None:
    async with running(Named(), socket=socket_path), connect(socket_path) as client:
        await client.credentials.resolve_credential("quick")
    async with (
        running(Named(), socket=socket_path),
        connect(socket_path, backoff=Backoff(attempts=50)) as client,
    ):
        assert await client.is_serving()
