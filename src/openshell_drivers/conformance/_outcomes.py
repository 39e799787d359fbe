"""What a check says when it does not simply pass: exceptions that carry words for a report."""

from __future__ import annotations


class Broken(Exception):
    """The driver does not keep the clause.

    `expected` and `observed` are for one who reads nothing else: name the RPC, the field, the code.
    `sees` and `mend` go before those of the clause where a check knows better.
    """

    def __init__(self, expected: str, observed: str, *, sees: str = "", mend: str = "") -> None:
        super().__init__(f"expected {expected}; observed {observed}")
        self.expected = expected
        self.observed = observed
        self.sees = sees
        self.mend = mend


class Blocked(Exception):
    """Something that other checks judge did not work, so this one could not begin."""

    def __init__(self, why: str, clause: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.clause = clause
        """The clause that is likely broken."""


class TooSlow(Blocked):
    """It took longer than it may; when nothing else is under way it may do."""


class NotApplicable(Exception):
    """The driver may do without what the check is about, and does."""


class NotTestable(Exception):
    """The profile lacks something; the text says what to supply."""


class NotObservable(Exception):
    """It cannot be seen in this mode."""
