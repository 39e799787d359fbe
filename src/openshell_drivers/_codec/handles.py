"""Credential handles: opaque, without a secret, and good only for the owner they were made for.

A handle is ``v1.<nonce>.<tag>``. The nonce is new for each stored object. The tag and the id under
which a driver keeps the value are digests of the owner and the nonce, so a handle shown with
another workspace, provider or key fails the tag, and one that is made up leads to an id under which
nothing of anybody else can be.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final

from openshell_drivers.credential_store import CredentialSlot
from openshell_drivers.errors import InvalidArgument, PermissionDenied

_NONCE_BYTES: Final = 16
_HANDLE: Final = re.compile(r"v1\.([a-z2-7]{26})\.([a-z2-7]{20})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose value it is. All four are part of the digests."""

    workspace: str
    provider: str
    provider_id: str
    key: str


def new_slot(owner: Owner, object_id: str) -> CredentialSlot:
    """Make the slot of a value that is stored for the first time."""
    nonce = _text(secrets.token_bytes(_NONCE_BYTES), 26)
    return _slot(owner, nonce, object_id)


def open_handle(handle: str, owner: Owner, object_id: str = "") -> CredentialSlot:
    """Find the slot that a handle names for this owner.

    Raises `InvalidArgument` if it is no handle of ours, `PermissionDenied` if it belongs to
    another workspace, provider or key (CREDU-HND-02).
    """
    match = _HANDLE.fullmatch(handle)
    if match is None:
        raise InvalidArgument("the handle is malformed")
    slot = _slot(owner, match.group(1), object_id)
    if not secrets.compare_digest(slot.handle, handle):
        raise PermissionDenied("the handle belongs to another workspace, provider or key")
    return slot


def _slot(owner: Owner, nonce: str, object_id: str) -> CredentialSlot:
    return CredentialSlot(
        id="c" + _digest(b"slot", owner, nonce, 39),
        handle=f"v1.{nonce}.{_digest(b'tag', owner, nonce, 20)}",
        workspace=owner.workspace,
        provider=owner.provider,
        provider_id=owner.provider_id,
        key=owner.key,
        object_id=object_id,
    )


def _digest(purpose: bytes, owner: Owner, nonce: str, length: int) -> str:
    digest = hashlib.sha256(b"openshell-drivers handle v1 " + purpose)
    for part in (owner.workspace, owner.provider, owner.provider_id, owner.key, nonce):
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)  # lengths keep neighbours apart
    return _text(digest.digest(), length)


def _text(raw: bytes, length: int) -> str:
    return base64.b32encode(raw).decode().lower().rstrip("=")[:length]
