"""`CredentialsDriver`: resolve a configured name to a short-lived token.

The service of the kagenti gateway line (CREDF clauses). Knows nothing of the wire.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from openshell_drivers._checks import require_aware, require_token
from openshell_drivers._faults import WrongValue
from openshell_drivers.driver import ConfigT, Driver
from openshell_drivers.secrets import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRef:
    """Which credential a gateway asks for. Future facts about the request arrive here."""

    name: str
    """The configured name. Never empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A token that is good now."""

    token: Secret
    """The token. Not empty, without white space or control characters: it goes into headers."""
    expires_at: datetime | None = None
    """When it ends, with a time zone; None if that is not known. Sent rounded down to a
    millisecond."""
    token_type: str = "Bearer"
    """The OAuth2 token type (RFC 6749 section 7.1)."""

    def __post_init__(self) -> None:
        require_token("token", self.token)
        require_aware("expires_at", self.expires_at)
        if not self.token_type.strip():
            raise WrongValue("token_type must not be empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialInfo:
    """One name that can be resolved. Holds no secret."""

    name: str
    scopes: tuple[str, ...] = ()
    """The scopes the token will have, as configured."""


class CredentialsDriver(Driver[ConfigT]):
    """Resolve names to tokens.

    The server answers an empty name with `INVALID_ARGUMENT` before it asks the driver, sorts the
    list by name, and turns an expired credential into `UNAVAILABLE` rather than send it.
    """

    @abstractmethod
    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        """Give the token for a name (CREDF-RES-01).

        Called concurrently. Raise `NotFound` for a name that is not configured, `Unavailable` or
        `DeadlineExceeded` if the issuer cannot answer now, `FailedPrecondition` or
        `PermissionDenied` if somebody has to change something first (CREDF-RES-02).
        """

    @abstractmethod
    async def list_credentials(self) -> Sequence[CredentialInfo]:
        """Name every credential exactly once, without asking the issuer (CREDF-LIST-01)."""
