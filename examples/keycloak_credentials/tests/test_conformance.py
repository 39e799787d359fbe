"""The whole driver under the conformance suite, at an issuer of each kind."""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from examples.keycloak_credentials.tests.world import Settings, World
from tests.peers.keycloak import Keycloak, PeerMissing
from tests.peers.realms import PLAIN, SHORT_LIVED, TEAM1, TEAM2
from tests.peers.scripted import Answer, Exchange, ScriptedEndpoint, token
from tests.reference.judging import Judgement, judge

pytestmark = [pytest.mark.timeout(300), pytest.mark.thorough]  # the whole suite, each time

PROFILE = Path(__file__).resolve().parents[1] / "openshell-conformance.toml"
LASTING = tuple(f"conformance-{number}" for number in range(1, 6))
SHORT = "conformance-short"


async def judged(world: World, credentials: dict[str, Settings]) -> Judgement:
    """Have the driver judged with these credentials, as the profile has it."""
    (world.folder / "credentials.yaml").write_text(yaml.safe_dump({"credentials": credentials}))
    return await judge("keycloak", profile=PROFILE, cwd=world.folder)


def issued(life: int) -> Answer:
    """A new token each time, which says itself when it ends."""

    async def answer(exchange: Exchange) -> None:
        parts = ({"alg": "none"}, {"exp": int(time.time()) + life, "jti": secrets.token_hex(8)})
        text = ".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts
        )
        await token(f"{text}.{secrets.token_urlsafe(16)}", expires_in=life)(exchange)

    return answer


async def test_the_driver_is_conformant(world: World, endpoint: ScriptedEndpoint) -> None:
    endpoint.routes["/lasting"], endpoint.routes["/short"] = issued(300), issued(4)
    found = await judged(
        world,
        {
            **{name: world.post(endpoint.url("/lasting")) for name in LASTING},
            SHORT: world.post(endpoint.url("/short")),
        },
    )

    assert found.problems == ()
    assert found.verdict == "conformant"
    assert found.services == {"credentials"}


@pytest.fixture(scope="module")
def keycloak() -> Iterator[Keycloak]:
    """Give one Keycloak for this module."""
    peer = Keycloak(https=True)
    try:
        peer.start()
    except PeerMissing as missing:
        peer.close()
        if os.environ.get("REQUIRE_PEERS") == "1":
            raise
        pytest.skip(f"no Keycloak: {missing}")
    yield peer
    peer.close()


def at(world: World, keycloak: Keycloak, client: str, realm: str) -> Settings:
    """Configure a client of a realm."""
    found = world.post(
        keycloak.token_endpoint(realm), secret=keycloak.secret(realm, client), client_id=client
    )
    return {**found, "ca_file": str(keycloak.ca_file)}


@pytest.mark.keycloak
async def test_the_driver_is_conformant_at_keycloak(world: World, keycloak: Keycloak) -> None:
    realms = (TEAM1, TEAM2, TEAM1, TEAM2, TEAM1)
    found = await judged(
        world,
        {
            **{
                name: at(world, keycloak, PLAIN, realm)
                for name, realm in zip(LASTING, realms, strict=True)
            },
            SHORT: at(world, keycloak, SHORT_LIVED, TEAM1),
        },
    )

    assert found.problems == ()
    assert found.verdict == "conformant"
