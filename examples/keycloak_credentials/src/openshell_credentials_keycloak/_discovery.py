"""Finds an issuer's token endpoint in its metadata (RFC 8414 section 3, OIDC Discovery 4).

Knows nothing of HTTP: it is given the means to fetch.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from openshell_credentials_keycloak._answers import Answer, refusal
from openshell_credentials_keycloak._faults import Fault
from openshell_credentials_keycloak._rules import check_url
from openshell_credentials_keycloak.config import CredentialConfig
from openshell_drivers import FailedPrecondition, Unavailable

KEPT: Final = 3600.0
"""Seconds; how long metadata is used before it is read again."""


class Discovery:
    """The token endpoint of one credential, known or looked up."""

    def __init__(
        self, config: CredentialConfig, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._clock = clock
        self._found: str | None = None
        self._until = 0.0

    async def endpoint(self, get: Callable[[str], Awaitable[Answer]]) -> str:
        """Give the configured endpoint, or the discovered one; an hour at most from memory.

        `Fault` if the metadata cannot be had, are another issuer's, or name no usable endpoint.
        """
        config = self._config
        if config.issuer is None:
            return config.token_endpoint or ""
        if self._found is None or self._clock() >= self._until:
            answer = await get(f"{config.issuer.rstrip('/')}/.well-known/openid-configuration")
            self._found = self._read(config.issuer, answer)
            self._until = self._clock() + KEPT
        return self._found

    def forget(self) -> None:
        """Look again next time: the endpoint did not answer as one should."""
        self._found = None

    def _read(self, issuer: str, answer: Answer) -> str:
        if answer.status != 200:
            raise refusal(answer)
        document = answer.document()
        if document is None:
            raise Fault(Unavailable, "the issuer's metadata are not a JSON object")
        if document.get("issuer") != issuer:
            # RFC 8414 3.3: must be identical, or one issuer could pose as another.
            what = "the metadata are those of another issuer; issuer must match to the last slash"
            raise Fault(FailedPrecondition, what)
        return self._checked(self._named(document))

    def _named(self, document: Mapping[str, Any]) -> object:
        aliases = document.get("mtls_endpoint_aliases")  # RFC 8705 5
        if self._config.auth == "tls_client_auth" and isinstance(aliases, dict):
            return aliases.get("token_endpoint") or document.get("token_endpoint")
        return document.get("token_endpoint")

    def _checked(self, url: object) -> str:
        if not isinstance(url, str) or len(url) > 2048:
            raise Fault(FailedPrecondition, "the issuer's metadata name no token endpoint")
        allow_http = self._config.allow_http and self._config.auth != "tls_client_auth"
        try:
            return check_url(url, allow_http=allow_http)
        except ValueError:
            what = "the token endpoint in the issuer's metadata is not a plain https URL"
            raise Fault(FailedPrecondition, what) from None
