"""How the client proves who it is: four methods, as they arrive at the issuer."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from examples.keycloak_credentials.tests.world import Settings, World, canary, failure, resolve
from openshell_drivers import FailedPrecondition
from tests.peers.scripted import ScriptedEndpoint, token

Key = RSAKey | ECKey | OKPKey
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")


def jwt_settings(world: World, endpoint: ScriptedEndpoint, text: str, **changes: Any) -> Settings:
    world.write("key.pem", text)
    found = world.post(endpoint.url(), auth="private_key_jwt", private_key_ref="key.pem", **changes)
    del found["client_secret_ref"]
    return found


async def assertion(
    world: World, endpoint: ScriptedEndpoint, key: Key, **changes: Any
) -> jwt.Token:
    """Ask for a token with a key and give back the assertion as the issuer would check it."""
    text = key.as_pem(private=True).decode()
    async with world.driver(one=jwt_settings(world, endpoint, text, **changes)) as driver:
        await resolve(driver)
    form = endpoint.requests[-1].form
    assert form["client_assertion_type"].endswith(":client-assertion-type:jwt-bearer")
    algorithms = ["RS256", "PS256", "ES256", "EdDSA"]
    return jwt.decode(form["client_assertion"], key, algorithms=algorithms)


async def test_post_sends_the_form_of_the_go_driver(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    secret = canary("+&= ä")
    settings = world.post(endpoint.url(), secret=f"  {secret}\n", scopes=["repo", "read:org"])
    async with world.driver(one=settings) as driver:
        await resolve(driver)

    (request,) = endpoint.requests
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.form == {
        "grant_type": "client_credentials",
        "client_id": "sandbox",
        "client_secret": secret,
        "scope": "repo read:org",
    }
    assert "authorization" not in request.headers


async def test_no_scope_is_sent_if_none_is_configured(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    async with world.driver(one=world.post(endpoint.url())) as driver:
        await resolve(driver)

    assert set(endpoint.requests[0].form) == {"grant_type", "client_id", "client_secret"}


async def test_basic_encodes_both_parts_first(world: World, endpoint: ScriptedEndpoint) -> None:
    client, secret = "an:odd id", "p%a:s+s ä"
    settings = world.post(endpoint.url(), secret=secret, auth="client_secret_basic")
    async with world.driver(one={**settings, "client_id": client}) as driver:
        await resolve(driver)

    (request,) = endpoint.requests
    kind, _, encoded = request.headers["authorization"].partition(" ")
    sent_client, sent_secret = base64.b64decode(encoded).decode("ascii").split(":")
    assert kind == "Basic"
    assert (unquote_plus(sent_client), unquote_plus(sent_secret)) == (client, secret)
    assert (sent_client, sent_secret) == ("an%3Aodd%20id", "p%25a%3As%2Bs%20%C3%A4")
    assert set(request.form) == {"grant_type"}


@pytest.mark.parametrize(
    ("key", "chosen", "used"),
    [
        (RSAKey.generate_key(2048), None, "RS256"),
        (RSAKey.generate_key(2048), "PS256", "PS256"),
        (ECKey.generate_key("P-256"), None, "ES256"),
        (OKPKey.generate_key("Ed25519"), None, "EdDSA"),
    ],
    ids=["RS256", "PS256", "ES256", "EdDSA"],
)
async def test_assertion_is_signed_short_lived_and_for_this_issuer(
    world: World, endpoint: ScriptedEndpoint, key: Key, chosen: str | None, used: str
) -> None:
    found = await assertion(world, endpoint, key, signing_alg=chosen, key_id="k1")

    now = time.time()
    assert found.header == {"typ": "JWT", "alg": used, "kid": "k1"}
    assert found.claims["iss"] == found.claims["sub"] == "sandbox"
    assert found.claims["aud"] == endpoint.url()
    assert now - 10 < found.claims["iat"] <= now < found.claims["exp"] <= now + 60


async def test_audience_of_assertions_can_be_configured(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    key = ECKey.generate_key("P-256")
    found = await assertion(world, endpoint, key, assertion_audience="https://issuer.example")

    assert found.claims["aud"] == "https://issuer.example"
    assert "kid" not in found.header


async def test_every_assertion_is_another(world: World, endpoint: ScriptedEndpoint) -> None:
    endpoint.routes["/token"] = token()
    key = ECKey.generate_key("P-256")
    found = [await assertion(world, endpoint, key) for _ in range(3)]

    assert len({each.claims["jti"] for each in found}) == 3


async def test_key_may_be_a_jwk_with_its_kid(world: World, endpoint: ScriptedEndpoint) -> None:
    key = ECKey.generate_key("P-256", {"kid": "from-jwk"})
    text = json.dumps(key.as_dict(private=True))
    async with world.driver(one=jwt_settings(world, endpoint, text)) as driver:
        await resolve(driver)

    found = jwt.decode(endpoint.requests[0].form["client_assertion"], key, algorithms=["ES256"])
    assert found.header["kid"] == "from-jwk"


def unusable_keys() -> dict[str, str]:
    rsa = RSAKey.generate_key(2048)
    return {
        "public": rsa.as_pem(private=False).decode(),
        "encrypted": rsa.as_pem(private=True, password="x").decode(),
        "P-384": ECKey.generate_key("P-384").as_pem(private=True).decode(),
        "no key": canary("key"),
        "no jwk": '{"kty": "canary-key"}',
        "symmetric": '{"kty": "oct", "k": "Y2FuYXJ5LWtleQ"}',
        "cut": rsa.as_pem(private=True).decode()[:400],
    }


@pytest.mark.parametrize(("text"), unusable_keys().values(), ids=unusable_keys())
async def test_unusable_key_is_refused_without_a_request(
    world: World, endpoint: ScriptedEndpoint, text: str
) -> None:
    async with world.driver(one=jwt_settings(world, endpoint, text)) as driver:
        error = await failure(driver)

    assert type(error) is FailedPrecondition
    assert "private_key_ref" in error.message
    assert "canary" not in error.message
    assert endpoint.count == 0


async def test_algorithm_must_suit_the_key(world: World, endpoint: ScriptedEndpoint) -> None:
    text = ECKey.generate_key("P-256").as_pem(private=True).decode()
    settings = jwt_settings(world, endpoint, text, signing_alg="RS256")
    async with world.driver(one=settings) as driver:
        assert "signing_alg" in (await failure(driver)).message


@pytest.mark.filterwarnings("ignore:Key size")  # joserfc only warns
async def test_short_rsa_key_is_refused(world: World, endpoint: ScriptedEndpoint) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    short = rsa.generate_private_key(65537, 1024)
    pem = short.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    async with world.driver(one=jwt_settings(world, endpoint, pem)) as driver:
        assert type(await failure(driver)) is FailedPrecondition


async def test_token_exchange_sends_the_subject_token_of_now(
    world: World, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    file = tmp_path / "sa-token"
    file.write_text("first-jwt\n")
    endpoint.queue(token(expires_in=0), token(expires_in=0))
    settings = world.post(
        endpoint.url(),
        subject_token_file=str(file),
        requested_token_type="urn:ietf:params:oauth:token-type:access_token",
        audience=["a", "b"],
        resource=["https://a.example", "https://b.example"],
        scopes=["repo"],
    )
    async with world.driver(one=settings) as driver:
        await driver._fetch("one")
        file.write_text("second-jwt")
        await driver._fetch("one")

    sent = parse_qsl(endpoint.requests[0].body.decode())
    assert ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange") in sent
    assert ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt") in sent
    assert ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token") in sent
    assert [value for key, value in sent if key == "audience"] == ["a", "b"]
    assert [value for key, value in sent if key == "resource"] == [
        "https://a.example",
        "https://b.example",
    ]
    assert [request.form["subject_token"] for request in endpoint.requests] == [
        "first-jwt",
        "second-jwt",
    ]


async def test_missing_subject_token_is_a_failed_precondition_until_it_comes(
    world: World, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    file = tmp_path / "late"
    settings = world.post(endpoint.url(), subject_token_file=str(file))
    async with world.driver(one=settings) as driver:
        error = await failure(driver)
        file.write_text("here now")
        await resolve(driver)

    assert type(error) is FailedPrecondition
    assert "subject_token_file" in error.message


async def test_renewed_private_key_is_used_at_the_next_call(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    old, new = ECKey.generate_key("P-256"), RSAKey.generate_key(2048)
    settings = jwt_settings(world, endpoint, old.as_pem(private=True).decode())
    async with world.driver(one=settings) as driver:
        await resolve(driver)
        world.write("key.pem", new.as_pem(private=True).decode())
        await resolve(driver)

    sent = [request.form["client_assertion"] for request in endpoint.requests]
    jwt.decode(sent[0], old, algorithms=["ES256"])
    jwt.decode(sent[1], new, algorithms=["RS256"])


async def test_missing_extra_is_told(
    world: World, endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = jwt_settings(world, endpoint, "key")
    monkeypatch.setitem(sys.modules, "joserfc.jwk", None)
    async with world.driver(one=settings) as driver:
        error = await failure(driver)

    assert type(error) is FailedPrecondition
    assert "extra 'jwt'" in error.message


async def test_renewed_subject_token_costs_no_request(
    world: World, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    file = tmp_path / "sa-token"
    file.write_text("first")
    settings = world.post(endpoint.url(), subject_token_file=str(file))
    async with world.driver(one=settings) as driver:
        await resolve(driver)
        file.write_text("second one")
        await resolve(driver)

    assert endpoint.count == 1
