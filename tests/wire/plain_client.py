"""Be a client of one gateway line, with that line's own schema, in a process of its own.

Run as ``python plain_client.py FOLDER REVISION SOCKET`` with the modules that protoc made of the
revision's schema in FOLDER, against the driver of tests/wire/vault.py. It uses protobuf's default
pool and must never import openshell_drivers: it stands for software that knows nothing of it.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

SECONDS = 30.0
END_MS = 4_102_444_800_123
CONTRACT = "openshell.credentials.contract"
REFRESH = "openshell.refresh." + "0a" * 32
VALUES = {"ENDS_TOKEN": "s3cret", "EMPTY": "", REFRESH: "två\nrader\n", "ENDS_LATER": "x" * 70_000}


def unknown(message: Any) -> dict[int, Any]:
    """What came that the schema does not have, by number."""
    fields: Any = UnknownFieldSet(message)  # the stubs do not say that it is iterable
    return {field.field_number: field.data for field in fields}


def refused(call: Any, *arguments: Any) -> Any:
    try:
        call(*arguments, timeout=SECONDS)
    except grpc.RpcError as error:
        failed: Any = error  # it is a grpc.Call as well, which the stubs hold impossible
        return failed.code()
    return None


def fork(channel: grpc.Channel) -> None:
    """Resolve and list by name."""
    wire: Any = importlib.import_module("credentials_driver_pb2")
    stub = importlib.import_module("credentials_driver_pb2_grpc").CredentialsDriverStub(channel)

    listed = stub.ListCredentials(wire.ListCredentialsRequest(), timeout=SECONDS)
    assert [(c.name, list(c.scopes)) for c in listed.credentials] == [
        ("forever", ["read", "write"]),
        ("github", ["read", "write"]),
    ]
    found = stub.ResolveCredential(wire.ResolveCredentialRequest(name="github"), timeout=SECONDS)
    assert (found.token, found.expires_at_ms, found.token_type) == ("ghp-1", END_MS, "Bearer")
    assert unknown(found) == {}
    found = stub.ResolveCredential(wire.ResolveCredentialRequest(name="forever"), timeout=SECONDS)
    assert (found.token, found.expires_at_ms) == ("tok-2", 0)
    codes = [
        refused(stub.ResolveCredential, wire.ResolveCredentialRequest(name=name))
        for name in ("", "none")
    ]
    assert codes == [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND]


class Upstream:
    """Store, resolve, list and delete by handle."""

    def __init__(self, channel: grpc.Channel, *, provider: str) -> None:
        self.wire: Any = importlib.import_module("credential_driver_pb2")
        self.handles: Any = importlib.import_module("datamodel_pb2")
        stubs = importlib.import_module("credential_driver_pb2_grpc")
        self.stub = stubs.CredentialDriverStub(channel)
        self.owner = {provider: "github", "workspace": "team", "provider_id": "0b5e"}

    def check(self) -> None:
        handles = {key: self.store(key, value) for key, value in VALUES.items()}
        assert len({handle.handle for handle in handles.values()}) == len(VALUES)
        for handle in handles.values():
            assert handle.handle.strip()
            handle.driver = "the-configured-name"  # as the gateway does
        assert self.resolve(handles) == VALUES

        self.store("EMPTY", "filled", existing_handle=handles["EMPTY"])
        assert self.resolve(handles) == VALUES | {"EMPTY": "filled"}

        listed = self.stub.ListCredentials(self.wire.ListCredentialsRequest(), timeout=SECONDS)
        found = {each.handle: each for each in listed.credentials}  # perhaps another client's too
        for key, handle in handles.items():
            assert list(found[handle.handle].keys) == [key]
            assert dict(found[handle.handle].metadata) == {"where": "memory"}

        for _ in range(2):
            for key, handle in handles.items():
                request = self.wire.DeleteCredentialRequest(
                    credential_key=key, handle=handle, **self.owner
                )
                self.stub.DeleteCredential(request, timeout=SECONDS)
        assert refused(self.stub.ResolveCredentials, self.batch(handles)) is (
            grpc.StatusCode.NOT_FOUND
        )

    def store(self, key: str, value: str, **more: Any) -> Any:
        request = self.wire.StoreCredentialRequest(
            credential_key=key, value=value, **self.owner, **more
        )
        return self.stub.StoreCredential(request, timeout=SECONDS).handle

    def batch(self, handles: dict[str, Any]) -> Any:
        return self.wire.ResolveCredentialsRequest(
            credentials=[
                self.wire.ResolveCredentialRequest(
                    request_id=f"credential-{n}", credential_key=key, handle=handle, **self.owner
                )
                for n, (key, handle) in enumerate(handles.items())
            ]
        )

    def resolve(self, handles: dict[str, Any]) -> dict[str, str]:
        response = self.stub.ResolveCredentials(self.batch(handles), timeout=SECONDS)
        ids = {f"credential-{n}": key for n, key in enumerate(handles)}
        assert sorted(each.request_id for each in response.credentials) == sorted(ids)
        for each in response.credentials:
            self.check_end(each, ends=ids[each.request_id].startswith("ENDS"))
        return {ids[each.request_id]: each.value for each in response.credentials}

    def check_end(self, resolved: Any, *, ends: bool) -> None:
        raise NotImplementedError

    def legacy(self, answer: Any) -> None:
        assert answer.driver_name == "vault"
        assert answer.driver_version == "1.2.3"
        assert answer.backend_kind == "memory"
        assert answer.supports_list is True
        assert answer.supports_expires_at is True


class Old(Upstream):
    """0.0.111: an empty request, milliseconds."""

    def __init__(self, channel: grpc.Channel) -> None:
        super().__init__(channel, provider="provider_name")

    def shake_hands(self) -> None:
        request = self.wire.GetCredentialDriverCapabilitiesRequest()
        assert request.SerializeToString() == b""
        answer = self.stub.GetCapabilities(request, timeout=SECONDS)
        self.legacy(answer)
        assert set(unknown(answer)) == {6}

    def check_end(self, resolved: Any, *, ends: bool) -> None:
        if ends:
            assert resolved.expires_at_ms == END_MS
            stamp = Timestamp.FromString(unknown(resolved)[103])
            assert (stamp.seconds, stamp.nanos) == (END_MS // 1000, END_MS % 1000 * 1_000_000)
        else:
            assert resolved.expires_at_ms == 0
            assert unknown(resolved) == {}


class New(Upstream):
    """0.1.x: metadata both ways, a Timestamp."""

    def __init__(self, channel: grpc.Channel) -> None:
        super().__init__(channel, provider="provider")
        self.extension: Any = importlib.import_module("extension_pb2")

    def shake_hands(self) -> None:
        gateway = self.extension.PeerMetadata(
            protocol_version=self.extension.ProtocolVersion(major=1, minor=0),
            implementation_name="openshell/gateway",
            implementation_version="0.1.2",
            supported_capabilities=[CONTRACT],
            required_capabilities=[CONTRACT],
        )
        request = self.wire.GetCredentialDriverCapabilitiesRequest(gateway=gateway)
        answer = self.stub.GetCapabilities(request, timeout=SECONDS)
        self.legacy(answer)
        assert unknown(answer) == {}
        assert answer.HasField("extension")
        self.negotiate(answer.extension, offered={CONTRACT})

    def negotiate(self, driver: Any, offered: set[str]) -> None:
        """Refuse what a gateway refuses."""
        assert driver.HasField("protocol_version")
        assert driver.protocol_version.major == 1
        for text in (driver.implementation_name, driver.implementation_version):
            assert text.strip()
            assert len(text.encode()) <= 128
            assert text.isprintable()
        for names in (driver.supported_capabilities, driver.required_capabilities):
            assert len(names) <= 128
            assert len(set(names)) == len(names)
            for name in names:
                assert len(name.encode()) <= 128
                first, *rest = name.split(".")
                assert first == "openshell"
                assert len(rest) >= 2
                assert all(part and set(part) <= LETTERS for part in rest)
        assert CONTRACT in driver.supported_capabilities
        assert offered.issuperset(driver.required_capabilities)

    def check_end(self, resolved: Any, *, ends: bool) -> None:
        assert resolved.HasField("expiration_time") is ends
        if ends:
            stamp = resolved.expiration_time
            assert stamp.seconds * 1000 + stamp.nanos / 1_000_000 == END_MS
            assert unknown(resolved) == {3: END_MS}
        else:
            assert unknown(resolved) == {}


LETTERS = set("abcdefghijklmnopqrstuvwxyz0123456789-")


def main(folder: str, revision: str, socket: str) -> None:
    sys.path.insert(0, folder)
    authority = "[::]:50052" if revision == "fork-mvp" else "[::]:50051"
    options = [("grpc.default_authority", authority)]
    with grpc.insecure_channel(f"unix:{socket}", options=options) as channel:
        if revision == "fork-mvp":
            fork(channel)
        else:
            client = Old(channel) if revision == "0.0.111" else New(channel)
            client.shake_hands()
            client.check()
    assert not [name for name in sys.modules if name.partition(".")[0] == "openshell_drivers"]
    print("served")


if __name__ == "__main__":
    main(*sys.argv[1:])
