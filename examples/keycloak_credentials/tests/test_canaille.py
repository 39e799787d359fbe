"""Against Canaille, a real identity provider inside the test's own process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from openshell_credentials_keycloak import KeycloakDriver

from examples.keycloak_credentials.tests.world import Settings, World, failure, resolve
from openshell_drivers import DriverError, FailedPrecondition
from openshell_drivers.client import connect
from openshell_drivers.server import running
from tests.peers.canaille import Canaille, CanailleClient
from tests.peers.processes import PeerMissing


@pytest.fixture(scope="module")
def canaille() -> Iterator[Canaille]:
    """Give one Canaille for all tests of this module."""
    peer = Canaille(clients=[CanailleClient("sandbox", "canary +%: secret", "profile")])
    try:
        peer.start()
    except PeerMissing as missing:
        peer.close()
        if os.environ.get("REQUIRE_PEERS") == "1":
            raise
        pytest.skip(f"no Canaille: {missing}")
    yield peer
    peer.close()


def settings(world: World, canaille: Canaille, **changes: object) -> Settings:
    """Configure the client, with the one kind of authentication that Canaille takes."""
    return world.post(
        canaille.token_endpoint, secret="canary +%: secret", auth="client_secret_basic", **changes
    )


async def test_gateway_gets_a_token_and_the_list(world: World, canaille: Canaille) -> None:
    found = settings(world, canaille, scopes=["profile"])
    driver = KeycloakDriver(world.config({"one": found}))
    socket = world.folder / "d.sock"
    async with running(driver, socket=socket), connect(socket) as connection:
        first = await connection.credentials.resolve_credential("one")
        again = await connection.credentials.resolve_credential("one")
        listed = await connection.credentials.list_credentials()
        with pytest.raises(DriverError) as caught:
            await connection.credentials.resolve_credential("two")

    assert first == again
    assert first.token_type == "Bearer"
    assert [(each.name, each.scopes) for each in listed] == [("one", ("profile",))]
    assert caught.value.code == "NOT_FOUND"


async def test_endpoint_is_discovered(world: World, canaille: Canaille) -> None:
    found = settings(world, canaille, token_endpoint=None, issuer=canaille.issuer)
    async with world.driver(one=found) as driver:
        await resolve(driver)


async def test_wrong_secret_is_refused_and_mended_by_its_file(
    world: World, canaille: Canaille
) -> None:
    found = settings(world, canaille)
    world.write(found["client_secret_ref"], "wrong")
    async with world.driver(one=found) as driver:
        error = await failure(driver)
        world.write(found["client_secret_ref"], "canary +%: secret")
        await resolve(driver)

    assert type(error) is FailedPrecondition
    assert "invalid_client" in error.message
