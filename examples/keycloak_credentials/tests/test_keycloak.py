"""Against a real Keycloak over HTTPS: what the product itself does."""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from openshell_credentials_keycloak import KeycloakDriver

from examples.keycloak_credentials.tests.world import Settings, World, failure, resolve, until
from openshell_drivers import (
    Credential,
    DriverError,
    FailedPrecondition,
    Unavailable,
)
from tests.peers.keycloak import Keycloak, PeerMissing
from tests.peers.realms import (
    DISABLED,
    EXCHANGER,
    JWT_CLIENT,
    PLAIN,
    REPO_SCOPE,
    SCOPED,
    SHORT_LIFE,
    SHORT_LIVED,
    SUBJECT,
    TARGET,
    TEAM1,
    TEAM2,
    TENANTS,
    UNKNOWN_SCOPE,
    X509_CLIENT,
)

pytestmark = [pytest.mark.keycloak, pytest.mark.timeout(300)]

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


@pytest.fixture(scope="module")
def keycloak() -> Iterator[Keycloak]:
    """Give one Keycloak for all tests of this module."""
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


def settings(
    world: World, keycloak: Keycloak, client: str = PLAIN, realm: str = TEAM1, **changes: Any
) -> Settings:
    """Configure a client of the realm with its secret in a file."""
    secret = keycloak.secret(realm, client)
    found = world.post(keycloak.token_endpoint(realm), secret=secret, client_id=client)
    return {**found, "ca_file": str(keycloak.ca_file), **changes}


def claims(credential: Credential) -> dict[str, Any]:
    """Read a token's claims, and the kid it is signed with."""
    header, body, _ = credential.token.reveal().split(".")
    parts = [json.loads(base64.urlsafe_b64decode(part + "===")) for part in (header, body)]
    return {**parts[1], "kid": parts[0]["kid"]}


class Load:
    """Callers that never stop asking, and what they got."""

    def __init__(self) -> None:
        self.tokens: Counter[str] = Counter()
        self.errors: list[DriverError] = []
        self.expired = 0

    async def ask(self, driver: KeycloakDriver, name: str) -> None:
        """Ask about a hundred times a second."""
        while True:
            try:
                found = await resolve(driver, name)
            except DriverError as error:
                self.errors.append(error)
            else:
                self.tokens[found.token.reveal()] += 1
                if found.expires_at is None or found.expires_at <= datetime.now(UTC):
                    self.expired += 1
            await anyio.sleep(0.01)


@asynccontextmanager
async def under_load(driver: KeycloakDriver, name: str = "one") -> AsyncIterator[Load]:
    """Have five callers ask while inside."""
    load = Load()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(load.ask, driver, name)
        yield load
        tasks.cancel_scope.cancel()


async def test_two_tenants_have_their_own_tokens(world: World, keycloak: Keycloak) -> None:
    found = {realm: settings(world, keycloak, realm=realm) for realm in TENANTS}
    async with world.driver(**found) as driver:
        tokens = {realm: claims(await resolve(driver, realm)) for realm in TENANTS}

    assert {realm: token["iss"] for realm, token in tokens.items()} == {
        realm: keycloak.issuer(realm) for realm in TENANTS
    }
    assert all(token["azp"] == PLAIN for token in tokens.values())


async def test_expiry_and_type_are_those_of_the_token(world: World, keycloak: Keycloak) -> None:
    async with world.driver(one=settings(world, keycloak)) as driver:
        found = await resolve(driver)

    assert found.token_type == "Bearer"
    assert found.expires_at is not None
    assert abs(found.expires_at.timestamp() - claims(found)["exp"]) < 3


async def test_discovery_finds_the_endpoint(world: World, keycloak: Keycloak) -> None:
    found = settings(world, keycloak, token_endpoint=None, issuer=keycloak.issuer(TEAM2))
    world.write(found["client_secret_ref"], keycloak.secret(TEAM2, PLAIN))
    async with world.driver(one=found) as driver:
        assert claims(await resolve(driver))["iss"] == keycloak.issuer(TEAM2)


async def test_basic_authentication_works(world: World, keycloak: Keycloak) -> None:
    async with world.driver(one=settings(world, keycloak, auth="client_secret_basic")) as driver:
        await resolve(driver)


async def test_configured_scope_is_in_the_token(world: World, keycloak: Keycloak) -> None:
    found = settings(world, keycloak, SCOPED, scopes=[REPO_SCOPE])
    async with world.driver(one=found) as driver:
        assert REPO_SCOPE in claims(await resolve(driver))["scope"].split()


@pytest.mark.parametrize(
    ("client", "changes", "code"),
    [
        (PLAIN, {"client_id": "nobody"}, "invalid_client"),
        (DISABLED, {}, "invalid_client"),
        (PLAIN, {"scopes": [UNKNOWN_SCOPE]}, "invalid_scope"),
        (PLAIN, {"auth": "client_secret_basic", "client_id": "nobody"}, "invalid_client"),
    ],
)
async def test_refusal_names_its_code_and_lasts(
    world: World, keycloak: Keycloak, client: str, changes: Settings, code: str
) -> None:
    async with world.driver(one=settings(world, keycloak, client, **changes)) as driver:
        error = await failure(driver)

    assert type(error) is FailedPrecondition
    assert code in error.message


async def test_wrong_secret_is_refused_and_mended_by_its_file(
    world: World, keycloak: Keycloak
) -> None:
    found = settings(world, keycloak)
    world.write(found["client_secret_ref"], "wrong")
    async with world.driver(one=found) as driver:
        error = await failure(driver)
        world.write(found["client_secret_ref"], keycloak.secret(TEAM1, PLAIN))
        await resolve(driver)

    assert type(error) is FailedPrecondition
    assert "401" in error.message


async def test_client_without_a_service_account_is_refused(
    world: World, keycloak: Keycloak
) -> None:
    secret = await anyio.to_thread.run_sync(keycloak.admin().rotate_client_secret, TEAM1, TARGET)
    found = settings(world, keycloak, client_id=TARGET)
    world.write(found["client_secret_ref"], secret)
    async with world.driver(one=found) as driver:
        assert "unauthorized_client" in (await failure(driver)).message


async def test_missing_realm_is_a_failed_precondition(world: World, keycloak: Keycloak) -> None:
    url = keycloak.token_endpoint("no-such-realm")
    async with world.driver(one=settings(world, keycloak, token_endpoint=url)) as driver:
        assert type(await failure(driver)) is FailedPrecondition


async def test_keycloak_of_an_unknown_ca_is_not_trusted(world: World, keycloak: Keycloak) -> None:
    async with world.driver(one=settings(world, keycloak, ca_file=None)) as driver:
        error = await failure(driver)

    assert type(error) is FailedPrecondition
    assert "certificate" in error.message


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("audience", ["endpoint", "issuer"])
async def test_signed_assertion_is_accepted(
    world: World, keycloak: Keycloak, algorithm: str, audience: str
) -> None:
    key = keycloak.realms.jwt_keys[algorithm]
    world.write("key.pem", key.private_pem.decode())
    found = {
        "client_id": JWT_CLIENT,
        "token_endpoint": keycloak.token_endpoint(TEAM1),
        "ca_file": str(keycloak.ca_file),
        "auth": "private_key_jwt",
        "private_key_ref": "key.pem",
        "key_id": key.kid,
        "assertion_audience": keycloak.issuer(TEAM1) if audience == "issuer" else None,
    }
    async with world.driver(one=found) as driver:
        assert claims(await resolve(driver))["azp"] == JWT_CLIENT


async def test_client_certificate_is_accepted(world: World, keycloak: Keycloak) -> None:
    pem = keycloak.client_certificate.read_text()
    world.write("client.pem", pem)
    found = {
        "client_id": X509_CLIENT,
        "token_endpoint": keycloak.token_endpoint(TEAM1),
        "ca_file": str(keycloak.ca_file),
        "auth": "tls_client_auth",
        "client_cert_ref": "client.pem",
        "client_key_ref": "client.pem",
    }
    async with world.driver(one=found) as driver:
        assert claims(await resolve(driver))["azp"] == X509_CLIENT


async def test_token_is_exchanged(world: World, keycloak: Keycloak, tmp_path: Path) -> None:
    subject = tmp_path / "subject-token"
    async with world.driver(subject=settings(world, keycloak, SUBJECT)) as driver:
        subject.write_text((await resolve(driver, "subject")).token.reveal())
    exchange = settings(
        world,
        keycloak,
        EXCHANGER,
        subject_token_file=str(subject),
        subject_token_type=ACCESS_TOKEN,
        requested_token_type=ACCESS_TOKEN,
        audience=TARGET,
    )
    async with world.driver(one=exchange, bad={**exchange, "audience": "nobody"}) as driver:
        found = claims(await resolve(driver))
        refused = await failure(driver, "bad")

    assert found["azp"] == EXCHANGER
    assert found["aud"] == TARGET
    assert type(refused) is FailedPrecondition


async def test_expired_subject_token_is_told_and_mended_by_its_file(
    world: World, keycloak: Keycloak, tmp_path: Path
) -> None:
    subject = tmp_path / "subject-token"
    subject.write_text("not.a.token")
    exchange = settings(
        world,
        keycloak,
        EXCHANGER,
        subject_token_file=str(subject),
        subject_token_type=ACCESS_TOKEN,
    )
    async with world.driver(one=exchange) as driver:
        assert type(await failure(driver)) is FailedPrecondition


async def test_short_lives_are_renewed_ahead_without_a_failed_call(
    world: World, keycloak: Keycloak
) -> None:
    found = settings(world, keycloak, SHORT_LIVED)
    async with world.driver(one=found) as driver, under_load(driver) as load:
        await until(lambda: len(load.tokens) >= 3, 4 * SHORT_LIFE)

    assert load.errors == []
    assert load.expired == 0
    assert len(load.tokens) == 3


async def test_realms_new_signing_key_arrives_with_the_next_token(
    world: World, keycloak: Keycloak
) -> None:
    async with world.driver(one=settings(world, keycloak)) as driver:
        before = await resolve(driver)
        kid = await anyio.to_thread.run_sync(keycloak.admin().rotate_realm_keys, TEAM1)
        same = await resolve(driver)
        driver._tokens.forget("one")
        after = await resolve(driver)

    assert before == same
    assert claims(before)["kid"] != kid == claims(after)["kid"]


async def test_rotated_secret_goes_over_without_a_failed_call(
    world: World, keycloak: Keycloak
) -> None:
    admin = keycloak.admin()
    current = await anyio.to_thread.run_sync(admin.rotate_client_secret, TEAM2, SHORT_LIVED)
    found = settings(world, keycloak, SHORT_LIVED, TEAM2)
    world.write(found["client_secret_ref"], current)
    async with world.driver(one=found) as driver, under_load(driver) as load:
        await until(lambda: len(load.tokens) == 1)
        new = await anyio.to_thread.run_sync(admin.rotate_client_secret, TEAM2, SHORT_LIVED)
        world.write(found["client_secret_ref"], new)
        await until(lambda: len(load.tokens) >= 3, 4 * SHORT_LIFE)

    assert load.errors == []
    assert load.expired == 0


async def test_disabled_and_enabled_again(world: World, keycloak: Keycloak) -> None:
    admin = keycloak.admin()
    async with world.driver(one=settings(world, keycloak, DISABLED, TEAM2)) as driver:
        assert type(await failure(driver)) is FailedPrecondition
        await anyio.to_thread.run_sync(admin.set_client_enabled, TEAM2, DISABLED, True)
        driver._tokens.renew("one")  # instead of waiting for the pause after a lasting failure
        await resolve(driver)


async def test_keycloak_killed_and_back_under_load(world: World, keycloak: Keycloak) -> None:
    found = {"one": settings(world, keycloak), "other": settings(world, keycloak, realm=TEAM2)}
    async with world.driver(**found) as driver, under_load(driver) as load:
        await until(lambda: sum(load.tokens.values()) > 100)
        await anyio.to_thread.run_sync(keycloak.kill)
        other = await failure(driver, "other")
        asked = sum(load.tokens.values())
        await anyio.to_thread.run_sync(keycloak.start)
        await resolve(driver, "other")
        during = sum(load.tokens.values()) - asked

    assert type(other) is Unavailable
    assert load.errors == []
    assert load.expired == 0
    assert during > 100
    assert len(load.tokens) == 1


async def test_short_life_ends_during_an_outage_and_returns_by_itself(
    world: World, keycloak: Keycloak
) -> None:
    found = settings(world, keycloak, SHORT_LIVED)
    async with world.driver(one=found) as driver, under_load(driver) as load:
        await until(lambda: len(load.tokens) == 1)
        first = time.monotonic()
        await anyio.to_thread.run_sync(keycloak.kill)
        await until(lambda: len(load.errors) > 0)
        lasted = time.monotonic() - first
        await anyio.to_thread.run_sync(keycloak.start)
        await until(lambda: len(load.tokens) == 2)

    assert {type(error) for error in load.errors} == {Unavailable}
    assert lasted > SHORT_LIFE / 2  # served to the end of its life, not to the first failure
    assert load.expired == 0


def test_the_certificate_is_really_checked(keycloak: Keycloak) -> None:
    context = keycloak.tls_context()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
