"""Issuers whose token endpoint is looked up in their metadata."""

from __future__ import annotations

import json

import pytest
from openshell_credentials_keycloak import CredentialConfig
from openshell_credentials_keycloak._answers import Answer
from openshell_credentials_keycloak._discovery import KEPT, Discovery

from examples.keycloak_credentials.tests.world import Settings, World, failure, resolve
from openshell_drivers import FailedPrecondition, Unavailable
from tests.peers.scripted import Answer as Reply
from tests.peers.scripted import ScriptedEndpoint, document, raw, token

METADATA = "/realms/one/.well-known/openid-configuration"


def settings(world: World, endpoint: ScriptedEndpoint, slash: str = "") -> Settings:
    issuer = endpoint.url("/realms/one") + slash
    return world.post(endpoint.url(), token_endpoint=None, issuer=issuer)


def metadata(endpoint: ScriptedEndpoint, **changes: object) -> dict[str, object]:
    found = {"issuer": endpoint.url("/realms/one"), "token_endpoint": endpoint.url("/found")}
    return {**found, **changes}


async def test_endpoint_is_found_once_and_used(world: World, endpoint: ScriptedEndpoint) -> None:
    endpoint.routes[METADATA] = document(metadata(endpoint))
    async with world.driver(one=settings(world, endpoint)) as driver:
        await driver._fetch("one")
        await driver._fetch("one")

    assert [request.path for request in endpoint.requests] == [METADATA, "/found", "/found"]
    assert endpoint.requests[0].method == "GET"
    assert "client_secret" not in endpoint.requests[0].form


async def test_slash_at_the_end_of_an_issuer_is_compared_but_not_doubled(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    issuer = endpoint.url("/realms/one/")
    endpoint.routes[METADATA] = document(metadata(endpoint, issuer=issuer))
    async with world.driver(one=settings(world, endpoint, "/")) as driver:
        await resolve(driver)


@pytest.mark.parametrize("other", ["https://attacker.example", "", None, 7, "slash"])
async def test_metadata_of_another_issuer_are_refused_and_get_no_secret(
    world: World, endpoint: ScriptedEndpoint, other: object
) -> None:
    named = endpoint.url("/realms/one/") if other == "slash" else other
    endpoint.routes[METADATA] = document(metadata(endpoint, issuer=named))
    async with world.driver(one=settings(world, endpoint)) as driver:
        error = await failure(driver)

    assert type(error) is FailedPrecondition
    assert error.message == (
        "credential 'one': the metadata are those of another issuer; "
        "issuer must match to the last slash"
    )
    assert endpoint.count == 1


@pytest.mark.parametrize(
    "found", [None, 7, "", "ftp://x/", "https://u:p@x/", "/token", "https://x/#a", "x" * 3000]
)
async def test_unusable_endpoint_in_metadata_is_refused(
    world: World, endpoint: ScriptedEndpoint, found: object
) -> None:
    endpoint.routes[METADATA] = document(metadata(endpoint, token_endpoint=found))
    async with world.driver(one=settings(world, endpoint)) as driver:
        assert type(await failure(driver)) is FailedPrecondition


@pytest.mark.parametrize("answer", [raw(b"<html>"), raw(b"[]"), raw(b"", status=503)])
async def test_metadata_that_cannot_be_had_now_are_unavailable(
    world: World, endpoint: ScriptedEndpoint, answer: Reply
) -> None:
    endpoint.routes[METADATA] = answer
    async with world.driver(one=settings(world, endpoint)) as driver:
        assert type(await failure(driver)) is Unavailable


async def test_endpoint_that_has_moved_is_looked_up_again(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    endpoint.routes[METADATA] = document(metadata(endpoint))
    endpoint.routes["/found"] = raw(b"gone", status=404)
    async with world.driver(one=settings(world, endpoint)) as driver:
        assert type(await failure(driver)) is FailedPrecondition
        moved = metadata(endpoint, token_endpoint=endpoint.url("/moved"))
        endpoint.routes[METADATA] = document(moved)
        endpoint.routes["/moved"] = token("moved-token")
        driver._tokens.renew("one")
        assert (await resolve(driver)).token.reveal() == "moved-token"


async def test_refusal_by_the_endpoint_does_not_repeat_discovery(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    endpoint.routes[METADATA] = document(metadata(endpoint))
    endpoint.routes["/found"] = document({"error": "invalid_scope"}, 400)
    async with world.driver(one=settings(world, endpoint)) as driver:
        await failure(driver)
        driver._tokens.renew("one")
        await failure(driver)

    assert [request.path for request in endpoint.requests] == [METADATA, "/found", "/found"]


class Issuer:
    """Metadata without a network, and a clock that is turned by hand."""

    def __init__(self, **fields: object) -> None:
        self.fields = {"issuer": "https://issuer.example", **fields}
        self.asked: list[str] = []
        self.time = 0.0

    async def get(self, url: str) -> Answer:
        self.asked.append(url)
        return Answer(200, json.dumps(self.fields).encode())


def discovery(issuer: Issuer, **changes: object) -> Discovery:
    settings = {"client_id": "c", "issuer": "https://issuer.example", **changes}
    if "auth" not in settings:
        settings["client_secret_ref"] = "s"
    return Discovery(CredentialConfig.model_validate(settings), clock=lambda: issuer.time)


async def test_metadata_are_read_again_after_an_hour() -> None:
    issuer = Issuer(token_endpoint="https://issuer.example/t")
    found = discovery(issuer)
    for moment in (0.0, KEPT - 1, KEPT, KEPT + 1):
        issuer.time = moment
        await found.endpoint(issuer.get)

    assert issuer.asked == ["https://issuer.example/.well-known/openid-configuration"] * 2


async def test_http_endpoint_in_metadata_of_an_https_issuer_is_refused() -> None:
    issuer = Issuer(token_endpoint="http://issuer.example/t")
    with pytest.raises(Exception, match="https"):
        await discovery(issuer).endpoint(issuer.get)

    assert await discovery(issuer, allow_http=True).endpoint(issuer.get)


async def test_client_certificates_go_to_the_endpoint_for_them() -> None:
    aliases = {"token_endpoint": "https://mtls.issuer.example/t"}
    issuer = Issuer(token_endpoint="https://issuer.example/t", mtls_endpoint_aliases=aliases)
    certificates = {"client_cert_ref": "c", "client_key_ref": "k"}

    with_certificate = discovery(issuer, auth="tls_client_auth", **certificates)
    assert await with_certificate.endpoint(issuer.get) == "https://mtls.issuer.example/t"
    assert await discovery(issuer).endpoint(issuer.get) == "https://issuer.example/t"
