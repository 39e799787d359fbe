"""Every field of the credential services is read, written, or left alone for a stated reason.

By execution: a field is read if a change of it alone changes what the codec makes of the message,
and written if the codec puts it on the wire for some value of the domain. A field that is in no
revision's message, and a reason that has become untrue, fail as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from openshell_drivers._codec import credential_store as store_codec
from openshell_drivers._codec import credentials as credentials_codec
from openshell_drivers._codec import extension
from openshell_drivers._codec.handles import Owner, new_slot
from openshell_drivers._wire import credential_driver_pb2 as store
from openshell_drivers._wire import credentials_driver_pb2 as credentials
from openshell_drivers._wire.datamodel_pb2 import CredentialHandle
from openshell_drivers._wire.extension_pb2 import PeerMetadata, ProtocolVersion
from openshell_drivers.credential_store import (
    ListedCredential,
    StoreCapabilities,
    StoredCredential,
)
from openshell_drivers.credentials import Credential, CredentialInfo
from openshell_drivers.secrets import Secret
from tests.wire.gateway import peer

END: Final = datetime(2100, 1, 1, tzinfo=UTC)
SLOT: Final = new_slot(Owner(workspace="w", provider="p", provider_id="i", key="K"), "o")
HANDLE: Final = CredentialHandle(driver="d", handle=SLOT.handle, metadata={"a": "b"})
OWNED: Final[dict[str, Any]] = {
    "provider": "p",
    "credential_key": "K",
    "workspace": "w",
    "provider_id": "i",
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A message that is read: examples of it, the codec's decoder, and what that leaves alone."""

    examples: Sequence[Message]
    decode: Callable[[Any], object]
    ignored: dict[str, str]


_WHOSE = "the gateway puts its configured name there, and a handle is good without it"
_NONE_WRITTEN = "we write none, so there is none to get back"
READ: Final = [
    Reading(
        examples=[credentials.ResolveCredentialRequest(name="n")],
        decode=credentials_codec.decode_ref,
        ignored={},
    ),
    Reading(
        examples=[
            credentials.ResolveCredentialResponse(token="t", expires_at_ms=1, token_type="Bearer")
        ],
        decode=credentials_codec.decode_credential,
        ignored={},
    ),
    Reading(
        examples=[
            credentials.ListCredentialsResponse(
                credentials=[credentials.CredentialInfo(name="n", scopes=["s"])]
            )
        ],
        decode=credentials_codec.decode_list,
        ignored={},
    ),
    Reading(
        examples=[store.GetCredentialDriverCapabilitiesRequest(gateway=peer())],
        decode=lambda message: extension.judge(message.gateway, store_codec.FAMILY),
        ignored={"gateway.protocol_version.minor": "minor versions may differ either way"},
    ),
    Reading(
        examples=[
            store.GetCredentialDriverCapabilitiesResponse(
                driver_name="n", driver_version="v", backend_kind="b", extension=peer()
            )
        ],
        decode=store_codec.decode_capabilities,
        ignored={
            "extension": "our client serves no gateway: what a driver may say is the suite's matter"
        },
    ),
    Reading(
        examples=[
            store.StoreCredentialRequest(**OWNED, value="v", existing_handle=HANDLE, object_id="o")
        ],
        decode=store_codec.decode_store,
        ignored={
            "existing_handle.driver": _WHOSE,
            "existing_handle.metadata": _NONE_WRITTEN,
        },
    ),
    Reading(
        examples=[store.DeleteCredentialRequest(**OWNED, handle=HANDLE)],
        decode=store_codec.decode_slot,
        ignored={"handle.driver": _WHOSE, "handle.metadata": _NONE_WRITTEN},
    ),
    Reading(
        examples=[
            store.ResolveCredentialsRequest(
                credentials=[store.ResolveCredentialRequest(**OWNED, request_id="1", handle=HANDLE)]
            )
        ],
        decode=store_codec.decode_batch,
        ignored={
            "credentials.handle.driver": _WHOSE,
            "credentials.handle.metadata": _NONE_WRITTEN,
        },
    ),
    Reading(
        examples=[
            store.ResolveCredentialsResponse(
                credentials=[store.ResolvedCredential(request_id="1", value="v", **end)]
            )
            for end in (
                {"expires_at_ms": 1},
                {"expires_at_ms": 1, "expiration_time": Timestamp(seconds=1)},
            )
        ],
        decode=lambda message: store_codec.decode_resolved(message, ["1"]),
        ignored={},
    ),
    Reading(
        examples=[
            store.ListCredentialsResponse(
                credentials=[store.ListedCredential(handle="h", keys=["K"], metadata={"a": "b"})]
            )
        ],
        decode=store_codec.decode_list,
        ignored={},
    ),
]


@dataclass(frozen=True, kw_only=True)
class Writing:
    """A message that is written: what the codec makes of some values, and what it never fills."""

    written: Sequence[Message]
    never: dict[str, str]


CAPABILITIES: Final = StoreCapabilities(
    driver_name="n",
    driver_version="v",
    backend_kind="b",
    supports_list=True,
    supports_expires_at=True,
)
WRITTEN: Final = [
    Writing(
        written=[
            credentials_codec.encode_credential(Credential(token=Secret("t"), expires_at=END))
        ],
        never={},
    ),
    Writing(
        written=[credentials_codec.encode_list([CredentialInfo(name="n", scopes=("s",))])],
        never={},
    ),
    Writing(
        written=[store_codec.encode_capabilities(CAPABILITIES)],
        never={"extension.protocol_version.minor": "ours is 1.0"},
    ),
    Writing(
        written=[store_codec.encode_stored(SLOT, "n")],
        never={"handle.metadata": "the handle's text is enough to find the value"},
    ),
    Writing(
        written=[
            store.ResolveCredentialsResponse(
                credentials=[
                    store_codec.encode_resolved(
                        "1",
                        StoredCredential(
                            value=Secret("v"), expires_at=END.replace(microsecond=1000)
                        ),
                        reports_expiry=True,
                    )
                ]
            )
        ],
        never={},
    ),
    Writing(
        written=[
            store_codec.encode_list(
                [ListedCredential(handle="h", keys=("K",), metadata={"a": "b"})]
            )
        ],
        never={},
    ),
]


def paths(descriptor: Any) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Give every field below a message, each with the way to it."""
    for field in descriptor.fields:
        yield (field,)
        if field.message_type is not None and not is_map(field):
            for rest in paths(field.message_type):
                yield (field, *rest)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def is_repeated(field: Any) -> bool:
    repeated = getattr(field, "is_repeated", None)  # protobuf 6.31 has only the label
    return bool(field.label == field.LABEL_REPEATED if repeated is None else repeated)


def spelled(path: Sequence[FieldDescriptor]) -> str:
    return ".".join(field.name for field in path)


def parents(message: Any, path: Sequence[FieldDescriptor]) -> Iterator[Any]:
    """Give the messages that hold the last field of a path."""
    if len(path) == 1:
        yield message
        return
    here = getattr(message, path[0].name)
    for child in here if is_repeated(path[0]) else [here]:
        yield from parents(child, path[1:])


OTHERS: Final[dict[int, list[Any]]] = {
    FieldDescriptor.CPPTYPE_STRING: ["other", "", "control\x07"],
    FieldDescriptor.CPPTYPE_INT64: [0, 123_456],
    FieldDescriptor.CPPTYPE_INT32: [0, 7_000_000],
    FieldDescriptor.CPPTYPE_UINT32: [7],
    FieldDescriptor.CPPTYPE_BOOL: [True],
}


def changes(example: Message, path: Sequence[FieldDescriptor]) -> Iterator[Message]:
    """Give copies of a message in which one field alone has another value."""

    def copy() -> tuple[Message, Any]:
        whole = type(example)()
        whole.CopyFrom(example)
        return whole, next(parents(whole, path))

    field = path[-1]
    if is_map(field):
        whole, holder = copy()
        getattr(holder, field.name)["more"] = "text"
        yield whole
    elif is_repeated(field) or field.message_type is not None:
        whole, holder = copy()
        holder.ClearField(field.name)
        yield whole
    if is_repeated(field) and field.message_type is None:
        whole, holder = copy()
        getattr(holder, field.name).append("more")
        yield whole
    if field.message_type is None and not is_repeated(field):
        for other in OTHERS[field.cpp_type]:
            whole, holder = copy()
            setattr(holder, field.name, other)
            yield whole


def outcome(decode: Callable[[Any], object], message: Message) -> object:
    try:
        return decode(message)
    except Exception as error:
        return type(error), str(error)


def name_of(case: Reading | Writing) -> str:
    message = case.examples[0] if isinstance(case, Reading) else case.written[0]
    return f"{message.DESCRIPTOR.file.name.rpartition('/')[2]}:{message.DESCRIPTOR.name}"


def covered(path: Sequence[FieldDescriptor], reasons: dict[str, str]) -> bool:
    """Whether a reason names the field or what holds it."""
    return any(spelled(path[: end + 1]) in reasons for end in range(len(path)))


@pytest.mark.parametrize("case", READ, ids=name_of)
def test_every_field_of_a_message_is_read_or_left_alone_for_a_reason(case: Reading) -> None:
    for path in paths(case.examples[0].DESCRIPTOR):
        is_read = any(
            outcome(case.decode, changed) != outcome(case.decode, example)
            for example in case.examples
            for changed in changes(example, path)
        )
        assert is_read is not covered(path, case.ignored), spelled(path)


@pytest.mark.parametrize("case", WRITTEN, ids=name_of)
def test_every_field_of_a_message_is_written_or_never_for_a_reason(case: Writing) -> None:
    for path in paths(case.written[0].DESCRIPTOR):
        is_written = any(
            path[-1].name in {field.name for field, _ in holder.ListFields()}
            for message in case.written
            for holder in parents(message, path)
        )
        assert is_written is not covered(path, case.never), spelled(path)


@pytest.mark.parametrize("case", [*READ, *WRITTEN], ids=name_of)
def test_a_reason_names_a_field_that_there_is(case: Reading | Writing) -> None:
    reasons = case.ignored if isinstance(case, Reading) else case.never
    message = case.examples[0] if isinstance(case, Reading) else case.written[0]

    assert set(reasons) <= {spelled(path) for path in paths(message.DESCRIPTOR)}
    assert all(reasons.values())


@pytest.mark.parametrize(
    "module", [credentials, store], ids=["CredentialsDriver", "CredentialDriver"]
)
def test_every_message_of_the_services_is_under_test(module: Any) -> None:
    service = next(iter(module.DESCRIPTOR.services_by_name.values()))
    read = {case.examples[0].DESCRIPTOR.full_name for case in READ}
    written = {case.written[0].DESCRIPTOR.full_name for case in WRITTEN}

    for method in service.methods:
        if method.input_type.fields:
            assert method.input_type.full_name in read
        if method.output_type.fields:
            assert method.output_type.full_name in written


def test_a_client_s_metadata_is_what_a_0_1_gateway_sends() -> None:
    ours = extension.metadata(store_codec.FAMILY, "client", "1")

    assert ours.protocol_version == ProtocolVersion(major=1)
    assert isinstance(ours, PeerMetadata)
    extension.judge(ours, store_codec.FAMILY)
