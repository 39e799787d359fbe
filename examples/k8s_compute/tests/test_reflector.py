"""What no real API server does on demand: garbage, silence, errors in a watch, 410 anywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from openshell_compute_k8s import _reflector, _transport
from openshell_compute_k8s._api import Api
from openshell_compute_k8s._objects import Object
from openshell_compute_k8s._reflector import Reflector

from openshell_drivers import DriverError

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


class Told:
    """A sink that writes down what it is told."""

    reflector: Reflector[Object]

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.news = anyio.Event()

    def _tell(self, line: str) -> None:
        self.lines.append(line)
        self.news.set()
        self.news = anyio.Event()

    def listing(self) -> None:
        """Take no notice."""

    def replaced(self, objects: Sequence[Object]) -> None:
        self._tell("replaced " + ",".join(each.metadata.name for each in objects))

    def changed(self, item: Object) -> None:
        self._tell(f"changed {item.metadata.name}")

    def deleted(self, item: Object) -> None:
        self._tell(f"deleted {item.metadata.name}")

    def lost(self, problem: DriverError) -> None:
        self._tell(f"lost {problem.message}")

    def resumed(self) -> None:
        self._tell("resumed")

    def ended(self) -> None:
        self._tell("ended")

    async def until(self, line: str, times: int = 1) -> None:
        """Wait until it was told so many times."""
        with anyio.fail_after(20):
            while sum(line in each for each in self.lines) < times:
                await self.news.wait()


def item(name: str, version: int) -> dict[str, Any]:
    """An object."""
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def listed(*names: str, version: int = 10) -> bytes:
    """A whole list."""
    items = [item(name, number) for number, name in enumerate(names)]
    return json.dumps({"metadata": {"resourceVersion": str(version)}, "items": items}).encode()


def event(kind: str, thing: dict[str, Any]) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


async def send(writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK") -> None:
    """Answer, and close."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def stream(writer: asyncio.StreamWriter, *lines: bytes) -> None:
    """Begin a watch; it ends when the connection does."""
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"".join(lines))
    await writer.drain()


@asynccontextmanager
async def following(
    *answers: Answer, optional: bool = False
) -> AsyncIterator[tuple[Told, list[str]]]:
    """Follow a server that gives these answers in turn, the last one again and again."""
    told, asked = Told(), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode()
        asked.append(line)
        try:
            await answers[min(len(asked), len(answers)) - 1](line, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}")
    api = Api(client, namespace="a", request_timeout=5, connect_timeout=2, token_file=None)
    async with server, client, anyio.create_task_group() as tasks:
        told.reflector = Reflector(api, "/things", Object, {}, told, optional=optional)

        async def follow() -> None:
            await told.reflector.run()
            told.ended()

        tasks.start_soon(follow)
        yield told, asked
        tasks.cancel_scope.cancel()


async def forever(line: str, writer: asyncio.StreamWriter) -> None:
    """A watch without news."""
    await stream(writer)
    await anyio.sleep(60)


def answering(body: bytes, status: str = "200 OK") -> Answer:
    """Give this answer."""
    return lambda line, writer: send(writer, body, status)


def streaming(*lines: bytes) -> Answer:
    """Give these lines, and end."""
    return lambda line, writer: stream(writer, *lines)


async def test_bookmarks_move_the_place_to_resume_from() -> None:
    watch = streaming(event("ADDED", item("b", 11)), event("BOOKMARK", item("", 25)))
    async with following(answering(listed("a")), watch, forever) as (told, asked):
        await told.until("resumed", 2)
        assert told.lines == ["replaced a", "resumed", "changed b", "resumed"]
        assert "resourceVersion=10" in asked[1]
        assert "allowWatchBookmarks=true" in asked[1]
        assert "resourceVersion=25" in asked[2]


async def test_410_in_a_watch_lists_anew_and_says_nothing_of_an_outage() -> None:
    gone = event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"})
    answers = (answering(listed("a", "b")), streaming(gone), answering(listed("b")), forever)
    async with following(*answers) as (told, _):
        await told.until("resumed", 2)
        assert told.lines == ["replaced a,b", "resumed", "replaced b", "resumed"]


async def test_410_at_the_opening_of_a_watch_lists_anew() -> None:
    gone = answering(b'{"code": 410, "reason": "Gone"}', "410 Gone")
    answers = (answering(listed("a")), gone, answering(listed()), forever)
    async with following(*answers) as (told, _):
        await told.until("resumed")
        assert told.lines == ["replaced a", "replaced ", "resumed"]


async def test_a_list_in_parts_is_one_list() -> None:
    first = b'{"metadata": {"resourceVersion": "5", "continue": "x"}, "items": [{"metadata": {}}]}'
    async with following(answering(first), answering(listed("b")), forever) as (told, asked):
        await told.until("resumed")
        assert told.lines == ["replaced ,b", "resumed"]
        assert "continue=x" in asked[1]


async def test_a_list_that_breaks_off_is_no_list() -> None:
    broken: Answer = lambda line, writer: stream(writer, b'{"items": [{"metadata": {"name": "a"')  # noqa: E731
    async with following(broken, answering(listed("a")), forever) as (told, _):
        await told.until("resumed")
        assert told.lines[0].startswith("lost the API server's answer cannot be read")
        assert told.lines[-2:] == ["replaced a", "resumed"]


async def test_garbage_in_a_watch_is_an_outage_and_ends_in_a_new_list() -> None:
    answers = (answering(listed("a")), streaming(b"{nonsense\n"), answering(listed("b")), forever)
    async with following(*answers) as (told, _):
        await told.until("resumed", 2)
        assert told.lines == [
            "replaced a",
            "resumed",
            "lost the API server's watch cannot be read",
            "replaced b",
            "resumed",
        ]


async def test_a_refused_watch_is_an_outage() -> None:
    why = b'{"code": 403, "message": "canary cannot watch resource \\"things\\" in API group"}'
    denied = answering(why, "403 Forbidden")
    async with following(answering(listed("a")), denied) as (told, _):
        await told.until("lost", 2)
        assert told.lines[1] == (
            "lost could not watch: the driver's account may not watch things (RBAC)"
        )


async def test_silence_is_an_outage_when_the_next_try_is_silent_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_reflector, "_SILENCE", 0.2)
    async with following(answering(listed("a")), forever) as (told, _):
        await told.until("lost the API server has fallen silent")
        assert told.lines[:2] == ["replaced a", "resumed"]


async def test_a_resource_that_is_not_served_any_more_ends_it() -> None:
    answers = (answering(listed("a")), answering(b'{"code": 404}', "404 Not Found"))
    async with following(*answers) as (told, _):
        await told.until("ended")
        assert told.lines == ["replaced a", "ended"]


async def test_an_order_lists_anew_at_once_and_is_no_outage() -> None:
    answers = (answering(listed("a")), forever, answering(listed("b")), forever)
    async with following(*answers) as (told, _):
        await told.until("resumed")
        told.reflector.relist()
        await told.until("resumed", 2)
        assert told.lines == ["replaced a", "resumed", "replaced b", "resumed"]


async def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_transport, "_LARGEST", 200)
    answers = (answering(listed(*"abcdefghij")), answering(listed("a")), forever)
    async with following(*answers) as (told, asked):
        await told.until("resumed")
        assert told.lines == ["replaced a", "resumed"]
        assert ["limit=250" in asked[0], "limit=62" in asked[1]] == [True, True]


async def test_what_is_optional_goes_on_though_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_reflector, "_REFUSED", 0.01)
    missing = answering(b'{"code": 404}', "404 Not Found")
    answers = (missing, answering(listed("a")), forever)
    async with following(*answers, optional=True) as (told, _):
        await told.until("resumed")
        assert told.lines == ["lost could not watch: it is not there", "replaced a", "resumed"]
