"""Secrets and configurations that change under a running driver."""

from __future__ import annotations

import logging

import anyio
import pytest

from examples.keycloak_credentials.tests.world import World, failure, resolve, until
from openshell_drivers import DriverError, FailedPrecondition, NotFound, Unavailable
from tests.peers.scripted import Answer, Exchange, ScriptedEndpoint, document, token


def guarded(accepted: set[str]) -> Answer:
    """Give a token named like the secret it was got with, if the secret is an accepted one."""

    async def answer(exchange: Exchange) -> None:
        secret = exchange.request.form["client_secret"]
        found = token(f"token-of-{secret}")
        refused = document({"error": "invalid_client"}, 401)
        await (found if secret in accepted else refused)(exchange)

    return answer


async def test_changed_secret_is_used_without_a_restart_and_without_a_failed_call(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    accepted = {"old"}
    endpoint.default = guarded(accepted)
    settings = world.post(endpoint.url(), secret="old")
    async with world.driver(one=settings) as driver:
        first = await resolve(driver)
        accepted.clear()
        accepted.add("new")
        between = await resolve(driver)  # the file still has the old one
        world.write(settings["client_secret_ref"], "new")
        after = await resolve(driver)

    shown = [each.token.reveal() for each in (first, between, after)]
    assert shown == ["token-of-old", "token-of-old", "token-of-new"]


async def test_token_in_hand_stays_in_use_while_the_new_secret_does_not_work_yet(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    endpoint.default = guarded({"old"})
    settings = world.post(endpoint.url(), secret="old")
    async with world.driver(one=settings) as driver:
        await resolve(driver)
        world.write(settings["client_secret_ref"], "not accepted yet")
        answers = [await resolve(driver) for _ in range(5)]

    assert {each.token.reveal() for each in answers} == {"token-of-old"}
    assert endpoint.count == 2  # one attempt, not one for each call


@pytest.mark.parametrize("content", ["", None])
async def test_token_in_hand_stays_in_use_while_the_file_is_unusable(
    world: World, endpoint: ScriptedEndpoint, content: str | None
) -> None:
    settings = world.post(endpoint.url())
    async with world.driver(one=settings) as driver:
        first = await resolve(driver)
        if content is None:
            (world.secrets_dir / settings["client_secret_ref"]).unlink()
        else:
            world.write(settings["client_secret_ref"], content)
        assert await resolve(driver) == first

    assert endpoint.count == 1


async def test_file_touched_with_the_same_secret_costs_no_request(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    settings = world.post(endpoint.url(), secret="same")
    async with world.driver(one=settings) as driver:
        await resolve(driver)
        world.write(settings["client_secret_ref"], "same\n")
        await resolve(driver)

    assert endpoint.count == 1


async def test_secret_that_changes_during_the_request_is_tried_exactly_once_more(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    settings = world.post(endpoint.url(), secret="old")

    async def swap_and_refuse(exchange: Exchange) -> None:
        world.write(settings["client_secret_ref"], f"new-{endpoint.count}")
        await document({"error": "invalid_client"}, 401)(exchange)

    endpoint.default = swap_and_refuse
    async with world.driver(one=settings) as driver:
        error = await failure(driver)

    assert type(error) is FailedPrecondition
    assert [each.form["client_secret"] for each in endpoint.requests] == ["old", "new-1"]


async def test_swap_during_the_request_gives_a_token_and_no_failed_call(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    settings = world.post(endpoint.url(), secret="old")

    async def swap_and_refuse(exchange: Exchange) -> None:
        world.write(settings["client_secret_ref"], "new")
        await document({"error": "invalid_client"}, 401)(exchange)

    endpoint.queue(swap_and_refuse)
    endpoint.default = guarded({"new"})
    async with world.driver(one=settings) as driver:
        assert (await resolve(driver)).token.reveal() == "token-of-new"


async def test_refused_client_with_an_unchanged_secret_is_not_tried_again(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    endpoint.default = guarded(set())
    async with world.driver(one=world.post(endpoint.url())) as driver:
        for _ in range(10):
            assert type(await failure(driver)) is FailedPrecondition

    assert endpoint.count == 1


async def test_bad_secret_file_stops_only_its_own_name_and_is_logged_once(
    world: World, endpoint: ScriptedEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "openshell_credentials_keycloak")
    bad = {**world.post(endpoint.url()), "client_secret_ref": "missing"}
    async with world.driver(bad=bad, good=world.post(endpoint.url())) as driver:
        await resolve(driver, "good")
        errors = [await failure(driver, "bad") for _ in range(3)]

    told = [r for r in caplog.records if r.name == "openshell_credentials_keycloak"]
    assert {type(error) for error in errors} == {FailedPrecondition}
    assert all("'bad'" in error.message for error in errors)
    assert [getattr(record, "credential", None) for record in told] == ["bad"]


async def test_mended_secret_file_works_at_the_next_call(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    settings = {**world.post(endpoint.url()), "client_secret_ref": "late"}
    async with world.driver(one=settings) as driver:
        await failure(driver)
        world.write("late", "here now")
        await resolve(driver)


async def test_secret_file_that_comes_back_unchanged_ends_the_pause_after_a_failure(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    settings = world.post(endpoint.url(), secret="same")
    file = world.secrets_dir / settings["client_secret_ref"]
    async with world.driver(one=settings) as driver:
        await resolve(driver)
        driver._tokens.forget("one")
        file.unlink()
        assert type(await failure(driver)) is FailedPrecondition
        world.write(file.name, "same")
        await resolve(driver)

    assert endpoint.count == 2


async def test_change_is_seen_once_however_many_call(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    settings = world.post(endpoint.url())
    async with world.driver(one=settings) as driver:
        await resolve(driver)
        world.write(settings["client_secret_ref"], "new")
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(resolve, driver)
        await until(lambda: endpoint.count >= 2)

    assert endpoint.count <= 3  # calls that raced for the change may start a fetch twice


async def test_reload_keeps_forgets_adds_and_removes(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    same, other = world.post(endpoint.url("/ok")), world.post(endpoint.url("/ok"))
    async with world.driver(same=same, other=other, gone=same) as driver:
        for name in ("same", "other", "gone"):
            await resolve(driver, name)
        before = endpoint.count
        changed = {**other, "scopes": ["repo"]}
        await driver.reload(world.config({"same": same, "other": changed, "new": same}))
        await resolve(driver, "same")
        kept = endpoint.count
        await resolve(driver, "other")
        await resolve(driver, "new")
        gone = await failure(driver, "gone")
        listed = await driver.list_credentials()

    assert (before, kept, endpoint.count) == (3, 3, 5)
    assert endpoint.requests[3].form["scope"] == "repo"
    assert type(gone) is NotFound
    assert [(each.name, each.scopes) for each in listed] == [
        ("new", ()),
        ("other", ("repo",)),
        ("same", ()),
    ]


async def test_reload_with_another_secrets_dir_forgets_all(
    world: World, endpoint: ScriptedEndpoint, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = World(tmp_path_factory.mktemp("elsewhere"))
    settings = world.post(endpoint.url(), secret="here")
    elsewhere.write(settings["client_secret_ref"], "there")
    async with world.driver(one=settings) as driver:
        await resolve(driver)
        await driver.reload(elsewhere.config({"one": settings}))
        await resolve(driver)

    assert [each.form["client_secret"] for each in endpoint.requests] == ["here", "there"]


async def test_list_works_with_the_issuer_down_and_asks_nobody(world: World) -> None:
    settings = world.post("http://127.0.0.1:9/token", scopes=["b", "a"])
    async with world.driver(zeta=settings, alpha=settings) as driver:
        listed = await driver.list_credentials()

    assert [(each.name, each.scopes) for each in listed] == [
        ("alpha", ("b", "a")),
        ("zeta", ("b", "a")),
    ]


async def test_unknown_name_is_not_found(world: World, endpoint: ScriptedEndpoint) -> None:
    async with world.driver(one=world.post(endpoint.url())) as driver:
        assert type(await failure(driver, "two")) is NotFound


async def test_driver_that_is_not_running_is_unavailable(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    async with world.driver(one=world.post(endpoint.url())) as driver:
        pass

    assert type(await failure(driver)) is Unavailable


async def test_missing_secrets_dir_stops_no_start(world: World, endpoint: ScriptedEndpoint) -> None:
    settings = world.post(endpoint.url(), secret="here")
    moved = world.secrets_dir.rename(world.folder / "away")
    async with world.driver(one=settings) as driver:
        assert type(await failure(driver)) is FailedPrecondition
        moved.rename(world.secrets_dir)
        await resolve(driver)


async def test_reload_while_a_fetch_is_under_way_loses_no_caller(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    settings, removed = world.post(endpoint.url()), world.post(endpoint.url("/hang"))
    gone: list[DriverError] = []

    async def ask() -> None:
        gone.append(await failure(driver, "gone"))

    found = {"one": settings, "gone": {**removed, "timeout": 1}}
    async with world.driver(**found) as driver, anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await until(lambda: endpoint.count == 1)
        await driver.reload(world.config({"one": settings}))
        await resolve(driver)

    assert len(gone) == 1
