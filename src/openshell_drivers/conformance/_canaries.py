"""`Canaries`: every secret that the suite sends, so that it can be looked for and taken out."""

from __future__ import annotations

import secrets
from typing import Final

from openshell_drivers.conformance.report.redact import Redactor

_LENGTH: Final = 24


class Canaries:
    """Makes secrets that occur nowhere else, and remembers them for the length of a run."""

    def __init__(self) -> None:
        self._made: set[str] = set()
        self._labels: list[str] = []
        self._redactor = Redactor()

    def make(self, label: str) -> str:
        """Give a new secret; `label` says in a report what it was."""
        return self.add(label, f"Cnry{secrets.token_hex(_LENGTH // 2)}")

    def add(self, label: str, value: str) -> str:
        """Remember a secret that was made elsewhere, such as a token that the driver gave."""
        if value and value not in self._made:
            self._made.add(value)
            self._labels.append(label)
            self._redactor.add(value)
        return value

    def clean(self, text: str) -> str:
        """Take every secret out of a text."""
        return self._redactor.text(text)

    def found(self, data: bytes) -> list[str]:
        """Say which secrets occur in the data, in whatever encoding: their labels."""
        return [self._labels[index] for index in self._redactor.find(data)]
