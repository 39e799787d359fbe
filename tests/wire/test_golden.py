"""The bytes of every credential RPC, revision by revision, written out once and never changed.

Each literal is what a peer of that revision sends or what this SDK answers; the words behind it say
the field. They are not made by any code here: a change of a number or a type cannot go unseen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from google.protobuf.message import Message

from openshell_drivers._codec import credential_store as store_codec
from openshell_drivers._codec import credentials as credentials_codec
from openshell_drivers._codec import extension
from openshell_drivers._codec.handles import Owner, open_handle
from openshell_drivers._wire import credential_driver_pb2 as store
from openshell_drivers._wire import credentials_driver_pb2 as credentials
from openshell_drivers.credential_store import (
    CredentialSlot,
    ListedCredential,
    StoreCapabilities,
    StoredCredential,
)
from openshell_drivers.credentials import Credential, CredentialInfo, CredentialRef
from openshell_drivers.secrets import Secret

HANDLE: Final = "v1.abcdefghijklmnopqrstuvwxyz.eb33mgnvbqoo2lxjiham"
OWNER: Final = Owner(workspace="team", provider="github", provider_id="0b5e", key="API_TOKEN")
SLOT: Final = open_handle(HANDLE, OWNER)
END: Final = datetime(2100, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
END_SENT: Final = END.replace(microsecond=123_000)


def data(text: str) -> bytes:
    """Read a literal: hex with comments."""
    return bytes.fromhex(re.sub(r"#.*", "", text))


# What every upstream request repeats

_HANDLE_HEX: Final = """
  12 32                                           # 2 handle, 50 bytes
    76312e6162636465666768696a6b6c6d6e6f707172737475767778797a2e
    656233336d676e7662716f6f326c786a6968616d
"""
_HANDLE_OF_GATEWAY_HEX: Final = f"""
  0a 07 6d792d6e616d65                            # 1 driver "my-name", the configured one
  {_HANDLE_HEX}
  1a 06 0a0161 120162                             # 3 metadata "a": "b"
"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a gateway of some revisions sends, and what the codec makes of it."""

    revisions: str
    message: type[Message]
    hex: str
    read: Any
    """The codec's decoder."""
    means: Any


def _judged(message: store.GetCredentialDriverCapabilitiesRequest) -> str:
    if not message.HasField("gateway"):
        return "no metadata"
    extension.judge(message.gateway, store_codec.FAMILY)
    return message.gateway.implementation_version


REQUESTS: Final = {
    "resolve by name": Request(
        revisions="F",
        message=credentials.ResolveCredentialRequest,
        hex='0a 06 676974687562                           # 1 name "github"',
        read=credentials_codec.decode_ref,
        means=CredentialRef(name="github"),
    ),
    "capabilities, before 0.1": Request(
        revisions="U",
        message=store.GetCredentialDriverCapabilitiesRequest,
        hex="",
        read=_judged,
        means="no metadata",
    ),
    "capabilities, 0.1": Request(
        revisions="N",
        message=store.GetCredentialDriverCapabilitiesRequest,
        hex="""
        0a 5e                                          # 1 gateway
          0a 02 0801                                   # 1 protocol_version, 1 major 1
          12 11 6f70656e7368656c6c2f67617465776179     # 2 implementation_name
          1a 05 302e312e32                             # 3 implementation_version "0.1.2"
          22 1e 6f70656e7368656c6c2e63726564656e7469616c732e636f6e7472616374 # 4 supported
          2a 1e 6f70656e7368656c6c2e63726564656e7469616c732e636f6e7472616374 # 5 required
        """,
        read=_judged,
        means="0.1.2",
    ),
    "overwrite": Request(
        revisions="U N",
        message=store.StoreCredentialRequest,
        hex=f"""
        0a 06 676974687562                             # 1 provider (provider_name in U) "github"
        12 09 4150495f544f4b454e                       # 2 credential_key "API_TOKEN"
        1a 05 76c3a40a30                               # 3 value "vä\\n0"
        22 45 {_HANDLE_OF_GATEWAY_HEX}                 # 4 existing_handle
        2a 04 7465616d                                 # 5 workspace "team"
        32 04 30623565                                 # 6 provider_id "0b5e"
        3a 03 6f626a                                   # 7 object_id "obj"
        """,
        read=store_codec.decode_store,
        means=(open_handle(HANDLE, OWNER, "obj"), Secret("vä\n0"), False),
    ),
    "resolve by handle": Request(
        revisions="U N",
        message=store.ResolveCredentialsRequest,
        hex=f"""
        0a 74                                          # 1 credentials
          0a 0c 63726564656e7469616c2d30               # 1 request_id "credential-0"
          12 06 676974687562                           # 2 provider (provider_name in U)
          1a 09 4150495f544f4b454e                     # 3 credential_key
          22 45 {_HANDLE_OF_GATEWAY_HEX}               # 4 handle
          2a 04 7465616d                               # 5 workspace
          32 04 30623565                               # 6 provider_id
        """,
        read=store_codec.decode_batch,
        means=[("credential-0", SLOT)],
    ),
    "delete": Request(
        revisions="U N",
        message=store.DeleteCredentialRequest,
        hex=f"""
        0a 06 676974687562                             # 1 provider (provider_name in U)
        12 09 4150495f544f4b454e                       # 2 credential_key
        1a 45 {_HANDLE_OF_GATEWAY_HEX}                 # 3 handle
        22 04 7465616d                                 # 4 workspace
        2a 04 30623565                                 # 5 provider_id
        """,
        read=store_codec.decode_slot,
        means=SLOT,
    ),
}
UNKNOWN: Final = {
    "varint": "f8 3e 01",  # field 1007
    "fixed64": "f9 3e 0000000000000000",
    "bytes": "fa 3e 03 6e6577",
    "group": "fb 3e 08 01 fc 3e",
    "fixed32": "fd 3e 00000000",
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_of_a_revision_is_read(name: str) -> None:
    case = REQUESTS[name]

    message: Any = case.message.FromString(data(case.hex))

    assert case.read(message) == case.means


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_s_literal_is_canonical(name: str) -> None:
    case = REQUESTS[name]

    message = case.message.FromString(data(case.hex))
    message.DiscardUnknownFields()  # type: ignore[no-untyped-call,unused-ignore]  # stubs differ

    assert message.SerializeToString(deterministic=True) == data(case.hex)


@pytest.mark.parametrize("kind", UNKNOWN)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_with_a_field_of_the_future_is_read_the_same(name: str, kind: str) -> None:
    case = REQUESTS[name]

    message: Any = case.message.FromString(data(case.hex) + data(UNKNOWN[kind]))

    assert case.read(message) == case.means


# Answers: what the codec writes, and what of it the older revision of two knows


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a driver answers: a part that all revisions know, then what only the newest do."""

    known: str
    new: str = ""
    written: Any
    """Makes the message from domain values."""
    read: Any
    means: Any


CAPABILITIES: Final = StoreCapabilities(
    driver_name="vault",
    driver_version="1.2.3",
    backend_kind="memory",
    supports_list=True,
    supports_expires_at=True,
)
ANSWERS: Final = {
    "a token": Answer(
        known="""
        0a 05 6768702d31                               # 1 token "ghp-1"
        10 fb b0 8f e6 b2 77                           # 2 expires_at_ms 4102444800123
        1a 06 426561726572                             # 3 token_type "Bearer"
        """,
        written=lambda: credentials_codec.encode_credential(
            Credential(token=Secret("ghp-1"), expires_at=END)
        ),
        read=lambda raw: credentials_codec.decode_credential(
            credentials.ResolveCredentialResponse.FromString(raw)
        ),
        means=Credential(token=Secret("ghp-1"), expires_at=END_SENT),
    ),
    "names": Answer(
        known="""
        0a 09                                          # 1 credentials
          0a 01 61                                     # 1 name "a"
          12 01 72 12 01 77                            # 2 scopes "r", "w"
        0a 03                                          # 1 credentials
          0a 01 62                                     # 1 name "b"
        """,
        written=lambda: credentials_codec.encode_list(
            [CredentialInfo(name="b"), CredentialInfo(name="a", scopes=("r", "w"))]
        ),
        read=lambda raw: credentials_codec.decode_list(
            credentials.ListCredentialsResponse.FromString(raw)
        ),
        means=(CredentialInfo(name="a", scopes=("r", "w")), CredentialInfo(name="b")),
    ),
    "capabilities": Answer(
        known="""
        0a 05 7661756c74                               # 1 driver_name "vault"
        12 05 312e322e33                               # 2 driver_version "1.2.3"
        1a 06 6d656d6f7279                             # 3 backend_kind "memory"
        20 01                                          # 4 supports_list
        28 01                                          # 5 supports_expires_at
        """,
        new="""
        32 64                                          # 6 extension
          0a 02 0801                                   # 1 protocol_version, 1 major 1
          12 17 6f70656e7368656c6c2d647269766572732f7661756c74 # 2 "openshell-drivers/vault"
          1a 05 312e322e33                             # 3 implementation_version
          22 1e 6f70656e7368656c6c2e63726564656e7469616c732e636f6e7472616374 # 4 supported
          2a 1e 6f70656e7368656c6c2e63726564656e7469616c732e636f6e7472616374 # 5 required
        """,
        written=lambda: store_codec.encode_capabilities(CAPABILITIES),
        read=lambda raw: store_codec.decode_capabilities(
            store.GetCredentialDriverCapabilitiesResponse.FromString(raw)
        ),
        means=CAPABILITIES,
    ),
    "a handle": Answer(
        known=f"""
        0a 3b                                          # 1 handle
          0a 05 7661756c74                             # 1 driver "vault"
          {_HANDLE_HEX}
        """,
        written=lambda: store_codec.encode_stored(SLOT, "vault"),
        read=lambda raw: store.StoreCredentialResponse.FromString(raw).handle.handle,
        means=HANDLE,
    ),
    "values": Answer(
        known="""
        0a 06                                          # 1 credentials
          0a 01 31                                     # 1 request_id "1"
          12 01 76                                     # 2 value "v"
        """,
        written=lambda: store.ResolveCredentialsResponse(
            credentials=[
                store_codec.encode_resolved(
                    "1", StoredCredential(value=Secret("v")), reports_expiry=True
                )
            ]
        ),
        read=lambda raw: store_codec.decode_resolved(
            store.ResolveCredentialsResponse.FromString(raw), ["1"]
        ),
        means=(StoredCredential(value=Secret("v")),),
    ),
    "a list of handles": Answer(
        known=f"""
        0a 45                                          # 1 credentials
          0a 32 {_HANDLE_HEX.partition("bytes")[2]}    # 1 handle, a string
          12 01 4b 12 01 4c                            # 2 keys "K", "L"
          1a 09 0a0477686572 12 01 6d                  # 3 metadata "wher": "m"
        """,
        written=lambda: store_codec.encode_list(
            [ListedCredential(handle=HANDLE, keys=("K", "L"), metadata={"wher": "m"})]
        ),
        read=lambda raw: store_codec.decode_list(store.ListCredentialsResponse.FromString(raw)),
        means=(ListedCredential(handle=HANDLE, keys=("K", "L"), metadata={"wher": "m"}),),
    ),
}

#: One value with an end, as each revision's own driver would answer it, and as this SDK does.
VALUE_HEX: Final = "0a 01 31 12 01 76"  # 1 request_id "1", 2 value "v"
OLD_END_HEX: Final = "18 fb b0 8f e6 b2 77"  # 3 expires_at_ms 4102444800123
NEW_END_HEX: Final = "ba 06 0b 08 80 ae 99 a4 0f 10 c0 a9 d3 3a"  # 103 seconds 4102444800, nanos


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_written_as_all_revisions_know_it_with_the_new_behind(name: str) -> None:
    case = ANSWERS[name]

    raw = case.written().SerializeToString(deterministic=True)

    assert raw == data(case.known) + data(case.new)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_any_revision_is_read(name: str) -> None:
    case = ANSWERS[name]

    assert case.read(data(case.known)) == case.means
    assert case.read(data(case.known) + data(case.new)) == case.means
    assert case.read(data(case.known) + data(case.new) + data(UNKNOWN["bytes"])) == case.means


def test_an_end_is_written_in_both_forms() -> None:
    item = store_codec.encode_resolved(
        "1", StoredCredential(value=Secret("v"), expires_at=END), reports_expiry=True
    )

    assert item.SerializeToString() == data(VALUE_HEX) + data(OLD_END_HEX) + data(NEW_END_HEX)


@pytest.mark.parametrize(
    "ends", [OLD_END_HEX, NEW_END_HEX, OLD_END_HEX + NEW_END_HEX], ids=["U", "N", "this SDK"]
)
def test_an_end_is_read_in_either_form(ends: str) -> None:
    item = store.ResolvedCredential.FromString(data(VALUE_HEX) + data(ends))

    found = store_codec.decode_resolved(store.ResolveCredentialsResponse(credentials=[item]), ["1"])

    assert found == (StoredCredential(value=Secret("v"), expires_at=END_SENT),)


def test_the_newer_form_of_an_end_wins() -> None:
    other = "18 01"  # 3 expires_at_ms 1
    item = store.ResolvedCredential.FromString(data(VALUE_HEX) + data(other) + data(NEW_END_HEX))

    found = store_codec.decode_resolved(store.ResolveCredentialsResponse(credentials=[item]), ["1"])

    assert found[0].expires_at == END_SENT


def test_empty_messages_are_no_bytes() -> None:
    for kind in (
        credentials.ListCredentialsRequest,
        store.ListCredentialsRequest,
        store.DeleteCredentialResponse,
        store.ResolveCredentialsRequest,
        store.ResolveCredentialsResponse,
    ):
        assert kind().SerializeToString() == b""


def test_the_slot_of_the_literals_is_what_it_was() -> None:
    assert isinstance(SLOT, CredentialSlot)
    assert SLOT.handle == HANDLE
