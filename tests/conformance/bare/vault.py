"""`Vault`: where the store keeps its objects."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.conformance.bare.handles import Owner
from tests.conformance.bare.ledger import Ledger
from tests.conformance.bare.switch import Switch


@dataclass(frozen=True)
class Stored:
    """One object."""

    handle: str
    owner: Owner
    value: str
    expires_at: float | None


class Vault:
    """Objects by handle. A change is durable when a method returns."""

    limit = 4.0

    def __init__(self, ledger: Ledger, switch: Switch) -> None:
        self.ledger = ledger
        self.switch = switch

    async def reach(self) -> None:
        await self.switch.access(self.limit)

    def put(
        self, handle: str, owner: Owner, object_id: str, value: str, expires_at: float | None
    ) -> None:
        """Keep a value under a handle, whether there is one or not."""
        with self.ledger.writing():
            self.ledger.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                *(handle, owner.workspace, owner.provider, owner.provider_id, owner.key),
                *(object_id, value, expires_at),
            )

    def get(self, handle: str) -> Stored | None:
        found = self._read("WHERE handle = ?", handle)
        return found[0] if found else None

    def all(self) -> list[Stored]:
        return self._read("ORDER BY handle")

    def _read(self, which: str, *values: str) -> list[Stored]:
        return [
            Stored(
                row["handle"],
                Owner(row["workspace"], row["provider"], row["provider_id"], row["key"]),
                row["value"],
                row["expires_at"],
            )
            for row in self.ledger.rows(f"SELECT * FROM objects {which}", *values)
        ]

    def remove(self, handle: str) -> None:
        """Remove an object; one that is not there is no error."""
        with self.ledger.writing():
            self.ledger.execute("DELETE FROM objects WHERE handle = ?", handle)

    def is_over(self, stored: Stored) -> bool:
        """Whether a value has expired."""
        return stored.expires_at is not None and stored.expires_at <= time.time()
