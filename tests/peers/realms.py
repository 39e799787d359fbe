"""Writes the realms that Keycloak imports: two tenants with the same clients, other secrets.

Every secret is drawn anew for each `Realms`, so that a test may search everything it wrote for
them: each is a canary.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey, RSAKey

JsonObject = dict[str, Any]

TEAM1 = "team1"
TEAM2 = "team2"
TENANTS = (TEAM1, TEAM2)

PLAIN = "sandbox"
"""A confidential client with a service account, like most."""
DISABLED = "sandbox-disabled"
"""The same, switched off."""
SHORT_LIVED = "sandbox-short"
"""Its tokens live `SHORT_LIFE` seconds."""
SCOPED = "sandbox-scoped"
"""May ask for the scope `REPO_SCOPE`; the others may not."""
JWT_CLIENT = "sandbox-jwt"
"""Authenticates with a signed assertion (private_key_jwt) and has no secret."""
X509_CLIENT = "sandbox-x509"
"""Authenticates with a client certificate of subject `X509_SUBJECT`; needs HTTPS."""
EXCHANGER = "sandbox-exchanger"
"""May exchange tokens (RFC 8693) whose audience it is, for the audience `TARGET`."""
SUBJECT = "sandbox-subject"
"""Its access tokens have `EXCHANGER` in their audience: subject tokens for the exchange."""
TARGET = "repo-api"
"""A resource server: the audience that `EXCHANGER` may ask for."""

REPO_SCOPE = "repo"
UNKNOWN_SCOPE = "no-such-scope"
SHORT_LIFE = 6
REALM_LIFE = 300
X509_COMMON_NAME = "sandbox-x509.client.test"
X509_SUBJECT = f"CN={X509_COMMON_NAME},OU=peers,O=openshell-drivers"

_WITH_SECRET = (PLAIN, DISABLED, SHORT_LIVED, SCOPED, EXCHANGER, SUBJECT)


@dataclass(frozen=True)
class JwtKey:
    """A key pair for private_key_jwt, as the client (PEM) and the server (JWK) want it."""

    alg: str
    kid: str
    private_pem: bytes = field(repr=False)
    public_jwk: JsonObject

    @classmethod
    def generate(cls, alg: str) -> JwtKey:
        """Draw a key for RS256 or ES256."""
        key: RSAKey | ECKey
        key = RSAKey.generate_key(2048) if alg == "RS256" else ECKey.generate_key("P-256")
        kid = key.thumbprint()
        public = {**key.as_dict(private=False), "kid": kid, "alg": alg, "use": "sig"}
        return cls(alg, kid, key.as_pem(private=True), public)


@dataclass(frozen=True)
class Realms:
    """What one Keycloak is to be loaded with, and the secrets that go with it.

    `jwt_jwks` is the public key set of `JWT_CLIENT`; left out, an RS256 and an ES256 pair are
    drawn and given in `jwt_keys`.
    """

    jwt_jwks: Sequence[JsonObject] | None = None
    client_secrets: Mapping[tuple[str, str], str] = field(
        default_factory=lambda: {
            (realm, client): f"canary-{secrets.token_urlsafe(24)}"
            for realm in TENANTS
            for client in _WITH_SECRET
        },
        repr=False,
    )
    jwt_keys: dict[str, JwtKey] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.jwt_jwks is None:
            self.jwt_keys.update({alg: JwtKey.generate(alg) for alg in ("RS256", "ES256")})

    def secret(self, realm: str, client_id: str) -> str:
        """Return the secret that the client was loaded with."""
        return self.client_secrets[realm, client_id]

    def write(self, folder: Path) -> None:
        """Write one import file for each tenant."""
        folder.mkdir(parents=True, exist_ok=True)
        for realm in TENANTS:
            target = folder / f"{realm}-realm.json"
            target.write_text(json.dumps(self.document(realm), indent=1), encoding="utf-8")

    def document(self, realm: str) -> JsonObject:
        """Return the import document of one tenant."""
        return {
            "realm": realm,
            "enabled": True,
            "accessTokenLifespan": REALM_LIFE,
            "clientScopes": [_basic_scope(), _repo_scope()],
            "defaultDefaultClientScopes": ["basic"],
            "clients": self._clients(realm),
        }

    def _clients(self, realm: str) -> list[JsonObject]:
        keys = self.jwt_jwks
        if keys is None:
            keys = [key.public_jwk for key in self.jwt_keys.values()]
        jwks = {"use.jwks.string": "true", "jwks.string": json.dumps({"keys": list(keys)})}
        x509 = {"x509.subjectdn": X509_SUBJECT, "x509.allow.regex.pattern.comparison": "false"}
        life = {"access.token.lifespan": str(SHORT_LIFE)}
        exchange = {"standard.token.exchange.enabled": "true"}
        return [
            self._client(realm, PLAIN),
            self._client(realm, DISABLED, enabled=False),
            self._client(realm, SHORT_LIVED, attributes=life),
            self._client(realm, SCOPED, optionalClientScopes=[REPO_SCOPE]),
            self._client(realm, JWT_CLIENT, clientAuthenticatorType="client-jwt", attributes=jwks),
            self._client(
                realm, X509_CLIENT, clientAuthenticatorType="client-x509", attributes=x509
            ),
            self._client(
                realm, EXCHANGER, attributes=exchange, protocolMappers=[_audience(TARGET)]
            ),
            self._client(realm, SUBJECT, protocolMappers=[_audience(EXCHANGER)]),
            self._client(realm, TARGET, serviceAccountsEnabled=False),
        ]

    def _client(self, realm: str, client_id: str, **changes: Any) -> JsonObject:
        client: JsonObject = {
            "clientId": client_id,
            "enabled": True,
            "protocol": "openid-connect",
            "publicClient": False,
            "serviceAccountsEnabled": True,
            "standardFlowEnabled": False,
            "directAccessGrantsEnabled": False,
            "clientAuthenticatorType": "client-secret",
            "defaultClientScopes": ["basic"],
            "optionalClientScopes": [],
            **changes,
        }
        secret = self.client_secrets.get((realm, client_id))
        return client if secret is None else {**client, "secret": secret}


def _basic_scope() -> JsonObject:
    """Return the built-in scope that puts `sub` in; naming scopes keeps Keycloak from adding it."""
    return _scope("basic", [_mapper("sub", "oidc-sub-mapper", {})], shown=False)


def _repo_scope() -> JsonObject:
    return _scope(REPO_SCOPE, [], shown=True)


def _scope(name: str, mappers: Sequence[JsonObject], *, shown: bool) -> JsonObject:
    return {
        "name": name,
        "protocol": "openid-connect",
        "attributes": {"include.in.token.scope": str(shown).lower()},
        "protocolMappers": list(mappers),
    }


def _audience(client_id: str) -> JsonObject:
    return _mapper(
        f"audience {client_id}", "oidc-audience-mapper", {"included.client.audience": client_id}
    )


def _mapper(name: str, kind: str, config: Mapping[str, str]) -> JsonObject:
    return {
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": kind,
        "config": {"access.token.claim": "true", "introspection.token.claim": "true", **config},
    }
