"""The form of a token request: what is asked for, and the proof of who asks.

Knows nothing of HTTP beyond a form's fields and one header.
"""

from __future__ import annotations

import base64
from typing import Final
from urllib.parse import quote

import anyio.to_thread

from openshell_credentials_keycloak._assertion import ASSERTION_TYPE, load_key, sign_assertion
from openshell_credentials_keycloak._material import Material
from openshell_credentials_keycloak.config import JWT_TYPE, CredentialConfig
from openshell_drivers import Secret

Fields = list[tuple[str, str]]

EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"


def grant_fields(config: CredentialConfig, subject: Secret | None) -> Fields:
    """Say what is asked for: client_credentials (RFC 6749 4.4) or token exchange (RFC 8693)."""
    fields: Fields = []
    if subject is None:
        fields.append(("grant_type", "client_credentials"))
    else:
        fields += [
            ("grant_type", EXCHANGE),
            ("subject_token", subject.reveal()),
            ("subject_token_type", config.subject_token_type or JWT_TYPE),
        ]
    if config.requested_token_type is not None:
        fields.append(("requested_token_type", config.requested_token_type))
    if config.scopes:
        fields.append(("scope", " ".join(config.scopes)))
    fields += [("audience", audience) for audience in config.audience]
    fields += [("resource", resource) for resource in config.resource]
    return fields


async def client_proof(
    config: CredentialConfig, material: Material, endpoint: str
) -> tuple[Fields, dict[str, str]]:
    """Give the fields and headers that say who asks, by the configured method."""
    if config.auth == "client_secret_basic":
        return [], {"Authorization": _basic(config.client_id, _present(material.secret))}
    fields = [("client_id", config.client_id)]
    if config.auth == "client_secret_post":
        fields.append(("client_secret", _present(material.secret).reveal()))
    elif config.auth == "private_key_jwt":
        key = await anyio.to_thread.run_sync(load_key, _present(material.key))
        assertion = sign_assertion(config, key, endpoint)
        fields.append(("client_assertion_type", ASSERTION_TYPE))
        fields.append(("client_assertion", assertion))
    return fields, {}  # tls_client_auth: the certificate is the proof (RFC 8705 2)


def _basic(client_id: str, secret: Secret) -> str:
    # RFC 6749 2.3.1: each part is form-encoded first, so that a colon in the id is no border.
    # A space as %20: every form decoder knows that, while some issuers leave a + as it is.
    pair = f"{quote(client_id, safe='')}:{quote(secret.reveal(), safe='')}"
    return "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")


def _present(secret: Secret | None) -> Secret:
    if secret is None:
        raise AssertionError("the configuration was not validated")
    return secret
