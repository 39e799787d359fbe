"""Server reflection as a tool uses it: real names, although two services share a package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread
import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from openshell_drivers import (
    Credential,
    CredentialInfo,
    CredentialRef,
    CredentialsDriver,
    CredentialSlot,
    CredentialStore,
    NotFound,
    Secret,
    StoredCredential,
)
from openshell_drivers.reference.memory import Memory, MemoryConfig
from openshell_drivers.server import ServerOptions, running

pytestmark = pytest.mark.anyio

NAMED = "openshell.credentials.v1.CredentialsDriver"
COMPUTE = "openshell.compute.v1.ComputeDriver"
STORED = "openshell.credentials.v1.CredentialDriver"


class Both(CredentialsDriver, CredentialStore):
    name = "both"

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        raise NotFound(ref.name)

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        return []

    async def store_credential(self, slot: CredentialSlot, value: Secret) -> None: ...

    async def resolve_stored_credential(self, slot: CredentialSlot) -> StoredCredential:
        raise NotFound(slot.id)

    async def delete_credential(self, slot: CredentialSlot) -> None: ...


def look(socket: Path) -> dict[str, dict[str, list[str]]]:
    """Give service -> method -> the fields of its request, as reflection tells them."""
    with grpc.insecure_channel(
        f"unix:{socket}", options=[("grpc.default_authority", "localhost")]
    ) as channel:
        names = [
            name
            for name in ProtoReflectionDescriptorDatabase(channel).get_services()
            if not name.startswith("grpc.reflection")
        ]
        found = {}
        for name in names:
            # A pool for each, as the two credential services cannot share one.
            pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
            methods = pool.FindServiceByName(name).methods
            found[name] = {m.name: [f.name for f in m.input_type.fields] for m in methods}
        return found


async def test_each_service_is_described_under_its_real_name(tmp_path: Path) -> None:
    socket = tmp_path / "driver.sock"

    async with running(Both(), socket=socket, options=ServerOptions(reflection=True)):
        found = await anyio.to_thread.run_sync(look, socket)

    assert sorted(found) == ["grpc.health.v1.Health", STORED, NAMED]
    assert found[NAMED] == {"ResolveCredential": ["name"], "ListCredentials": []}
    assert found[STORED]["GetCapabilities"] == ["gateway"]
    assert found[STORED]["ResolveCredentials"] == ["credentials"]
    assert "workspace" in found[STORED]["StoreCredential"]


async def test_the_compute_service_is_described_with_the_types_it_imports(tmp_path: Path) -> None:
    socket = tmp_path / "driver.sock"

    async with running(
        Memory(MemoryConfig()), socket=socket, options=ServerOptions(reflection=True)
    ):
        found = await anyio.to_thread.run_sync(look, socket)

    assert sorted(found) == ["grpc.health.v1.Health", COMPUTE, STORED, NAMED]
    assert len(found[COMPUTE]) == 13
    assert found[COMPUTE]["CreateSandbox"] == ["sandbox"]
    assert found[COMPUTE]["GetCapabilities"] == ["gateway"]


async def test_without_the_option_there_is_no_reflection(tmp_path: Path) -> None:
    socket = tmp_path / "driver.sock"

    async with running(Both(), socket=socket):
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            await anyio.to_thread.run_sync(look, socket)
