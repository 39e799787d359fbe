"""What an issuer's answers mean: a token, or a status for the gateway, read off literal tables.

No text of the issuer leaves this module but the token, its type, and error codes known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from openshell_credentials_keycloak._faults import Fault
from openshell_drivers import (
    DriverError,
    FailedPrecondition,
    PermissionDenied,
    Secret,
    Unavailable,
)
from openshell_drivers.tokens import FetchedToken

#: RFC 6749 5.2 and 4.1.2.1, RFC 8693 2.2.2, RFC 8707 2. Any other code counts as none.
BY_CODE: Final[Mapping[str, type[DriverError]]] = {
    "access_denied": PermissionDenied,
    "invalid_client": FailedPrecondition,
    "invalid_grant": FailedPrecondition,
    "invalid_request": FailedPrecondition,
    "invalid_scope": FailedPrecondition,
    "invalid_target": FailedPrecondition,
    "server_error": Unavailable,
    "temporarily_unavailable": Unavailable,
    "unauthorized_client": PermissionDenied,
    "unsupported_grant_type": FailedPrecondition,
}

#: Pairs that mean something else than the code alone. Keycloak says this of a wrong secret.
BY_PAIR: Final[Mapping[tuple[int, str], type[DriverError]]] = {
    (401, "unauthorized_client"): FailedPrecondition,
}

#: Statuses that decide whatever code comes with them.
BY_STATUS: Final[Mapping[int, type[DriverError]]] = {
    408: Unavailable,
    425: Unavailable,
    429: Unavailable,
}

#: Statuses that decide if no known code comes with them; the rest goes by the hundreds.
WITHOUT_CODE: Final[Mapping[int, type[DriverError]]] = {403: PermissionDenied}

BY_HUNDREDS: Final[Mapping[int, type[DriverError]]] = {
    2: Unavailable,
    3: FailedPrecondition,
    4: FailedPrecondition,
    5: Unavailable,
}

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")  # what fits into an Authorization header
_TYPE: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, its body within bounds."""

    status: int
    body: bytes = field(repr=False)

    def document(self) -> Mapping[str, Any] | None:
        """Give the body's JSON object; None if it is anything else."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def token_of(answer: Answer) -> FetchedToken:
    """Read the token out of an answer; `Fault` if there is none in it."""
    if answer.status != 200:
        raise refusal(answer)
    document = answer.document() or {}
    token = document.get("access_token")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        if known_code(document) is not None:
            raise refusal(answer)  # some issuers answer 200 to everything
        raise Fault(Unavailable, "the issuer's answer is not a token response")
    return FetchedToken(
        token=Secret(token),
        expires_in=document.get("expires_in"),
        token_type=_canonical(document.get("token_type")),
    )


def refusal(answer: Answer) -> Fault:
    """Say what an answer without a token means."""
    status = answer.status
    code = known_code(answer.document() or {})
    fault = Fault(
        _kind(status, code),
        f"the issuer answered {status}" + (f" ({code})" if code else ""),
        code=code,
    )
    fault.client_refused = code == "invalid_client" or status == 401
    return fault


def _kind(status: int, code: str | None) -> type[DriverError]:
    if status in BY_STATUS:
        return BY_STATUS[status]
    hundreds = BY_HUNDREDS.get(status // 100, Unavailable)
    if status // 100 in {2, 4}:
        if code is not None:
            return BY_PAIR.get((status, code), BY_CODE[code])
        return WITHOUT_CODE.get(status, hundreds)
    return hundreds


def known_code(document: Mapping[str, Any]) -> str | None:
    """Give the ``error`` of a response if it is a known code."""
    code = document.get("error")
    return code if isinstance(code, str) and code in BY_CODE else None


def _canonical(token_type: object) -> str:
    if token_type is None or token_type == "":
        return "Bearer"
    if not isinstance(token_type, str) or not _TYPE.fullmatch(token_type):
        raise Fault(Unavailable, "the issuer's answer has an unusable token_type")
    return "Bearer" if token_type.lower() == "bearer" else token_type
