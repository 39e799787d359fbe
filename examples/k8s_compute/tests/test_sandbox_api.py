"""Sandbox resources at a server that loses answers, and gives some that are not about them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import httpx2
import pytest
from openshell_compute_k8s import KubernetesConfig
from openshell_compute_k8s._api import Api
from openshell_compute_k8s._failures import ApiRefusal
from openshell_compute_k8s._holder import Holder
from openshell_compute_k8s._objects import Metadata
from openshell_compute_k8s._sandbox_api import SandboxApi
from openshell_compute_k8s._strays import Strays

from openshell_drivers import Aborted, AlreadyExists, CreateScope, NotFound, Unavailable

BODY: dict[str, Any] = {
    "metadata": {"name": "w--one", "annotations": {"openshell.ai/create": "this"}}
}
SCOPE = CreateScope("one", lambda event: None, set())
TAKEN = {"code": 409, "reason": "AlreadyExists"}
bodies: list[str] = []
"""What the last server was sent, beside its versions."""
LOST = None
"""No answer at all: the connection ends."""


def made(sandbox_id: str, by: str = "another", **about: Any) -> dict[str, Any]:
    """A resource that is there."""
    notes = {"openshell.ai/sandbox-id": sandbox_id, "openshell.ai/create": by}
    return {"metadata": {"name": "w--one", "uid": sandbox_id, "annotations": notes, **about}}


@asynccontextmanager
async def sandboxes(
    *answers: dict[str, Any] | None, version: str = "v1beta1", strays: Strays | None = None
) -> AsyncIterator[tuple[SandboxApi, list[str]]]:
    """Give the API of a server that says which versions there are, and then this, in turn."""
    asked: list[str] = []
    bodies.clear()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = next(
            (int(line.split(":")[1]) for line in head.lower().split("\r\n") if "length" in line), 0
        )
        sent = (await reader.readexactly(size)).decode()
        if "/apis/agents.x-k8s.io HTTP" in head:
            answer: dict[str, Any] | None = {"versions": [{"version": version}]}
        else:
            asked.append(head.split()[0])
            bodies.append(sent)
            answer = answers[len(asked) - 1]
        if answer is not None:
            body = json.dumps(answer).encode()
            line = f"HTTP/1.1 {answer.get('code', 200)} X\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{line}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}")
    api = Api(client, namespace="a", request_timeout=5, connect_timeout=2, token_file=None)
    async with server, client:
        strays = strays or Strays(longest=60)
        yield SandboxApi(api, KubernetesConfig(), strays, namespace="a"), asked


async def test_what_a_lost_answer_was_about_is_found_by_the_second_try() -> None:
    async with sandboxes(LOST, TAKEN, made("one", by="this")) as (api, asked):
        assert (await api.create("a", BODY, "one", SCOPE)).metadata.uid == "one"
        assert asked == ["POST", "POST", "GET"]


@pytest.mark.parametrize("first", [(), (LOST,)])
async def test_what_another_call_has_made_for_the_id_stays(first: tuple[None, ...]) -> None:
    async with sandboxes(*first, TAKEN, made("one")) as (api, _):
        with pytest.raises(AlreadyExists):
            await api.create("a", BODY, "one", SCOPE)


@pytest.mark.parametrize("first", [(), (LOST,)])
async def test_anothers_is_never_taken_for_ones_own(first: tuple[None, ...]) -> None:
    async with sandboxes(*first, TAKEN, made("other")) as (api, _):
        with pytest.raises(ApiRefusal) as refused:
            await api.create("a", BODY, "one", SCOPE)
        assert refused.value.already_exists


async def test_what_is_unfinished_or_going_makes_room() -> None:
    unfinished = made("one", labels={"openshell.ai/unfinished": "true"})
    going = made("one", deletionTimestamp="2026-11-22T10:00:00Z")
    answers: tuple[dict[str, Any], ...]
    answers = (TAKEN, unfinished, {}, TAKEN, going, TAKEN, {"code": 404}, made("one"))
    async with sandboxes(*answers) as (api, asked):
        assert (await api.create("a", BODY, "one", SCOPE)).metadata.uid == "one"
        assert asked == ["POST", "GET", "DELETE", "POST", "GET", "POST", "GET", "POST"]


async def test_what_a_dead_driver_left_makes_room_for_anybody() -> None:
    """Its name is free for another sandbox, too; that of a create that lives is not."""
    dead = Holder(**{**asdict(Holder.this()), "pid": "4194305"}).write()
    for holder, free in ((dead, True), (Holder.this().write(), False)):
        left = made("other", labels={"openshell.ai/unfinished": "true"})
        left["metadata"]["annotations"]["openshell.ai/creating"] = holder
        async with sandboxes(TAKEN, left, {}, made("one")) as (api, asked):
            if free:
                assert (await api.create("a", BODY, "one", SCOPE)).metadata.uid == "one"
                assert asked == ["POST", "GET", "DELETE", "POST"]
            else:
                with pytest.raises(ApiRefusal):
                    await api.create("a", BODY, "one", SCOPE)
                assert asked == ["POST", "GET"]


async def test_what_a_failed_create_of_this_driver_left_makes_room() -> None:
    strays = Strays(longest=60)
    strays.disown("first")
    async with sandboxes(TAKEN, made("one", by="first"), {}, made("one"), strays=strays) as (
        api,
        asked,
    ):
        assert (await api.create("a", BODY, "one", SCOPE)).metadata.uid == "one"
        assert asked == ["POST", "GET", "DELETE", "POST"]


THIS = Metadata(name="w--one", namespace="a", uid="one")
NOT_SERVED = {"code": 404, "reason": "NotFound", "details": {}}
GONE = {"code": 404, "reason": "NotFound", "details": {"name": "w--one", "kind": "sandboxes"}}


async def test_only_a_404_about_the_sandbox_says_that_it_is_gone() -> None:
    async with sandboxes(NOT_SERVED, NOT_SERVED, NOT_SERVED, GONE, GONE) as (api, _):
        with pytest.raises(Unavailable, match="does not serve sandboxes now"):
            await api.run(THIS, wanted=False)
        with pytest.raises(Unavailable, match="does not serve sandboxes now"):
            await api.delete(THIS)
        with pytest.raises(Unavailable, match="does not serve sandboxes now"):
            await api.of_id("one")
        with pytest.raises(NotFound):
            await api.run(THIS, wanted=False)
        await api.delete(THIS)


@pytest.mark.parametrize(
    ("version", "said"),
    [("v1beta1", '{"operatingMode":"Suspended"}'), ("v1alpha1", '{"replicas":0}')],
)
async def test_a_stop_is_written_in_the_version_that_is_served_now(version: str, said: str) -> None:
    async with sandboxes(made("one"), made("one"), version=version) as (api, _):
        await api.run(THIS, wanted=False)
        api.forget_version()
        await api.run(THIS, wanted=False)
        assert [said in body for body in bodies] == [True, True]


LEFT = made("one", labels={"openshell.ai/unfinished": "true"}, resourceVersion="5")
LATER = made("one", labels={"openshell.ai/unfinished": "true"}, resourceVersion="7")
CHANGED = {"code": 409, "reason": "Conflict", "message": "the ResourceVersion in the precondition"}


def as_seen(item: dict[str, Any]) -> Metadata:
    """What was seen of an object some time ago."""
    about = item["metadata"]
    labels, notes = about.get("labels", {}), about["annotations"]
    return Metadata(name="w--one", namespace="a", uid="one", labels=labels, annotations=notes)


async def test_what_was_left_unfinished_is_looked_at_before_it_is_removed() -> None:
    """It may have been finished, and its gateway been told so, where nobody could see it."""
    async with sandboxes(LATER, {}) as (api, asked):
        await api.delete_left(as_seen(LEFT))
        assert asked == ["GET", "DELETE"]
        guard = json.loads(bodies[1])["preconditions"]
        assert guard == {"uid": "one", "resourceVersion": "7"}
    for now in (made("one"), made("another", labels={"openshell.ai/unfinished": "true"}), GONE):
        async with sandboxes(now) as (api, asked):
            await api.delete_left(as_seen(LEFT))
            assert asked == ["GET"]


async def test_what_changes_while_it_is_removed_stays() -> None:
    async with sandboxes(LATER, CHANGED) as (api, asked):
        with pytest.raises(Aborted, match="has changed"):
            await api.delete_left(as_seen(LEFT))
        assert asked == ["GET", "DELETE"]
    async with sandboxes(TAKEN, LATER, CHANGED, TAKEN, made("one")) as (api, asked):
        with pytest.raises(AlreadyExists):
            await api.create("a", BODY, "one", SCOPE)
        assert asked == ["POST", "GET", "DELETE", "POST", "GET"]


async def test_what_a_failed_create_made_is_removed_however_it_changes() -> None:
    async with sandboxes({}) as (api, asked):
        await api.delete_left(as_seen(made("one")))
        assert asked == ["DELETE"]
        assert json.loads(bodies[0])["preconditions"] == {"uid": "one"}
