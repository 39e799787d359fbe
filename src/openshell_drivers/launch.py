"""`LaunchAuthentication`: what a gateway gives a sandbox to start with, split for its two readers.

The supervisor gets a bundle with bearer tokens. The workload gets what is public: whose keys to
trust and which session it is. What is not known to be public never gets there (COMP01-LAUNCH-02).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NoReturn

from openshell_drivers._checks import require_secret
from openshell_drivers.errors import InvalidArgument
from openshell_drivers.secrets import Secret

__all__ = ["LaunchAuthentication", "WorkloadAuthentication"]

_PRIVATE: Final = "PRIVATE KEY-----"


def _no_keys() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadAuthentication:
    """The public part. Empty or None where the gateway says nothing."""

    gateway_id: str = ""
    session_id: str = ""
    runtime_generation: str | int | None = None
    """This and the next two as the gateway wrote them: text or a whole number."""
    session_rotation: str | int | None = None
    auth_epoch: str | int | None = None
    verification_keys: Mapping[str, str] = field(default_factory=_no_keys)
    """Public keys in PEM by their id; they verify what the gateway signs."""

    def to_json(self) -> str:
        """Write it as JSON with the gateway's own keys, without those that nothing is said of.

        ``public_key_pem`` is text here; a gateway may send it as a list of bytes.
        """
        said = {
            "gateway_id": self.gateway_id or None,
            "session_id": self.session_id or None,
            "runtime_generation": self.runtime_generation,
            "session_rotation": self.session_rotation,
            "auth_epoch": self.auth_epoch,
            "verification_keys": [
                {"key_id": key_id, "public_key_pem": pem}
                for key_id, pem in self.verification_keys.items()
            ],
        }
        return json.dumps({key: value for key, value in said.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchAuthentication:
    """The two parts. Its repr shows no secret."""

    supervisor: Secret | None
    """The supervisor's bundle, JSON as the gateway made it, unknown keys included; for a file that
    only the supervisor can read. None if there is none."""
    workload: WorkloadAuthentication

    @classmethod
    def parse(cls, secret: Secret) -> LaunchAuthentication:
        """Split what came with a create or a start.

        Unknown keys and missing parts are tolerated (COMP01-LAUNCH-03). Raises `InvalidArgument`,
        with nothing of the payload in it, for what is not JSON, has a key twice or a part of
        another type, or has a private key among the public ones.
        """
        require_secret("launch_authentication", secret)
        document = _object(_decoded(secret), "launch_authentication")
        bundle = document.get("supervisor")
        session = _object({} if bundle is None else bundle, "supervisor")
        return cls(
            supervisor=None if bundle is None else Secret(json.dumps(bundle)),
            workload=WorkloadAuthentication(
                gateway_id=_text(document, "gateway_id"),
                session_id=_text(session, "session_id"),
                runtime_generation=_scalar(session, "runtime_generation"),
                session_rotation=_scalar(session, "session_rotation"),
                auth_epoch=_scalar(session, "auth_epoch"),
                verification_keys=_verification_keys(document),
            ),
        )


def _decoded(secret: Secret) -> Any:
    try:
        return json.loads(
            secret.reveal(),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except (ValueError, RecursionError):
        pass
    # Out here the parser's error, which holds the whole text, is forgotten.
    raise InvalidArgument("launch_authentication is not valid JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError("not a number of JSON")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)


def _wrong(key: str, rule: str) -> InvalidArgument:
    return InvalidArgument(f"launch_authentication: {key} {rule}")


def _object(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(key, "must be an object")
    return value


def _text(parent: Mapping[str, Any], key: str) -> str:
    value = parent.get(key)
    if value is not None and not isinstance(value, str):
        raise _wrong(key, "must be text")
    return value or ""


def _scalar(parent: Mapping[str, Any], key: str) -> str | int | None:
    """Read what the contract names and gives no type."""
    value = parent.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise _wrong(key, "must be text or a whole number")
    return value


def _verification_keys(document: Mapping[str, Any]) -> Mapping[str, str]:
    listed = document.get("verification_keys")
    if listed is not None and not isinstance(listed, list):
        raise _wrong("verification_keys", "must be a list")
    keys: dict[str, str] = {}
    for each in listed or []:
        entry = _object(each, "verification_keys")
        key_id = _text(entry, "key_id")
        if key_id in keys:
            raise _wrong("verification_keys", "has a key_id twice")
        keys[key_id] = _pem(entry)
    return MappingProxyType(keys)


def _pem(entry: Mapping[str, Any]) -> str:
    value = entry.get("public_key_pem")
    if isinstance(value, list):  # gateways write the bytes of it as numbers
        value = _from_bytes(value)
    if value is not None and not isinstance(value, str):
        raise _wrong("public_key_pem", "must be text or a list of bytes")
    if _PRIVATE in (value or ""):
        raise _wrong("public_key_pem", "is a private key")
    return value or ""


def _from_bytes(numbers: list[Any]) -> str | list[Any]:
    try:
        return bytes(numbers).decode()
    except (ValueError, TypeError, OverflowError):
        return numbers
