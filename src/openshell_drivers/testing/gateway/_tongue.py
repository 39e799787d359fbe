"""`Tongue`: messages cut down to what one revision has, in both directions.

The codecs speak the superset of all lines. What a revision does not know is not sent, and is not
seen in what comes back; a field that it knows with another wire type cannot be read at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from openshell_drivers._revisions import Field, Revision
from openshell_drivers._wire import compute_driver_pb2 as wire

_GPU: Final = 9
_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # the years 1 to 9999, in seconds
_GPU_WISHED: Final = b"\x48\x01"  # field 9, varint, true

MessageT = TypeVar("MessageT", bound=Message)


class Tongue:
    """What one revision can say and understand."""

    def __init__(self, revision: Revision) -> None:
        self._messages: dict[str, Mapping[int, Field]] = {}
        for contract in revision.contracts.values():
            self._messages.update(contract.messages)
        spec = self._messages.get("DriverSandboxSpec", {})
        self._gpu_is_bool = _GPU in spec and spec[_GPU].type == "bool"

    def knows(self, message: type[Message]) -> bool:
        """Say whether the revision has this message."""
        return message.DESCRIPTOR.name in self._messages

    def say(self, message: MessageT) -> MessageT:
        """Cut a request down, in place, and give it back."""
        wishes = [spec for spec in _specs(message) if spec.HasField("resource_requirements")]
        self._cut(message)
        if self._gpu_is_bool:
            for spec in wishes:
                # Python has no field for it, and keeps what it does not know.
                spec.MergeFromString(_GPU_WISHED)
        return message

    def hear(self, message: MessageT) -> MessageT:
        """Cut an answer down, in place; `DecodeError` if this revision could not read it."""
        for spec in _specs(message):
            if self._gpu_is_foreign(spec):
                raise DecodeError("field 9 of a spec has another wire type")
        self._cut(message)
        return message

    def _gpu_is_foreign(self, spec: wire.DriverSandboxSpec) -> bool:
        if self._gpu_is_bool:
            return spec.HasField("resource_requirements")
        unknown = UnknownFieldSet(spec)
        return any(unknown[at].field_number == _GPU for at in range(len(unknown)))

    def _cut(self, message: Message) -> None:
        fields = self._messages.get(message.DESCRIPTOR.name)
        if fields is None:  # not of ours: Struct, Timestamp
            return
        for field, value in message.ListFields():
            known = fields.get(field.number)
            if known is None or (known.type == "bool" and field.type == field.TYPE_MESSAGE):
                message.ClearField(field.name)
            else:
                for inner in _inside(field, value):
                    self._cut(inner)


def _inside(field: FieldDescriptor, value: object) -> Iterator[Message]:
    if isinstance(value, Message):
        yield value
    elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
        yield from value  # type: ignore[misc]  # repeated messages, which ListFields calls object


def check_times(message: Message) -> None:
    """Raise `DecodeError` for a Timestamp that names no instant (COMP01-TIME-01)."""
    for field, value in message.ListFields():
        for inner in _inside(field, value):
            if isinstance(inner, Timestamp):
                if not (_FIRST <= inner.seconds <= _LAST and 0 <= inner.nanos < 1_000_000_000):
                    raise DecodeError(f"{field.name} is out of range")
            else:
                check_times(inner)


def _specs(message: Message) -> Iterator[wire.DriverSandboxSpec]:
    for field, value in message.ListFields():
        for inner in _inside(field, value):
            if isinstance(inner, wire.DriverSandboxSpec):
                yield inner
            else:
                yield from _specs(inner)
