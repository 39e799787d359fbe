"""How a gateway says no: to a driver at its start, and to a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openshell_drivers.errors import DriverError

if TYPE_CHECKING:
    from openshell_drivers.testing.gateway._journal import Entry


class GatewayRefused(DriverError):
    """The gateway does not start with this driver. The message names the rule."""

    code = "FAILED_PRECONDITION"

    def __init__(self, rule: str, message: str = "") -> None:
        super().__init__(f"{rule}: {message}" if message else rule)
        self.rule = rule
        """A fixed text, for the same mistake always the same."""


class UserError(DriverError):
    """What a user of the gateway would see instead of a result: `code` and `message`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class NotReached(TimeoutError):
    """What was waited for did not happen in time. `history` tells what did."""

    def __init__(self, wanted: str, within: float, history: tuple[Entry, ...]) -> None:
        told = "".join(f"\n  {each}" for each in history) or "\n  nothing happened"
        super().__init__(f"{wanted} not within {within:g} s; so far:{told}")
        self.history = history
