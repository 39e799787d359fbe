"""Changes a running Keycloak over its admin API, the way an operator would during a run."""

from __future__ import annotations

import ssl
from typing import Any

from tests.peers.plainhttp import Reply, request
from tests.peers.processes import PeerFailed

_KEY_PROVIDER = "org.keycloak.keys.KeyProvider"


class KeycloakAdmin:
    """The bootstrap administrator of one Keycloak; logs in anew for each call."""

    def __init__(
        self, base_url: str, username: str, password: str, tls: ssl.SSLContext | None = None
    ) -> None:
        self._base_url = base_url
        self._login = {"username": username, "password": password}
        self._tls = tls

    def set_client_enabled(self, realm: str, client_id: str, enabled: bool) -> None:
        """Switch a client on or off."""
        self._update_client(realm, client_id, enabled=enabled)

    def rotate_client_secret(self, realm: str, client_id: str) -> str:
        """Give the client a new secret and return it; the old one ends at once."""
        uuid = self._client(realm, client_id)["id"]
        secret = self._call("POST", f"{realm}/clients/{uuid}/client-secret").json()["value"]
        return str(secret)

    def set_token_lifespan(self, realm: str, client_id: str, seconds: int) -> None:
        """Set the life of the access tokens issued to the client from now on."""
        attributes = {
            **self._client(realm, client_id).get("attributes", {}),
            "access.token.lifespan": str(seconds),
        }
        self._update_client(realm, client_id, attributes=attributes)

    def rotate_realm_keys(self, realm: str) -> str:
        """Add an RSA key that takes precedence over all others and return its kid."""
        before = self.signing_kid(realm)
        priority = self._highest_priority(realm) + 100
        config = {
            "priority": [str(priority)],
            "enabled": ["true"],
            "active": ["true"],
            "keySize": ["2048"],
            "algorithm": ["RS256"],
        }
        component = {
            "name": f"rotated-{priority}",
            "providerId": "rsa-generated",
            "providerType": _KEY_PROVIDER,
            "parentId": self._call("GET", realm).json()["id"],
            "config": config,
        }
        self._call("POST", f"{realm}/components", component)
        after = self.signing_kid(realm)
        if after == before:
            raise PeerFailed(f"realm {realm} still signs with {before}")
        return after

    def signing_kid(self, realm: str) -> str:
        """Return the kid of the key that signs RS256 tokens now."""
        return str(self._call("GET", f"{realm}/keys").json()["active"]["RS256"])

    def _highest_priority(self, realm: str) -> int:
        found = self._call("GET", f"{realm}/components?type={_KEY_PROVIDER}").json()
        given = [component["config"].get("priority", ["0"]) for component in found]
        return max(int(priority) for (priority,) in given)

    def _client(self, realm: str, client_id: str) -> dict[str, Any]:
        found: list[dict[str, Any]]
        found = self._call("GET", f"{realm}/clients?clientId={client_id}").json()
        if len(found) != 1:
            raise PeerFailed(f"realm {realm} has {len(found)} clients called {client_id}")
        return found[0]

    def _update_client(self, realm: str, client_id: str, **changes: object) -> None:
        client = self._client(realm, client_id)
        self._call("PUT", f"{realm}/clients/{client['id']}", {**client, **changes})

    def _call(self, method: str, path: str, content: object = None) -> Reply:
        headers = {"Authorization": f"Bearer {self._access_token()}"}
        url = f"{self._base_url}/admin/realms/{path}"
        reply = request(method, url, content=content, headers=headers, tls=self._tls)
        if not 200 <= reply.status < 300:
            raise PeerFailed(f"{method} {path} answered {reply.status}: {reply.body[:300]!r}")
        return reply

    def _access_token(self) -> str:
        url = f"{self._base_url}/realms/master/protocol/openid-connect/token"
        form = {"grant_type": "password", "client_id": "admin-cli", **self._login}
        reply = request("POST", url, form=form, tls=self._tls)
        if reply.status != 200:
            raise PeerFailed(f"the administrator's login answered {reply.status}")
        return str(reply.json()["access_token"])
