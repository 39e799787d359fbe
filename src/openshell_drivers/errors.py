"""What a driver raises to answer a call with an error: one class per gRPC status.

Choose by what the caller does next. The message travels to the gateway, and from there often to
a user, so it says what and which, never a secret, a remote body or a configured value. Knows
nothing of gRPC: the runtime turns ``code`` into a status.
"""

from __future__ import annotations

from typing import ClassVar, Final


class DriverError(Exception):
    """The root of all errors a driver answers with, and of all that a client receives.

    Raise one of the subclasses. An exception of any other type is answered as ``INTERNAL`` with a
    fixed message, since its text may hold anything.
    """

    code: str = "UNKNOWN"
    #: Whether the same call may succeed a little later without anybody changing anything.
    passing: ClassVar[bool] = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The text for the caller."""
        return str(self.args[0]) if self.args else ""


class InvalidArgument(DriverError):
    """The request is wrong whatever the state of the backend is."""

    code = "INVALID_ARGUMENT"


class NotFound(DriverError):
    """The thing does not exist, and the backend has said so.

    Never for "cannot see": a gateway deletes its record of a sandbox on this answer (COMP-GET-05).
    """

    code = "NOT_FOUND"


class AlreadyExists(DriverError):
    """The thing to be created is there already and has been left untouched."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(DriverError):
    """The request is well formed, but somebody must change something before it can succeed."""

    code = "FAILED_PRECONDITION"


class PermissionDenied(DriverError):
    """The caller is known and may not do this."""

    code = "PERMISSION_DENIED"


class Unauthenticated(DriverError):
    """The credential that came with the request, or the driver's own, was refused."""

    code = "UNAUTHENTICATED"


class ResourceExhausted(DriverError):
    """A quota or a limit is reached."""

    code = "RESOURCE_EXHAUSTED"
    passing = True


class Aborted(DriverError):
    """A concurrent change got in the way; the whole operation may be tried again."""

    code = "ABORTED"
    passing = True


class Unavailable(DriverError):
    """The backend cannot be reached or cannot answer now."""

    code = "UNAVAILABLE"
    passing = True


class DeadlineExceeded(DriverError):
    """The backend did not answer in time; whether it acted is not known."""

    code = "DEADLINE_EXCEEDED"
    passing = True


class DataLoss(DriverError):
    """Stored data is there but cannot be read any more."""

    code = "DATA_LOSS"


class Unimplemented(DriverError):
    """This driver does not offer the operation."""

    code = "UNIMPLEMENTED"


class Internal(DriverError):
    """The driver itself is broken. What it answers, too, for any exception it did not expect."""

    code = "INTERNAL"


class ConfigError(Exception):
    """A setting is missing, unknown or wrong. The message names the key and never the value."""


class SocketError(Exception):
    """The Unix socket cannot be claimed. The message names the path and the rule it breaks."""


_BY_CODE: Final[dict[str, type[DriverError]]] = {
    kind.code: kind for kind in DriverError.__subclasses__()
}


def error_for(code: str, message: str) -> DriverError:
    """Build the error whose gRPC status name is `code`; an unknown name gives a `DriverError`."""
    kind = _BY_CODE.get(code, DriverError)
    error = kind(message)
    error.code = code
    return error
