"""`Refusal`: what a call is refused with, one class for each status."""

from __future__ import annotations


class Refusal(Exception):
    """A status and a message for the caller. The message never holds what a caller sent."""

    code = "INTERNAL"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidArgument(Refusal):
    code = "INVALID_ARGUMENT"


class FailedPrecondition(Refusal):
    code = "FAILED_PRECONDITION"


class NotFound(Refusal):
    code = "NOT_FOUND"


class AlreadyExists(Refusal):
    code = "ALREADY_EXISTS"


class Unauthenticated(Refusal):
    code = "UNAUTHENTICATED"


class Unavailable(Refusal):
    code = "UNAVAILABLE"


class DeadlineExceeded(Refusal):
    code = "DEADLINE_EXCEEDED"


class Unimplemented(Refusal):
    code = "UNIMPLEMENTED"


class CannotServe(Exception):
    """Why the process cannot begin; its text is for the operator."""
