"""`TokenFile`: rotated as the kubelet does, read as rarely as promised, given to real clients."""

from __future__ import annotations

import http.server
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import grpc
import httpx
import pytest
import trustme
from grpc import aio

from openshell_drivers import Secret, Unavailable, token_file
from openshell_drivers.token_file import TokenFile, grpc_call_credentials, http_auth

CANARY: Final = "canary-93ce-hidden"


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Volume:
    """A projected volume, written by the kubelet's steps: a new directory, then one rename."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "token"
        self._turn = 0

    def rotate(self, text: str | bytes) -> None:
        self._turn += 1
        fresh = self.root / f"..{self._turn:04}"
        fresh.mkdir()
        raw = text.encode() if isinstance(text, str) else text
        (fresh / "token").write_bytes(raw)
        (self.root / "..data_tmp").symlink_to(fresh.name)
        (self.root / "..data_tmp").replace(self.root / "..data")
        if not self.path.is_symlink():
            self.path.symlink_to("..data/token")


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    made = Volume(tmp_path)
    made.rotate("token-1\n")
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """One entry for each time that a file is opened."""
    seen: list[Path] = []
    real = token_file._read

    def counted(path: Path) -> tuple[Secret, tuple[int, ...]]:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(token_file, "_read", counted)
    return seen


def same_length(path: Path, text: str) -> None:
    """Write in place so that nothing but the content shows it, as some file systems do."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_rotation_by_symlink_is_seen_within_a_second(volume: Volume, clock: Clock) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    assert tokens.token() == Secret("token-1")

    volume.rotate("token-2\n")
    clock.now += 1

    assert tokens.token() == Secret("token-2")


def test_a_rotation_in_place_is_seen_within_a_second(volume: Volume, clock: Clock) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    tokens.token()

    volume.path.write_text("token-2-longer")
    clock.now += 1

    assert tokens.token() == Secret("token-2-longer")


def test_calls_in_the_same_second_touch_no_file(volume: Volume, clock: Clock) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    tokens.token()
    volume.path.unlink()
    clock.now += 0.999

    assert tokens.token() == Secret("token-1")
    assert not tokens._warned


def test_an_unchanged_file_is_read_once_a_minute(
    volume: Volume, clock: Clock, reads: list[Path]
) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    for _ in range(600):  # a minute in steps of 0.1 s, but for the last
        tokens.token()
        clock.now += 0.099
    assert len(reads) == 1

    clock.now += 1
    tokens.token()

    assert len(reads) == 2


def test_a_file_is_read_once_a_rotation(volume: Volume, clock: Clock, reads: list[Path]) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    for turn in range(2, 12):
        tokens.token()
        volume.rotate(f"token-{turn}")
        for _ in range(5):
            clock.now += 1
            assert tokens.token() == Secret(f"token-{turn}")

    assert len(reads) == 11


def test_a_change_that_does_not_show_is_seen_when_it_is_read_again(
    volume: Volume, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_file, "_identity", lambda status: (status.st_size,))
    tokens = TokenFile(volume.path, reread_seconds=5, clock=clock)
    tokens.token()
    same_length(volume.path, "token-9\n")
    clock.now += 4.9
    assert tokens.token() == Secret("token-1")

    clock.now += 1

    assert tokens.token() == Secret("token-9")


def test_a_file_that_changes_while_it_is_read_is_read_again(
    volume: Volume, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        """Looks at what was read only after the file has become another one."""

        def __init__(self, real: re.Pattern[bytes]) -> None:
            self._real = real

        def fullmatch(self, text: bytes) -> re.Match[bytes] | None:
            volume.path.write_text("token-2-longer")
            return self._real.fullmatch(text)

    tokens = TokenFile(volume.path, clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr(token_file, "_TOKEN", Slow(token_file._TOKEN))
        assert tokens.token() == Secret("token-1")
    clock.now += 1

    assert tokens.token() == Secret("token-2-longer")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b" \n", b"a b", b"a\nb", b"a\0b", b"a\x7f", b"a\x1b[0m", "é".encode(), b"\xff"),
        *(b"a\r\nX-Evil: 1", b"x" * (64 * 1024 + 1)),
    ],
    ids=range(11),
)
def test_a_token_that_cannot_be_read_again_stays_in_use_and_is_warned_of_once(
    volume: Volume, clock: Clock, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    tokens.token()
    volume.rotate(content)
    with caplog.at_level(logging.DEBUG):
        for _ in range(200):
            clock.now += 1
            assert tokens.token() == Secret("token-1")

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "token-1" not in str(vars(caplog.records[0]))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b" ", "the file is empty"),
        (b"a b", "the file holds white space, control characters or more than ASCII"),
        (b"x" * 70_000, "the file is longer than 65536 bytes"),
    ],
    ids=range(3),
)
def test_the_warning_names_the_file_and_the_rule(
    volume: Volume, caplog: pytest.LogCaptureFixture, content: bytes, rule: str
) -> None:
    volume.rotate(content)
    with pytest.raises(Unavailable):
        TokenFile(volume.path).token()

    assert vars(caplog.records[0])["file"] == str(volume.path)
    assert vars(caplog.records[0])["fault"] == rule


def test_a_bad_file_is_tried_once_a_second(volume: Volume, clock: Clock, reads: list[Path]) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    tokens.token()
    volume.rotate("")
    clock.now += 1

    assert {tokens.token() for _ in range(100)} == {Secret("token-1")}
    assert len(reads) == 2


def test_after_a_fault_the_next_good_token_is_taken_and_a_new_fault_is_told(
    volume: Volume, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    tokens.token()
    for turn in (2, 3):
        volume.rotate("")
        clock.now += 1
        tokens.token()
        volume.rotate(f"token-{turn}")
        clock.now += 1
        assert tokens.token() == Secret(f"token-{turn}")

    assert len(caplog.records) == 2


def test_without_any_token_a_call_is_unavailable_until_there_is_one(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "later"
    tokens = TokenFile(path, clock=clock)
    for use in (tokens.token, tokens.refresh, tokens.headers):
        with pytest.raises(Unavailable, match="has no token for its backend yet") as caught:
            use()
        assert str(tmp_path) not in caught.value.message
    assert len(caplog.records) == 1
    path.write_text("token-1")

    assert tokens.token() == Secret("token-1")  # at once: nothing else can be done


def make_directory(path: Path) -> None:
    path.mkdir()


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [make_directory, make_fifo, make_socket, make_device, make_loop])
def test_what_is_no_regular_file_is_not_read(
    short_dir: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    make(short_dir / "t")

    with pytest.raises(Unavailable):
        TokenFile(short_dir / "t").token()
    if make is not make_loop:
        assert vars(caplog.records[0])["fault"] == "it is not a regular file"


def test_a_file_swapped_for_a_fifo_at_the_last_moment_is_not_waited_for(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(short_dir / "t")
    regular = Path(__file__).stat()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", lambda self: regular)
        with pytest.raises(Unavailable):
            TokenFile(short_dir / "t").token()

    assert vars(caplog.records[0])["fault"] == "it is not a regular file"


def test_the_longest_token_is_read_whole(volume: Volume, clock: Clock) -> None:
    volume.rotate("x" * (64 * 1024))

    assert len(TokenFile(volume.path).token().reveal()) == 64 * 1024


def test_a_refresh_looks_at_once_and_reads_no_more_than_once_a_second(
    volume: Volume, clock: Clock, reads: list[Path]
) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    tokens.token()
    volume.rotate("token-2")

    assert tokens.token() == Secret("token-1")
    assert tokens.refresh() == Secret("token-2")
    assert [tokens.refresh() for _ in range(100)] == [Secret("token-2")] * 100
    assert len(reads) == 2

    clock.now += 1
    tokens.refresh()
    assert len(reads) == 3


def test_threads_together_cause_one_read_and_none_waits_for_it(
    volume: Volume, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    tokens.token()
    volume.rotate("token-2")
    clock.now += 1
    real, reading, go_on = token_file._read, threading.Event(), threading.Event()
    opened: list[Path] = []

    def slow(path: Path) -> tuple[Secret, tuple[int, ...]]:
        opened.append(path)
        reading.set()
        assert go_on.wait(30)
        return real(path)

    monkeypatch.setattr(token_file, "_read", slow)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(tokens.token)
        assert reading.wait(30)
        others = [pool.submit(tokens.token) for _ in range(50)]
        assert {other.result(30) for other in others} == {Secret("token-1")}
        go_on.set()
        assert first.result(30) == Secret("token-2")

    assert len(opened) == 1
    assert tokens.token() == Secret("token-2")


def test_threads_that_all_need_the_first_token_cause_one_read(
    volume: Volume, clock: Clock, reads: list[Path]
) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    start = threading.Barrier(8)

    def use() -> Secret:
        start.wait(30)
        return tokens.token()

    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(use) for _ in range(8)]
        assert {each.result(30) for each in found} == {Secret("token-1")}

    assert len(reads) == 1


def test_a_reader_never_sees_anything_but_a_whole_token(volume: Volume) -> None:
    tokens = TokenFile(volume.path, reread_seconds=1e-9)
    wanted = {f"token-{turn}" * 500 for turn in range(200)}
    volume.rotate("token-0" * 500)
    done = threading.Event()

    def watch() -> set[str]:
        seen = set()
        while not done.is_set():
            seen.add(tokens.token().reveal())
        return seen

    with ThreadPoolExecutor(2) as pool:
        watchers = [pool.submit(watch) for _ in range(2)]
        for turn in range(200):
            volume.rotate(f"token-{turn}" * 500)
        done.set()
        assert {token for each in watchers for token in each.result(30)} <= wanted

    assert tokens.refresh() == Secret("token-199" * 500)


def test_no_token_is_shown(volume: Volume) -> None:
    volume.rotate(CANARY)
    tokens = TokenFile(volume.path)
    tokens.token()

    assert CANARY not in repr(tokens) + repr(tokens._held)
    assert str(volume.path) in repr(tokens)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="reread_seconds must be more than zero"):
        TokenFile("x", reread_seconds=seconds)


def test_the_module_loads_no_client() -> None:
    code = (
        "import sys, openshell_drivers.token_file, openshell_drivers.launch\n"
        "import openshell_drivers.naming, openshell_drivers.environment\n"
        "import openshell_drivers.quantities\n"
        "print(sorted({'grpc', 'httpx', 'google.protobuf', 'pydantic', 'asyncio', 'anyio'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert done.stdout == "[]\n"


async def _who(request: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
    sent = dict(context.invocation_metadata() or ()).get("authorization", "")
    return sent if isinstance(sent, bytes) else sent.encode()


@asynccontextmanager
async def calling(tokens: TokenFile) -> AsyncGenerator[Callable[[], Awaitable[bytes]]]:
    """A real gRPC server over TLS that answers with the authorization a call came with."""
    authority = trustme.CA()
    server_cert = authority.issue_cert("localhost")
    pair = (server_cert.private_key_pem.bytes(), server_cert.cert_chain_pems[0].bytes())
    server = aio.server()
    who: dict[str, Any] = {"Who": grpc.unary_unary_rpc_method_handler(_who)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", who),))
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(authority.cert_pem.bytes()), grpc_call_credentials(tokens)
    )
    async with aio.secure_channel(f"localhost:{port}", credentials) as channel:
        method: Any = channel.unary_unary("/t.T/Who")
        try:
            yield lambda: method(b"", timeout=30)
        finally:
            await server.stop(None)


async def test_a_grpc_call_carries_the_current_token(
    volume: Volume, clock: Clock, reads: list[Path]
) -> None:
    async with calling(TokenFile(volume.path, clock=clock)) as call:
        assert [await call() for _ in range(20)] == [b"Bearer token-1"] * 20
        volume.rotate("token-2")
        clock.now += 1
        assert [await call() for _ in range(20)] == [b"Bearer token-2"] * 20

    assert len(reads) == 2


async def test_a_grpc_call_without_a_token_is_unavailable_and_the_next_may_be_well(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "later"
    async with calling(TokenFile(path, clock=clock)) as call:
        with pytest.raises(aio.AioRpcError) as caught:
            await call()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert str(tmp_path) not in (caught.value.details() or "")
        assert {record.name for record in caplog.records} == {"openshell_drivers.token_file"}

        path.write_text("token-1")
        assert await call() == b"Bearer token-1"


class Backend(http.server.BaseHTTPRequestHandler):
    """A backend that knows some tokens."""

    good: ClassVar[set[str]] = set()
    seen: ClassVar[list[tuple[str, bytes]]] = []
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = b"".join(self._body())
        sent = self.headers.get("Authorization", "")
        self.seen.append((sent, body))
        self.send_response(200 if sent.removeprefix("Bearer ") in self.good else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Backend.good, Backend.seen = {"token-1"}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_the_headers_are_enough_for_the_standard_library(volume: Volume, url: str) -> None:
    headers = TokenFile(volume.path).headers()
    request = urllib.request.Request(url, data=b"x", headers=headers)

    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200
    assert Backend.seen == [("Bearer token-1", b"x")]


def test_an_http_request_carries_the_current_token(
    volume: Volume, clock: Clock, url: str, reads: list[Path]
) -> None:
    with httpx.Client(auth=http_auth(TokenFile(volume.path, clock=clock))) as client:
        assert [client.post(url).status_code for _ in range(20)] == [200] * 20

    assert len(reads) == 1
    assert [sent for sent, _ in Backend.seen] == ["Bearer token-1"] * 20


async def test_a_refused_token_that_was_rotated_is_tried_again_once(
    volume: Volume, clock: Clock, url: str
) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    tokens.token()
    volume.rotate("token-2")
    Backend.good = {"token-2"}
    async with httpx.AsyncClient(auth=http_auth(tokens)) as client:
        response = await client.post(url, content=b"body")

    assert response.status_code == 200
    assert Backend.seen == [("Bearer token-1", b"body"), ("Bearer token-2", b"body")]


async def test_a_refused_token_that_is_still_the_same_is_not_tried_again(
    volume: Volume, clock: Clock, url: str, reads: list[Path]
) -> None:
    Backend.good = set()
    async with httpx.AsyncClient(auth=http_auth(TokenFile(volume.path, clock=clock))) as client:
        assert [(await client.post(url)).status_code for _ in range(20)] == [401] * 20

    assert len(Backend.seen) == 20
    assert len(reads) == 1


async def test_a_second_refusal_is_the_answer(volume: Volume, clock: Clock, url: str) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    tokens.token()
    volume.rotate("token-2")
    Backend.good = set()
    async with httpx.AsyncClient(auth=http_auth(tokens)) as client:
        assert (await client.post(url)).status_code == 401

    assert [sent for sent, _ in Backend.seen] == ["Bearer token-1", "Bearer token-2"]


def test_a_body_that_is_a_stream_is_not_sent_twice(volume: Volume, clock: Clock, url: str) -> None:
    tokens = TokenFile(volume.path, clock=clock)
    tokens.token()
    volume.rotate("token-2")
    Backend.good = {"token-2"}
    with httpx.Client(auth=http_auth(tokens)) as client:
        assert client.post(url, content=iter([b"a", b"b"])).status_code == 401
        assert client.post(url, content=iter([b"a", b"b"])).status_code == 200

    assert Backend.seen == [("Bearer token-1", b"ab"), ("Bearer token-2", b"ab")]


def test_an_http_request_without_a_token_is_not_sent(tmp_path: Path, url: str) -> None:
    with (
        httpx.Client(auth=http_auth(TokenFile(tmp_path / "none"))) as client,
        pytest.raises(Unavailable),
    ):
        client.post(url)

    assert Backend.seen == []
