"""The configuration: what the Go driver's file may hold, what is refused, and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from openshell_credentials_keycloak import CredentialConfig, KeycloakConfig
from pydantic import ValidationError

from examples.keycloak_credentials.tests.world import canary

GO_FILE = """
credentials:
  github:
    client_id: github-agent
    client_secret_ref: github-secret
    token_endpoint: https://keycloak.example/realms/team1/protocol/openid-connect/token
    scopes: [repo, read:org]
  plain:
    client_id: plain
    client_secret_ref: plain-secret
    token_endpoint: https://keycloak.example/realms/team2/protocol/openid-connect/token
    scopes:
"""

BASE: dict[str, Any] = {
    "client_id": "agent",
    "client_secret_ref": "secret",
    "token_endpoint": "https://issuer.example/token",
}


def problems(**changes: Any) -> str:
    """Tell what is wrong with a credential of these settings; ``...`` leaves a key out."""
    settings = {key: value for key, value in {**BASE, **changes}.items() if value is not ...}
    with pytest.raises(ValidationError) as caught:
        KeycloakConfig.model_validate({"credentials": {"one": settings}})
    return str(caught.value)


def test_file_of_the_go_driver_is_taken() -> None:
    config = KeycloakConfig.model_validate(yaml.safe_load(GO_FILE))

    assert config.secrets_dir == Path("/etc/openshell/secrets")
    assert config.credentials["github"].scopes == ("repo", "read:org")
    assert config.credentials["plain"].scopes == ()
    assert config.credentials["plain"].auth == "client_secret_post"


@pytest.mark.parametrize("document", [{}, {"credentials": {}}, {"credentials": None}])
def test_no_credentials_is_an_error(document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="credentials"):
        KeycloakConfig.model_validate(document)


@pytest.mark.parametrize("key", ["client_id", "client_secret_ref", "token_endpoint"])
def test_missing_key_is_named(key: str) -> None:
    assert key in problems(**{key: ...})


@pytest.mark.parametrize("key", ["client_secret", "token_url", "scope"])
def test_unknown_key_is_refused_and_named(key: str) -> None:
    assert f"credentials.one.{key}" in problems(**{key: "x"})


def test_http_endpoint_is_refused_unless_opted_out() -> None:
    told = problems(token_endpoint="http://issuer.example/token")

    assert "credentials.one.token_endpoint" in told
    assert "allow_http" in told
    CredentialConfig(**{**BASE, "token_endpoint": "http://issuer.example/t", "allow_http": True})


@pytest.mark.parametrize(
    "url",
    [
        "issuer.example/token",
        "ftp://issuer.example/token",
        "https:///token",
        "https://user:pass@issuer.example/token",
        "https://issuer.example/token#part",
        "https://issuer.example/to ken",
        "https://issuer.example:99999/token",
        "https://issuer.example/\ntoken",
        "https://[broken/token",
        "",
    ],
)
def test_endpoint_that_is_no_plain_url_is_refused(url: str) -> None:
    assert "credentials.one.token_endpoint" in problems(token_endpoint=url)


def test_endpoint_and_issuer_exclude_each_other() -> None:
    assert "exactly one" in problems(issuer="https://issuer.example")
    assert "exactly one" in problems(token_endpoint=...)


@pytest.mark.parametrize(
    "ref", ["../secret", "a/../../secret", "/etc/passwd", "", " ", ".", "..", "a\0b"]
)
def test_ref_that_may_leave_the_directory_is_refused(ref: str) -> None:
    assert "credentials.one.client_secret_ref" in problems(client_secret_ref=ref)


@pytest.mark.parametrize("scopes", [["two words"], [""], ["a\nb"], ["ä"], ['"'], "repo", [1]])
def test_scope_that_is_no_scope_is_refused(scopes: object) -> None:
    assert "credentials.one.scopes" in problems(scopes=scopes)


@pytest.mark.parametrize("key", ["timeout", "connect_timeout"])
@pytest.mark.parametrize("value", [0, -1, 26, float("nan"), float("inf"), "soon"])
def test_time_limit_is_positive_and_below_the_gateways(key: str, value: object) -> None:
    assert f"credentials.one.{key}" in problems(**{key: value})


@pytest.mark.parametrize("value", ["relative", "", "a\0"])
@pytest.mark.parametrize("key", ["ca_file", "subject_token_file"])
def test_files_outside_of_the_secrets_are_named_absolutely(key: str, value: str) -> None:
    assert f"credentials.one.{key}" in problems(**{key: value})


@pytest.mark.parametrize("resource", ["not-a-uri", "https://api.example/#x", ["https://ok", "no"]])
def test_resource_is_an_absolute_uri(resource: object) -> None:
    assert "credentials.one.resource" in problems(resource=resource)


def test_one_or_many_audiences_and_resources() -> None:
    one = CredentialConfig(**{**BASE, "audience": "a", "resource": "https://a.example"})
    many = CredentialConfig(**{**BASE, "audience": ["a", "b"], "resource": None})

    assert (one.audience, one.resource) == (("a",), ("https://a.example",))
    assert (many.audience, many.resource) == (("a", "b"), ())


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"auth": "private_key_jwt"}, "client_secret_ref"),
        ({"auth": "private_key_jwt", "client_secret_ref": ...}, "private_key_ref"),
        ({"auth": "tls_client_auth", "client_secret_ref": ...}, "client_cert_ref"),
        (
            {"auth": "tls_client_auth", "client_secret_ref": ..., "client_cert_ref": "c"},
            "client_key_ref",
        ),
        ({"private_key_ref": "key"}, "private_key_ref"),
        ({"auth": "client_secret_basic", "key_id": "k"}, "key_id"),
        ({"auth": "none"}, "auth"),
        ({"subject_token_type": "t"}, "subject_token_file"),
        ({"requested_token_type": "t"}, "subject_token_file"),
    ],
)
def test_keys_that_do_not_fit_together_are_named(changes: dict[str, Any], key: str) -> None:
    assert key in problems(**changes)


def test_client_certificate_needs_https() -> None:
    changes = {"client_secret_ref": ..., "client_cert_ref": "c", "client_key_ref": "k"}
    url = {"token_endpoint": "http://issuer.example/token", "allow_http": True}
    assert "https" in problems(auth="tls_client_auth", **changes, **url)


def test_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError):
        CredentialConfig(**BASE).client_id = "other"


@pytest.mark.parametrize(
    "key", ["client_secret", "client_secret_ref", "token_endpoint", "scopes", "auth", "ca_file"]
)
def test_errors_never_show_a_value(key: str) -> None:
    value = f"{canary()} /../"
    with pytest.raises(ValidationError) as caught:
        KeycloakConfig.model_validate({"credentials": {"one": {**BASE, key: value}}})

    told = f"{caught.value} {caught.value.errors(include_input=False)!r}"
    assert "canary" not in told


def test_name_of_a_credential_is_text() -> None:
    for name in ("", "a\nb", 7):
        with pytest.raises(ValidationError):
            KeycloakConfig.model_validate({"credentials": {name: BASE}})
