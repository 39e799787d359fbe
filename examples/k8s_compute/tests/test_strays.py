"""A create that failed leaves nothing, even if the API server carries its request out later."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio
import pytest
from openshell_compute_k8s._api import Api, Interrupted
from openshell_compute_k8s._holder import Holder
from openshell_compute_k8s._names import ATTEMPT, HOLDER, UNFINISHED
from openshell_compute_k8s._objects import Metadata
from openshell_compute_k8s._strays import Strays

from examples.k8s_compute.tests.world import World, eventually
from openshell_drivers import CreateScope, SandboxSpec, Unavailable
from tests.fakes.compute import Gate

ONE = SandboxSpec(id="one", name="one", workspace="default")


def is_sandbox_post(asked: tuple[Any, ...]) -> bool:
    method, path = asked[:2]
    return method == "POST" and str(path).endswith("/sandboxes")


@pytest.mark.kube
async def test_a_request_that_takes_effect_after_its_create_has_failed_is_undone(
    world: World, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[tuple[str, dict[str, Any]]] = []
    call = Api.call

    async def without_answer(self: Api, *asked: Any, **more: Any) -> Any:
        if is_sandbox_post(asked):
            late.append((asked[1], more["body"]))
            raise Interrupted("the connection to the API server broke")
        return await call(self, *asked, **more)

    monkeypatch.setattr(Api, "call", without_answer)
    async with world.caller(socket_path) as caller:
        with pytest.raises(Unavailable, match="connection to the API server broke"):
            await caller.compute.create_sandbox(ONE)
        (path, body), *_ = late
        uid = world.kube.api("POST", path, body)["metadata"]["uid"]
        assert await eventually(
            lambda: all(uid != each["metadata"]["uid"] for each in world.sandboxes())
        )
        assert await caller.compute.list_sandboxes() == ()


@pytest.mark.kube
async def test_a_create_cancelled_while_its_request_is_on_the_way_leaves_nothing(
    world: World, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is finished first, so that the undoing finds what it has made."""
    gate = Gate()
    call = Api.call

    async def on_the_way(self: Api, *asked: Any, **more: Any) -> Any:
        if not is_sandbox_post(asked):
            return await call(self, *asked, **more)

        async def arrive() -> Any:  # goes on at the server, whoever waits for it
            await gate.opened.wait()
            return await call(self, *asked, **more)

        gate.reached.set()
        return await asyncio.shield(asyncio.ensure_future(arrive()))

    monkeypatch.setattr(Api, "call", on_the_way)
    given_up, ended = anyio.CancelScope(), anyio.Event()
    async with world.serving(socket_path) as driver, anyio.create_task_group() as tasks:

        async def create() -> None:
            with given_up:
                await driver.create_sandbox(ONE, CreateScope("one", lambda event: None, set()))
            ended.set()

        tasks.start_soon(create)
        await gate.reached.wait()
        given_up.cancel()
        await anyio.wait_all_tasks_blocked()
        assert not ended.is_set()
        gate.opened.set()
        await ended.wait()
        assert given_up.cancelled_caught
        assert await driver.delete_sandbox(ONE.ref)  # as the SDK does
        assert await eventually(lambda: world.sandboxes() == [])


async def test_a_removal_that_fails_is_tried_again() -> None:
    strays, tries = Strays(longest=60), list[str]()

    async def remove(about: Metadata) -> None:
        tries.append(about.uid)
        if len(tries) < 3:
            raise Unavailable("not now")
        tasks.cancel_scope.cancel()

    stray = Metadata(name="w--one", uid="a", annotations={ATTEMPT: "this"})
    assert not strays.take(stray)
    strays.disown("this")
    assert strays.take(stray)
    going = Metadata(name="w--two", uid="b", annotations={ATTEMPT: "this"}, deletion_timestamp="x")
    assert strays.take(going)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(strays.removing, remove)
    assert tries == ["a", "a", "a"]


def unfinished(uid: str, holder: str = "", **about: Any) -> Metadata:
    """What a create with launch authentication has begun."""
    notes = {ATTEMPT: uid, HOLDER: holder}
    return Metadata(name=uid, uid=uid, labels={UNFINISHED: "true"}, annotations=notes, **about)


ELSEWHERE = Holder("elsewhere", "b", "n", "1", "1").write()
DEAD = Holder(**{**asdict(Holder.this()), "pid": "4194305"}).write()


async def removed(strays: Strays) -> list[str]:
    """What is removed now."""
    gone: list[str] = []

    async def remove(about: Metadata) -> None:
        gone.append(about.uid)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(strays.removing, remove)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    return gone


async def test_unfinished_is_no_sandbox_and_stays_while_somebody_may_be_at_it() -> None:
    strays = Strays(longest=60)
    for uid, holder in (("a", ELSEWHERE), ("b", Holder.this().write()), ("c", "odd")):
        assert strays.take(unfinished(uid, holder))
    assert await removed(strays) == []
    assert strays.take(unfinished("d", DEAD))
    assert await removed(strays) == ["d"]


async def test_unfinished_for_longer_than_a_create_takes_is_left() -> None:
    strays = Strays(longest=-1)
    assert strays.take(unfinished("a", ELSEWHERE))
    assert strays.is_left(unfinished("a", ELSEWHERE))
    assert await removed(strays) == ["a"]


async def test_an_unfinished_object_of_a_create_that_fails_is_removed_at_once() -> None:
    strays = Strays(longest=60)
    strays.take(unfinished("a", Holder.this().write()))
    strays.disown("a")
    assert await removed(strays) == ["a"]


async def test_what_is_finished_or_gone_is_forgotten() -> None:
    strays = Strays(longest=60)
    for uid in "abcd":
        strays.take(unfinished(uid, ELSEWHERE))
    assert not strays.take(Metadata(name="a", uid="a", annotations={ATTEMPT: "a"}))
    strays.gone("b")
    strays.keep_only({"c"})
    strays.disown("c")
    strays.take(unfinished("c", deletion_timestamp="2026-11-22T10:00:00Z"))
    for uid in "bd":
        strays.disown(uid)
    assert await removed(strays) == []
    assert list(strays._unfinished) == ["c"]
