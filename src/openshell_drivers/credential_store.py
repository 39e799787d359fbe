"""`CredentialStore`: keep secrets and give them back by opaque handle.

The service of the upstream gateway lines (CREDU and CREDU01 clauses). Knows nothing of the wire:
batches, handles and their ownership are the SDK's, so an author sees one slot at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from openshell_drivers._checks import require_aware, require_secret
from openshell_drivers.driver import ConfigT, Driver
from openshell_drivers.errors import Unimplemented
from openshell_drivers.secrets import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialSlot:
    """The place of one stored value. Made by the SDK; a driver uses `id` as its key.

    Every store without an existing handle gets a new slot, so no two values share one
    (CREDU-STORE-04). The `id` is derived from the owner below and from the handle, so a handle
    that is presented with another owner cannot lead to this slot (CREDU-HND-02).
    """

    id: str
    """Safe as a file name, a path segment, a Kubernetes name or a label: 40 characters of
    ``a-z0-9``, the first a letter. The same for every call with the same handle."""
    handle: str
    """What the gateway presents to name this slot. Opaque, holds no secret."""
    workspace: str
    provider: str
    """The provider's name, unique in its workspace."""
    provider_id: str
    key: str
    """Which of the provider's values: an environment variable's name, or
    ``openshell.refresh.<hex>``."""
    object_id: str = ""
    """What the gateway calls the object on a store: the `provider_id` or a staged name. Empty on
    any other call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredential:
    """A value as it was stored, byte for byte."""

    value: Secret
    expires_at: datetime | None = None
    """When it ends, with a time zone; None if never or not known."""

    def __post_init__(self) -> None:
        require_secret("value", self.value)
        require_aware("expires_at", self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCredential:
    """One stored object, without its value."""

    handle: str
    """The slot's `handle`."""
    keys: tuple[str, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Facts for an operator. Not secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCapabilities:
    """What a credential store says of itself."""

    driver_name: str
    driver_version: str
    backend_kind: str
    supports_list: bool
    supports_expires_at: bool


class CredentialStore(Driver[ConfigT]):
    """Keep, give back and delete secrets.

    The server resolves the items of a batch concurrently, at most `resolve_concurrency` at a
    time, and answers all of them or fails as a whole (CREDU-RES-01, CREDU-RES-02); checks that a
    handle belongs to the caller's workspace, provider and key; keeps writes to one slot apart
    (CREDU-CON-01); and deletes what a failed or cancelled first store may have left
    (CREDU-STORE-06).
    """

    backend_kind: ClassVar[str] = ""
    """Where values are kept, in a word; by default the driver's name."""

    reports_expiry: ClassVar[bool] = False
    """Whether `resolve_stored_credential` gives `expires_at`. Sets the capability; a driver that
    gives one without it is answered with `INTERNAL`."""

    resolve_concurrency: ClassVar[int] = 16
    """How many items of one batch are resolved at a time."""

    @abstractmethod
    async def store_credential(self, slot: CredentialSlot, value: Secret) -> None:
        """Keep the value under ``slot.id``, replacing what is there (CREDU-STORE-02).

        Durable when this returns: the process may be killed at any moment (COMP-SOCK-07). Any
        text of up to 1 MiB, including an empty one, is kept exactly (CREDU-STORE-03).
        """

    @abstractmethod
    async def resolve_stored_credential(self, slot: CredentialSlot) -> StoredCredential:
        """Give the value back. Raise `NotFound` if there is none, `DataLoss` if it is damaged.

        Called concurrently, for the items of a batch too.
        """

    @abstractmethod
    async def delete_credential(self, slot: CredentialSlot) -> None:
        """Remove the value. One that is not there is no error (CREDU-DEL-01)."""

    async def list_stored_credentials(self) -> Sequence[ListedCredential]:
        """List what is stored. Optional: overriding it sets the capability."""
        raise Unimplemented("this driver does not list what it stores")
