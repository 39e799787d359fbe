"""A loopback HTTP server that gives the answers no real identity provider gives.

An answer is chosen from the queue first, then by the request's path, then the default (a valid
token). `ODD_ANSWERS` has one path for each kind of misbehaviour, for tests to go through; more are
made with the functions here. Every request is recorded whole. The server runs in the event loop of
its test (``async with ScriptedEndpoint() as endpoint``) or in a thread of its own
(``with ScriptedEndpoint.in_thread() as endpoint``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

from tests.peers.processes import LOOPBACK

_MOST_BODY = 1 << 20
_REASONS = {200: "OK", 302: "Found", 307: "Temporary Redirect", 401: "Unauthorized"}


@dataclass(frozen=True)
class Recorded:
    """A request as it came in; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def form(self) -> dict[str, str]:
        """The body as a form."""
        return dict(parse_qsl(self.body.decode(errors="replace"), keep_blank_values=True))


class Exchange:
    """One request and the means to answer it."""

    def __init__(self, request: Recorded, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.writer = writer
        self.keep_open = request.headers.get("connection", "").lower() != "close"

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status line and the headers."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Scripted')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(
        self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole answer."""
        length = {"Content-Type": kind, "Content-Length": str(len(body))}
        await self.head(status, {**length, **(headers or {})})
        await self.send(body)

    def reset(self) -> None:
        """Drop the connection with a TCP reset instead of an orderly end."""
        linger = struct.pack("ii", 1, 0)
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()
        self.keep_open = False


Answer = Callable[[Exchange], Awaitable[None]]


async def hang(exchange: Exchange) -> None:
    """Read the request and never answer."""
    await asyncio.Event().wait()


async def never_read(exchange: Exchange) -> None:
    """Accept the connection and never read; only as the queue's head or the default."""
    await asyncio.Event().wait()


def redirect(location: str, status: int = 307) -> Answer:
    """Send the client elsewhere."""

    async def answer(exchange: Exchange) -> None:
        await exchange.reply(status, b"", "text/plain", {"Location": location})

    return answer


def echo_form(status: int = 401) -> Answer:
    """Refuse, giving back all that was received, secret included, in body and headers."""

    async def answer(exchange: Exchange) -> None:
        form = exchange.request.form
        shown = {"form": form, "authorization": exchange.request.headers.get("authorization", "")}
        text = json.dumps({"error": "invalid_client", "error_description": json.dumps(shown)})
        headers = {
            "WWW-Authenticate": f"Basic error_description={json.dumps(shown)}",
            **{f"X-Echo-{name}": json.dumps(value)[1:-1] for name, value in form.items()},
        }
        await exchange.reply(status, text.encode(), "application/json", headers)

    return answer


def raw(body: bytes, kind: str = "application/json", status: int = 200, **headers: str) -> Answer:
    """Answer with these bytes; a header's ``_`` stands for ``-``."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(exchange: Exchange) -> None:
        await exchange.reply(status, body, kind, sent)

    return answer


def document(value: object, status: int = 200, **headers: str) -> Answer:
    """Answer with a JSON document (NaN and infinities are written as Python does)."""
    return raw(json.dumps(value).encode(), status=status, **headers)


def token(access_token: object = "scripted-token", **fields: object) -> Answer:
    """Answer with a token for an hour; `fields` replace or add, ``...`` leaves one out."""
    whole = {"access_token": access_token, "token_type": "Bearer", "expires_in": 3600, **fields}
    return document({name: value for name, value in whole.items() if value is not ...})


def endless_chunks(chunk: bytes = b"x" * 65536) -> Answer:
    """Begin a chunked body that has no end."""

    async def answer(exchange: Exchange) -> None:
        headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        await exchange.head(200, headers)
        while True:
            await exchange.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await asyncio.sleep(0)

    return answer


def drip(body: bytes = b"", every: float = 0.1) -> Answer:
    """Send a valid token, or this body, one byte at a time."""
    data = body or json.dumps({"access_token": "drip", "expires_in": 60}).encode()

    async def answer(exchange: Exchange) -> None:
        length = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        await exchange.head(200, length)
        for number in range(len(data)):
            await exchange.send(data[number : number + 1])
            await asyncio.sleep(every)

    return answer


async def reset_mid_body(exchange: Exchange) -> None:
    """Promise a kilobyte, send a few bytes, reset the connection."""
    await exchange.head(200, {"Content-Type": "application/json", "Content-Length": "1024"})
    await exchange.send(b'{"access_token": "cut')
    exchange.reset()


async def close_at_once(exchange: Exchange) -> None:
    """Close the connection without an answer."""
    exchange.keep_open = False


def too_many(retry_after: str = "1") -> Answer:
    """Answer 429 with Retry-After."""
    return document({"error": "slow_down"}, 429, Retry_After=retry_after)


def _odd_lives() -> dict[str, Answer]:
    lives: dict[str, object] = {
        "missing": ...,
        "null": None,
        "zero": 0,
        "negative": -5,
        "string": "60",
        "garbage": "garbage",
        "fraction": 1.5,
        "huge": 1e30,
        "nan": float("nan"),
        "infinite": float("inf"),
        "true": True,
        "list": [60],
    }
    return {f"/expires-{name}": token(expires_in=life) for name, life in lives.items()}


ODD_ANSWERS: dict[str, Answer] = {
    "/hang": hang,
    "/redirect-307": redirect("http://127.0.0.2:9/elsewhere"),
    "/redirect-302": redirect("http://127.0.0.2:9/elsewhere", 302),
    "/echo": echo_form(),
    "/megabyte-500": raw(b"e" * (1 << 20), "text/plain", 500),
    "/megabyte-200": raw(b" " * (1 << 20) + b"{}"),
    "/unavailable": raw(b"down for maintenance", "text/html", 503),
    "/endless": endless_chunks(),
    "/not-json": raw(b"<html>welcome</html>", "text/html"),
    "/cut-json": raw(b'{"access_token": "cut'),
    "/not-utf8": raw(b'{"access_token": "\xff\xfe"}'),
    "/empty-body": raw(b""),
    "/deep-json": raw(b"[" * 100_000),
    "/list": document(["access_token"]),
    "/json-string": document("access_token"),
    "/token-missing": token(...),
    "/token-empty": token(""),
    "/token-null": token(None),
    "/token-number": token(12345),
    "/token-newline": token("two\r\nlines"),
    "/type-missing": token(token_type=...),
    "/type-odd": token(token_type="mac"),
    "/type-number": token(token_type=7),
    "/type-lower": token(token_type="bearer"),
    "/drip": drip(),
    "/reset": reset_mid_body,
    "/close": close_at_once,
    "/too-many": too_many(),
    "/too-many-long": too_many("86400"),
    "/ok": token(),
    **_odd_lives(),
}


class ScriptedEndpoint:
    """The server; an async context manager. `port` 0 takes a free one."""

    def __init__(self, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.routes: dict[str, Answer] = dict(ODD_ANSWERS)
        self.default: Answer = token()
        self.requests: list[Recorded] = []
        self.connections = 0
        self._tls = tls
        self._queue: deque[Answer] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """The address without a path."""
        return f"{'https' if self._tls else 'http'}://{LOOPBACK}:{self.port}"

    @property
    def count(self) -> int:
        """How many requests were received whole."""
        return len(self.requests)

    def url(self, path: str = "/token") -> str:
        """Return the address of a path."""
        return self.base_url + path

    def queue(self, *answers: Answer) -> None:
        """Give these answers to the next requests, whatever their path."""
        self._queue.extend(answers)

    async def start(self) -> None:
        """Listen on loopback."""
        self._server = await asyncio.start_server(
            self._connected, LOOPBACK, self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, drop every connection, and return when nothing of it is left."""
        if self._server is None:
            return
        self._server.close()
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @classmethod
    @contextlib.contextmanager
    def in_thread(cls, **options: Any) -> Iterator[Self]:
        """Serve from a thread with an event loop of its own."""
        endpoint = cls(**options)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="scripted-endpoint")
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(endpoint.start(), loop).result(10)
            yield endpoint
        finally:
            asyncio.run_coroutine_threadsafe(endpoint.stop(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that went away, or whose answer was to be cut off, needs to be told nothing.
        gone = (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)
        try:
            with contextlib.suppress(*gone):
                if self._next_is_never_read():
                    writer.transport.pause_reading()  # type: ignore[attr-defined]
                    await asyncio.Event().wait()
                await self._converse(reader, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()
            with contextlib.suppress(*gone):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await _read_request(reader):
            self.requests.append(request)
            exchange = Exchange(request, writer)
            await self._choose(request)(exchange)
            if not exchange.keep_open:
                return

    def _next_is_never_read(self) -> bool:
        if self._queue:
            if self._queue[0] is not never_read:
                return False
            self._queue.popleft()
            return True
        return self.default is never_read

    def _choose(self, request: Recorded) -> Answer:
        if self._queue:
            return self._queue.popleft()
        return self.routes.get(request.path.partition("?")[0], self.default)


async def _read_request(reader: asyncio.StreamReader) -> Recorded | None:
    """Return the next request, None where the client has closed the connection instead."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    method, path, _version = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = int(headers.get("content-length", "0"))
    if length > _MOST_BODY:
        raise ConnectionError(f"a request body of {length} bytes")
    return Recorded(method, path, headers, await reader.readexactly(length))
