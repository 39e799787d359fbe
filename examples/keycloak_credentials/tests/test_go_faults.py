"""The faults of the Go driver of the same name, each a rule here, seen through a real socket."""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from openshell_credentials_keycloak import KeycloakDriver

from examples.keycloak_credentials.tests.world import Settings, World, canary, until
from openshell_drivers import DriverError, SocketError
from openshell_drivers.client import Connection, connect
from openshell_drivers.server import running
from tests.peers.scripted import ScriptedEndpoint, echo_form, hang, raw, redirect, token


@asynccontextmanager
async def served(world: World, **credentials: Settings) -> AsyncIterator[Connection]:
    """Serve a driver and dial it."""
    driver = KeycloakDriver(world.config(credentials))
    socket = world.folder / "d.sock"
    async with running(driver, socket=socket) as server, connect(socket) as connection:
        yield connection
        server.hurry()


async def status(connection: Connection, name: str) -> tuple[str, str]:
    """Give code and message of the error that a name is answered with."""
    with pytest.raises(DriverError) as caught:
        await connection.credentials.resolve_credential(name)
    return caught.value.code, caught.value.message


async def test_token_arrives_whole(world: World, endpoint: ScriptedEndpoint) -> None:
    endpoint.default = token("the-token", token_type="bearer", expires_in=300)
    settings = world.post(endpoint.url(), scopes=["repo"])
    async with served(world, b=settings, a=settings) as connection:
        found = await connection.credentials.resolve_credential("a")
        listed = await connection.credentials.list_credentials()

    assert found.token.reveal() == "the-token"
    assert found.token_type == "Bearer"
    assert found.expires_at is not None
    assert 290 < found.expires_at.timestamp() - time.time() < 301
    assert [(each.name, each.scopes) for each in listed] == [("a", ("repo",)), ("b", ("repo",))]


async def test_empty_and_unknown_names_are_told_apart(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    async with served(world, one=world.post(endpoint.url())) as connection:
        assert (await status(connection, ""))[0] == "INVALID_ARGUMENT"
        assert (await status(connection, "two"))[0] == "NOT_FOUND"


async def test_remote_body_is_not_in_the_error(world: World, endpoint: ScriptedEndpoint) -> None:
    endpoint.queue(echo_form(), raw(b"canary-page " * 9000, "text/html", 500))
    settings = world.post(endpoint.url())
    async with served(world, one=settings, two=settings) as connection:
        told = [await status(connection, "one"), await status(connection, "two")]

    assert "canary" not in str(told)
    assert told[0] == (
        "FAILED_PRECONDITION",
        "credential 'one': the issuer answered 401 (invalid_client), asked with client_secret_post",
    )


async def test_wrong_secret_and_outage_have_different_statuses(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    settings = {
        "wrong": world.post(endpoint.url("/echo")),
        "down": world.post(endpoint.url("/unavailable")),
        "off": world.post("http://127.0.0.1:9/"),
        "slow": world.post(endpoint.url("/hang"), timeout=0.3),
        "busy": world.post(endpoint.url("/too-many")),
    }
    async with served(world, **settings) as connection:
        codes = {name: (await status(connection, name))[0] for name in settings}

    assert codes == {
        "wrong": "FAILED_PRECONDITION",
        "down": "UNAVAILABLE",
        "off": "UNAVAILABLE",
        "slow": "DEADLINE_EXCEEDED",
        "busy": "UNAVAILABLE",
    }


async def test_slow_realm_does_not_block_other_names(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    slow = {f"slow{n}": world.post(endpoint.url("/hang"), timeout=20) for n in range(20)}
    found = {"fast": world.post(endpoint.url()), **slow}
    async with served(world, **found) as connection, anyio.create_task_group() as tasks:
        for name in slow:
            tasks.start_soon(connection.credentials.resolve_credential, name)
        await until(lambda: endpoint.count == len(slow))
        with anyio.fail_after(10):
            await connection.credentials.resolve_credential("fast")
            await connection.credentials.list_credentials()
        tasks.cancel_scope.cancel()


async def test_callers_of_one_name_share_one_fetch(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    found = {"one": world.post(endpoint.url())}
    async with served(world, **found) as connection, anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(connection.credentials.resolve_credential, "one")

    assert endpoint.count == 1


async def test_ref_cannot_leave_the_directory(world: World, endpoint: ScriptedEndpoint) -> None:
    (world.folder / "outside").write_text(canary())
    (world.secrets_dir / "link").symlink_to(world.folder / "outside")
    settings = {**world.post(endpoint.url()), "client_secret_ref": "link"}
    async with served(world, one=settings) as connection:
        told = await status(connection, "one")

    assert told == (
        "FAILED_PRECONDITION",
        "credential 'one': the file of client_secret_ref lies outside secrets_dir",
    )
    assert endpoint.count == 0


async def test_form_is_not_sent_on_to_where_a_redirect_points(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    async with ScriptedEndpoint() as elsewhere:
        endpoint.default = redirect(elsewhere.url(), 307)
        async with served(world, one=world.post(endpoint.url())) as connection:
            code, _ = await status(connection, "one")

    assert code == "FAILED_PRECONDITION"
    assert elsewhere.connections == 0


async def test_socket_is_closed_to_other_users(world: World, endpoint: ScriptedEndpoint) -> None:
    async with served(world, one=world.post(endpoint.url())):
        mode = stat.S_IMODE((world.folder / "d.sock").stat().st_mode)

    assert mode & 0o077 == 0
    assert not (world.folder / "d.sock").exists()


async def test_living_socket_is_not_taken_over(world: World, endpoint: ScriptedEndpoint) -> None:
    settings = world.post(endpoint.url())
    async with served(world, one=settings) as connection:
        second = KeycloakDriver(world.config({"two": settings}))
        with pytest.raises(SocketError):
            async with running(second, socket=world.folder / "d.sock"):
                pass
        await connection.credentials.resolve_credential("one")


async def test_file_in_the_sockets_place_is_not_removed(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    file = world.folder / "d.sock"
    file.write_text("keep me")
    with pytest.raises(SocketError):
        async with served(world, one=world.post(endpoint.url())):
            pass

    assert file.read_text() == "keep me"


async def test_stop_does_not_wait_for_a_hanging_issuer(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    endpoint.default = hang
    settings = world.post(endpoint.url(), timeout=25)
    driver = KeycloakDriver(world.config({"one": settings}))
    with anyio.fail_after(10):
        async with driver.lifespan(), anyio.create_task_group() as tasks:
            tasks.start_soon(driver._tokens.get, "one")
            await until(lambda: endpoint.count == 1)
            tasks.cancel_scope.cancel()
