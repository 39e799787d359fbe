"""A driver with a configuration, which brings pydantic: ``configured.py --config``."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from openshell_drivers import (
    Credential,
    CredentialInfo,
    CredentialRef,
    CredentialsDriver,
    DriverConfig,
    Secret,
)
from openshell_drivers.cli import driver_main


class Entry(DriverConfig):
    """One name."""

    token: Secret
    scopes: tuple[str, ...] = ()


class Table(DriverConfig):
    """All names."""

    credentials: dict[str, Entry] = Field(min_length=1)


class Tabled(CredentialsDriver[Table]):
    """Gives tokens out of its configuration."""

    name = "tabled"
    version = "1"

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        return Credential(token=self.config.credentials[ref.name].token)

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        entries = self.config.credentials.items()
        return [CredentialInfo(name=name, scopes=entry.scopes) for name, entry in entries]


if __name__ == "__main__":
    driver_main(Tabled)
