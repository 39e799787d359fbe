"""The configuration: which credentials there are, and how each one's token is asked for.

A superset of the Go driver's file. Holds no secret, only the names of files that do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from openshell_credentials_keycloak._rules import (
    AbsolutePath,
    Name,
    Ref,
    Resources,
    Scopes,
    Seconds,
    Text,
    Texts,
    check_url,
)
from openshell_drivers.config import DriverConfig

AuthMethod = Literal[
    "client_secret_post", "client_secret_basic", "private_key_jwt", "tls_client_auth"
]
SigningAlgorithm = Literal["RS256", "PS256", "ES256", "EdDSA"]

JWT_TYPE: Final = "urn:ietf:params:oauth:token-type:jwt"

_NEEDED: Final[dict[AuthMethod, tuple[str, ...]]] = {
    "client_secret_post": ("client_secret_ref",),
    "client_secret_basic": ("client_secret_ref",),
    "private_key_jwt": ("private_key_ref",),
    "tls_client_auth": ("client_cert_ref", "client_key_ref"),
}
_POSSIBLE: Final[dict[AuthMethod, tuple[str, ...]]] = {
    "private_key_jwt": ("key_id", "signing_alg", "assertion_audience"),
}
_AUTH_KEYS: Final = (
    *dict.fromkeys(key for keys in (*_NEEDED.values(), *_POSSIBLE.values()) for key in keys),
)


class CredentialConfig(DriverConfig):
    """One credential: a client at an issuer, and the token it may have."""

    allow_http: bool = False
    """Permit http URLs: the client's secret and the token then travel unencrypted."""
    client_id: Text
    """The client's id at the issuer."""
    token_endpoint: str | None = None
    """Where tokens are asked for. Either this or `issuer`."""
    issuer: str | None = None
    """The issuer whose metadata says where (RFC 8414, OpenID Connect Discovery)."""

    auth: AuthMethod = "client_secret_post"
    """How the client proves who it is (RFC 6749 2.3.1, RFC 7523 2.2, RFC 8705 2)."""
    client_secret_ref: Ref | None = None
    """The file in `secrets_dir` with the secret; whitespace around it does not count."""
    private_key_ref: Ref | None = None
    """The file in `secrets_dir` with the signing key: PEM, or a JWK."""
    key_id: Text | None = None
    """The ``kid`` of assertions; by default the one of the JWK, if it has one."""
    signing_alg: SigningAlgorithm | None = None
    """By default RS256, ES256 or EdDSA, whichever suits the key."""
    assertion_audience: Text | None = None
    """The ``aud`` of assertions; by default the token endpoint."""
    client_cert_ref: Ref | None = None
    """The file in `secrets_dir` with the client's certificate chain, PEM."""
    client_key_ref: Ref | None = None
    """The file in `secrets_dir` with the certificate's key, PEM, not encrypted."""

    scopes: Scopes = ()
    """What the token shall be good for; also what the list of credentials shows."""
    audience: Texts = ()
    """Who shall accept the token: one, or a list (RFC 8693 2.1)."""
    resource: Resources = ()
    """Where it will be used: one URI, or a list (RFC 8707)."""
    subject_token_file: AbsolutePath | None = None
    """The token to exchange (RFC 8693); read anew for each request. Without it, the grant is
    client_credentials."""
    subject_token_type: Text | None = None
    """What that token is; by default a JWT."""
    requested_token_type: Text | None = None
    """What token shall come back; the issuer decides if this is not set."""

    ca_file: AbsolutePath | None = None
    """The PEM bundle of CAs to trust instead of the system's."""
    proxy: str | None = None
    """The HTTP proxy to go through. Proxies named in the environment are not used."""
    connect_timeout: Seconds = 3.0
    """How long a connection may take to open; a pod's network is ready or it is not."""
    timeout: Seconds = 10.0
    """How long a token may take in all, discovery and retry included; well below a gateway's 30."""

    @field_validator("token_endpoint", "issuer")
    @classmethod
    def _encrypted(cls, url: str | None, info: ValidationInfo) -> str | None:
        return url if url is None else check_url(url, allow_http=info.data.get("allow_http", False))

    @field_validator("issuer")
    @classmethod
    def _issuer_has_no_query(cls, url: str | None) -> str | None:
        if url is not None and "?" in url:
            raise ValueError("must not hold a query")
        return url

    @field_validator("proxy")
    @classmethod
    def _plain_proxy(cls, url: str | None) -> str | None:
        return url if url is None else check_url(url, allow_http=True)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.token_endpoint is None) == (self.issuer is None):
            raise ValueError("exactly one of token_endpoint and issuer must be set")
        return self

    @model_validator(mode="after")
    def _keys_suit_auth(self) -> Self:
        needed = _NEEDED[self.auth]
        possible = (*needed, *_POSSIBLE.get(self.auth, ()))
        for key in _AUTH_KEYS:
            if key in needed and getattr(self, key) is None:
                raise ValueError(f"{key} must be set with auth: {self.auth}")
            if key not in possible and getattr(self, key) is not None:
                raise ValueError(f"{key} has no meaning with auth: {self.auth}")
        return self

    @model_validator(mode="after")
    def _certificates_need_https(self) -> Self:
        url = self.token_endpoint or self.issuer or ""
        if self.auth == "tls_client_auth" and not url.startswith("https:"):
            raise ValueError("auth: tls_client_auth needs an https URL")
        return self

    @model_validator(mode="after")
    def _exchange_has_a_subject(self) -> Self:
        if self.subject_token_file is None:
            for key in ("subject_token_type", "requested_token_type"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} has no meaning without subject_token_file")
        return self


class KeycloakConfig(DriverConfig):
    """The whole file."""

    credentials: Annotated[dict[Name, CredentialConfig], Field(min_length=1, max_length=1024)]
    """The credentials by name. At least one."""
    secrets_dir: Path = Path("/etc/openshell/secrets")
    """Where the files are that the ``_ref`` keys name."""
