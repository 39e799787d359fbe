"""`Fault`: why there is no token, in words that hold nothing foreign.

What the modules here raise to each other. Knows nothing of credentials' names; `answer` puts one in
when the fault leaves for the gateway.
"""

from __future__ import annotations

from openshell_drivers import DriverError


class Fault(Exception):
    """A token cannot be had, and `kind` is the status that says what the gateway should do."""

    def __init__(self, kind: type[DriverError], what: str, *, code: str | None = None) -> None:
        super().__init__(what)
        self.kind = kind
        self.what = what
        #: The OAuth error code, if the issuer gave one that is known here.
        self.code = code
        #: Whether the issuer did not accept who we say we are: a newer secret may mend it.
        self.client_refused = False

    def answer(self, name: str) -> DriverError:
        """Turn this into what the driver raises for the credential `name`."""
        return self.kind(f"credential {name!r}: {self.what}")
