"""What the tests share: a secrets directory, configurations on it, and drivers that live."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from openshell_credentials_keycloak import KeycloakConfig, KeycloakDriver

from openshell_drivers import Credential, CredentialRef, DriverError

Settings = dict[str, Any]


def canary(kind: str = "secret") -> str:
    """Draw a text that is found wherever it leaks."""
    return f"canary-{kind}-{secrets.token_hex(12)}"


class World:
    """A folder for secrets, and what is made on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets_dir = folder / "secrets"
        self.secrets_dir.mkdir()

    def write(self, ref: str, text: str) -> Path:
        """Put a file into the secrets directory, in place of one of the same name."""
        path = self.secrets_dir / ref
        draft = self.secrets_dir / f".{ref}.new"
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
        return path

    def post(self, url: str, *, secret: str | None = None, **changes: Any) -> Settings:
        """Configure a credential with a posted secret, drawn if none is given."""
        ref = f"secret-{secrets.token_hex(4)}"
        self.write(ref, canary() if secret is None else secret)
        found = {"client_id": "sandbox", "client_secret_ref": ref, "token_endpoint": url}
        return {**found, "allow_http": url.startswith("http:"), **changes}

    def config(self, credentials: Mapping[str, Settings]) -> KeycloakConfig:
        """Validate a configuration on this world's secrets."""
        whole = {"credentials": dict(credentials), "secrets_dir": self.secrets_dir}
        return KeycloakConfig.model_validate(whole)

    @asynccontextmanager
    async def driver(self, **credentials: Settings) -> AsyncIterator[KeycloakDriver]:
        """Run a driver without a server."""
        driver = KeycloakDriver(self.config(credentials))
        async with driver.lifespan():
            yield driver


async def resolve(driver: KeycloakDriver, name: str = "one") -> Credential:
    """Ask a driver for a credential."""
    return await driver.resolve_credential(CredentialRef(name=name))


async def failure(driver: KeycloakDriver, name: str = "one") -> DriverError:
    """Ask a driver for a credential that it cannot give."""
    with pytest.raises(DriverError) as caught:
        await resolve(driver, name)
    return caught.value


async def until(holds: Callable[[], bool], limit: float = 20.0) -> None:
    """Wait until something outside of this program has happened; fails after `limit` seconds."""
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        await anyio.sleep(0.01)
