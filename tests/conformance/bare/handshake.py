"""`Handshake`: what the driver says of itself, and what it makes of what a gateway says.

The same for compute and the credential store; only the family differs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from tests.conformance.bare.errors import FailedPrecondition

NAME: Final = "openshell-bare"
VERSION: Final = "1.0.0"
_CAPABILITY: Final = re.compile(r"openshell(\.[a-z0-9-]+){2,}")
_MOST_BYTES: Final = 128
_MOST_ENTRIES: Final = 128


class Handshake:
    """The negotiation of one family: ``compute`` or ``credentials``."""

    def __init__(self, family: str) -> None:
        self.contract = f"openshell.{family}.contract"
        self.supported = [self.contract]
        self.required = [self.contract]
        self.implementation = f"openshell-drivers/{NAME}"

    def metadata(self, peer_class: Any) -> Any:
        """Write the driver's side (COMP01-NEG-01..04, CREDU01-NEG-01)."""
        made = peer_class(
            implementation_name=self.implementation,
            implementation_version=VERSION,
            supported_capabilities=self.supported,
            required_capabilities=self.required,
        )
        made.protocol_version.major = 1
        made.protocol_version.minor = 0
        return made

    def judge(self, request: Any) -> None:
        """Refuse a gateway that does not fit; an old one says nothing and fits (COMPAT01-01)."""
        if request.HasField("gateway"):
            self.judge_version(request.gateway)
            self.judge_names(request.gateway)
            self.judge_capabilities(request.gateway)

    def judge_version(self, gateway: Any) -> None:
        if not gateway.HasField("protocol_version"):
            raise FailedPrecondition("gateway metadata refused: protocol_version is missing")
        if gateway.protocol_version.major != 1:
            raise FailedPrecondition("gateway metadata refused: protocol_version.major is not 1")

    def judge_names(self, gateway: Any) -> None:
        self._judge_name("implementation_name", gateway.implementation_name)
        self._judge_name("implementation_version", gateway.implementation_version)

    def _judge_name(self, field: str, text: str) -> None:
        if not text.strip():
            raise FailedPrecondition(f"gateway metadata refused: {field} is blank")
        if len(text.encode()) > _MOST_BYTES:
            raise FailedPrecondition(f"gateway metadata refused: {field} is too long")
        if any(unicodedata.category(each) == "Cc" for each in text):
            raise FailedPrecondition(f"gateway metadata refused: {field} has control characters")

    def judge_capabilities(self, gateway: Any) -> None:
        offered, wanted = gateway.supported_capabilities, gateway.required_capabilities
        self._judge_list("supported_capabilities", offered)
        self._judge_list("required_capabilities", wanted)
        if not set(self.required) <= set(offered):
            raise FailedPrecondition("gateway metadata refused: it lacks what the driver requires")
        if not set(wanted) <= set(self.supported):
            raise FailedPrecondition("gateway metadata refused: it requires what the driver lacks")

    def _judge_list(self, field: str, entries: Sequence[str]) -> None:
        if len(entries) > _MOST_ENTRIES:
            raise FailedPrecondition(f"gateway metadata refused: {field} has too many entries")
        for each in entries:
            if len(each.encode()) > _MOST_BYTES or not _CAPABILITY.fullmatch(each):
                raise FailedPrecondition(f"gateway metadata refused: {field} has a malformed entry")
        if len(set(entries)) != len(entries):
            raise FailedPrecondition(f"gateway metadata refused: {field} has an entry twice")
