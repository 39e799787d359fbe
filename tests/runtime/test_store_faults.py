"""A credential store whose methods go wrong: a batch is answered in full or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import pytest

from openshell_drivers import (
    CredentialSlot,
    CredentialStore,
    DriverError,
    Secret,
    StoredCredential,
)
from openshell_drivers.client import StoredRef, connect
from openshell_drivers.server import running
from tests.fakes.polling import until

CANARY = "canary-c41d-value"


class Faulty(CredentialStore):
    """Resolves all keys but those that say how they fail."""

    name = "faulty"

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Secret] = {}

    async def store_credential(self, slot: CredentialSlot, value: Secret) -> None:
        self.kept[slot.id] = value
        if slot.key == "HANGS":
            await anyio.sleep_forever()

    async def resolve_stored_credential(self, slot: CredentialSlot) -> StoredCredential:
        if slot.key == "LOST":
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone
        if slot.key == "BOOM":
            raise RuntimeError(CANARY)
        return StoredCredential(value=Secret(CANARY))

    async def delete_credential(self, slot: CredentialSlot) -> None:
        self.kept.pop(slot.id, None)


def _owned(key: str) -> dict[str, str]:
    return {"workspace": "w", "provider": "p", "provider_id": "i", "key": key}


@pytest.mark.parametrize("bad", ["LOST", "BOOM"])
async def test_batch_with_an_item_that_fails_oddly_is_an_error_and_never_a_part(
    socket_path: Path, bad: str
) -> None:
    async with running(Faulty(), socket=socket_path), connect(socket_path) as client:
        store = client.credential_store
        refs: list[StoredRef] = [
            await store.store_credential(Secret("v"), **_owned(key)) for key in ("A", "B", bad, "C")
        ]
        with pytest.raises(DriverError) as caught:
            await store.resolve_credentials(refs)

    assert caught.value.code == "INTERNAL"
    assert CANARY not in caught.value.message


async def test_store_that_is_given_up_leaves_nothing(socket_path: Path) -> None:
    driver = Faulty()
    async with running(driver, socket=socket_path):
        async with connect(socket_path, timeout=0.2) as client:
            with pytest.raises(DriverError):
                await client.credential_store.store_credential(Secret("v"), **_owned("HANGS"))
        await until(lambda: not driver.kept)  # undone after the caller has gone

    assert driver.kept == {}
