"""A driver of both credential services, in memory, that does what a test tells it to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final

import anyio

from openshell_drivers.credential_store import (
    CredentialSlot,
    CredentialStore,
    ListedCredential,
    StoredCredential,
)
from openshell_drivers.credentials import (
    Credential,
    CredentialInfo,
    CredentialRef,
    CredentialsDriver,
)
from openshell_drivers.errors import DriverError, NotFound
from openshell_drivers.secrets import Secret

#: When everything that ends ends. 4102444800123 ms: the 456 microseconds are not sent.
END: Final = datetime(2100, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)


class Vault(CredentialsDriver, CredentialStore):
    """Values under a key that begins with ``ENDS`` end at `END`; the others never do."""

    name = "vault"
    version = "1.2.3"
    backend_kind: ClassVar[str] = "memory"
    reports_expiry: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, tuple[CredentialSlot, Secret]] = {}
        self.tokens = {"github": Secret("ghp-1"), "forever": Secret("tok-2")}
        self.faults: dict[str, DriverError] = {}
        self.mistakes: dict[str, Exception] = {}
        self.pause = 0.0
        self.ends: datetime = END
        self.deleted: list[str] = []
        self.stored: list[CredentialSlot] = []
        self.entered = anyio.Event()
        self.removed = anyio.Event()
        self.busy: set[str] = set()
        self.overlapped = False

    def _fail(self, key: str) -> None:
        if key in self.faults:
            raise self.faults[key]
        if key in self.mistakes:
            raise self.mistakes[key]

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        await anyio.sleep(self.pause)
        self._fail(ref.name)
        if ref.name not in self.tokens:
            raise NotFound(f"no credential {ref.name!r}")
        ends = None if ref.name == "forever" else self.ends
        return Credential(token=self.tokens[ref.name], expires_at=ends)

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        return [CredentialInfo(name=name, scopes=("read", "write")) for name in self.tokens]

    async def store_credential(self, slot: CredentialSlot, value: Secret) -> None:
        self.overlapped |= slot.id in self.busy
        self.busy.add(slot.id)
        self.stored.append(slot)
        try:
            self.values[slot.id] = (slot, value)  # there before it is known to have succeeded
            self.entered.set()
            await anyio.sleep(self.pause)
            self._fail(slot.key)
        finally:
            self.busy.discard(slot.id)

    async def resolve_stored_credential(self, slot: CredentialSlot) -> StoredCredential:
        await anyio.sleep(self.pause)
        self._fail(slot.key)
        if slot.id not in self.values:
            raise NotFound("no such value")
        ends = self.ends if slot.key.startswith("ENDS") else None
        return StoredCredential(value=self.values[slot.id][1], expires_at=ends)

    async def delete_credential(self, slot: CredentialSlot) -> None:
        self.deleted.append(slot.id)
        await anyio.sleep(0.01)  # as a real backend would: an undo must not be cut off here
        self._fail(slot.key)
        self.values.pop(slot.id, None)
        self.removed.set()

    async def list_stored_credentials(self) -> Sequence[ListedCredential]:
        return [
            ListedCredential(handle=slot.handle, keys=(slot.key,), metadata={"where": "memory"})
            for slot, _ in self.values.values()
        ]
