"""`Handles`: texts that name a stored object, and show whose it is without saying so.

A handle is a nonce and a signature over the nonce and its owner. So it holds nothing of a value, a
handle shown by another owner is refused unseen, and one whose object has vanished still proves
itself when it is written to again (CREDU-STORE-02, CREDU-HND-02).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

from tests.conformance.bare.errors import InvalidArgument

_FORM: Final = re.compile(r"b1\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Owner:
    """To whom an object belongs."""

    workspace: str
    provider: str
    provider_id: str
    key: str


class Handles:
    """Makes handles and opens them."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def owner(self, message: Any) -> Owner:
        """Read the owner of any request."""
        if not message.provider or not message.credential_key:
            raise InvalidArgument("provider or credential_key is empty")
        return Owner(
            message.workspace, message.provider, message.provider_id, message.credential_key
        )

    def new(self, owner: Owner) -> str:
        """A handle that no other object has."""
        nonce = secrets.token_urlsafe(16)
        return f"b1.{nonce}.{self.sign(nonce, owner)}"

    def sign(self, nonce: str, owner: Owner) -> str:
        text = json.dumps([nonce, *self.bound(owner)]).encode()
        digest = hmac.new(self._key, text, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def bound(self, owner: Owner) -> list[str]:
        """What a handle is bound to."""
        return [owner.workspace, owner.provider, owner.provider_id, owner.key]

    def open(self, message: Any, field: str) -> str:
        """Check the handle in a request against its owner, and give its text.

        ``driver`` in it is the gateway's word, and not looked at (CREDU-HND-01).
        """
        owner = self.owner(message)
        if not message.HasField(field):
            raise InvalidArgument("handle is missing")
        text: str = getattr(message, field).handle
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidArgument("handle is malformed")
        self.judge_signature(found[1], found[2], owner)
        return text

    def judge_signature(self, nonce: str, signature: str, owner: Owner) -> None:
        if not hmac.compare_digest(signature, self.sign(nonce, owner)):
            raise InvalidArgument("handle does not belong to this credential")
