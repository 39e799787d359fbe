"""The smallest driver on the SDK: ``sdk.py --socket SOCKET``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from openshell_drivers import Credential, CredentialInfo, CredentialRef, CredentialsDriver, Secret
from openshell_drivers.cli import driver_main


class OneToken(CredentialsDriver):
    """Gives the same token under every name."""

    name = "one-token"
    version = "1"

    def __init__(self, config: None = None) -> None:
        super().__init__(config)
        self._credential = Credential(
            token=Secret("t" * 1200), expires_at=datetime.now(UTC) + timedelta(hours=1)
        )

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        return self._credential

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        return [CredentialInfo(name="one")]


if __name__ == "__main__":
    driver_main(OneToken)
