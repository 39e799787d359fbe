"""The handshake of the 0.1.x line: what a driver says of itself, and what it asks of a gateway.

A gateway refuses a driver by nine rules (COMP01-NEG, CREDU01-NEG); `judge` holds a gateway to the
same ones. A gateway of an older line sends no metadata and is served.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from openshell_drivers._wire.extension_pb2 import PeerMetadata, ProtocolVersion
from openshell_drivers.errors import FailedPrecondition

_MAJOR: Final = 1
_LONGEST: Final = 128
_MOST: Final = 128
_CAPABILITY: Final = re.compile(r"openshell(\.[a-z0-9-]+){2,}")


def contract(family: str) -> str:
    """The capability that both sides of a family must have: ``compute``, ``credentials``."""
    return f"openshell.{family}.contract"


def metadata(family: str, name: str, version: str) -> PeerMetadata:
    """Say who the driver is and that it keeps the family's contract."""
    return PeerMetadata(
        protocol_version=ProtocolVersion(major=_MAJOR, minor=0),
        implementation_name=_fit(f"openshell-drivers/{name}"),
        implementation_version=_fit(version),
        supported_capabilities=[contract(family)],
        required_capabilities=[contract(family)],
    )


def _fit(text: str) -> str:
    return text.encode()[:_LONGEST].decode("utf-8", "ignore")


def judge(peer: PeerMetadata, family: str, *, supported: Sequence[str] = ()) -> None:
    """Refuse a gateway whose metadata breaks a rule, with `FailedPrecondition` naming the rule.

    Never a code that a gateway would retry on (CREDU01-NEG-02). What the peer sent is not echoed.
    """
    ours = {contract(family), *supported}
    if not peer.HasField("protocol_version"):
        _refuse("protocol_version is missing")
    if peer.protocol_version.major != _MAJOR:
        _refuse(f"protocol major version is not {_MAJOR}")
    for field in ("implementation_name", "implementation_version"):
        _judge_text(field, getattr(peer, field))
    for field in ("supported_capabilities", "required_capabilities"):
        _judge_list(field, getattr(peer, field))
    if contract(family) not in peer.supported_capabilities:
        _refuse(f"supported_capabilities lacks {contract(family)}")
    if not ours.issuperset(peer.required_capabilities):
        _refuse("required_capabilities names what this driver does not have")


def _judge_text(field: str, text: str) -> None:
    if not text.strip():
        _refuse(f"{field} is blank")
    if len(text.encode()) > _LONGEST:
        _refuse(f"{field} is longer than {_LONGEST} bytes")
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in text):
        _refuse(f"{field} has a control character")


def _judge_list(field: str, names: Sequence[str]) -> None:
    if len(names) > _MOST:
        _refuse(f"{field} has more than {_MOST} entries")
    for name in names:
        if len(name.encode()) > _LONGEST or not _CAPABILITY.fullmatch(name):
            _refuse(f"{field} has a malformed entry")
    if len(set(names)) != len(names):
        _refuse(f"{field} has a duplicate")


def _refuse(reason: str) -> None:
    raise FailedPrecondition(f"gateway metadata refused: {reason}")
