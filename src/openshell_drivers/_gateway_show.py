"""What `openshell-drivers gateway` prints: a line for people, or a JSON object for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from openshell_drivers._logs import printable
from openshell_drivers.compute import ComputeCapabilities
from openshell_drivers.testing.gateway import Entry, Record

_LONGEST = 1000


class Show:
    """Prints, each line at once."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._shown = 0
        self._last = ""

    def line(self, text: str, fields: Mapping[str, Any]) -> None:
        """Print one thing in either form; text from a driver is made harmless."""
        full = {key: value for key, value in fields.items() if value not in ("", None)}
        print(json.dumps(full) if self._as_json else printable(text, _LONGEST), flush=True)

    def said(self, text: str) -> None:
        """Print what is for people only."""
        if not self._as_json:
            print(text, flush=True)

    def entry(self, entry: Entry) -> None:
        """Print what happened, unless it has been printed."""
        if entry.number < self._shown:
            return
        self._shown = entry.number + 1
        again, self._last = self._last == entry.why, entry.why
        if entry.kind == "gateway" and again:  # a driver that is away: once will do
            return
        event = entry.event
        self.line(
            str(entry),
            {
                "kind": entry.kind,
                "time": entry.time.isoformat(),
                "sandbox": entry.name,
                "workspace": entry.workspace,
                "id": entry.id,
                "phase": entry.phase,
                "reason": event.reason if event else entry.reason,
                "message": event.message if event else entry.message,
                "type": event.type if event else "",
                "source": event.source if event else "",
                "why": entry.why,
                "progress": asdict(entry.progress) if entry.progress else None,
            },
        )

    def skip(self, number: int) -> None:
        """Count the entries before a number as printed."""
        self._shown = max(self._shown, number)

    def record(self, record: Record) -> None:
        """Print a sandbox as it is now."""
        words = [record.name, record.phase, record.reason, record.workspace, record.id]
        self.line(
            f"{words[0]:20} {words[1]:12} {words[2] or '-':24} {words[3] or '-':12} {words[4]}",
            {
                "kind": "sandbox",
                "sandbox": record.name,
                "workspace": record.workspace,
                "id": record.id,
                "phase": record.phase,
                "reason": record.reason,
                "message": record.message,
                "since": record.since.isoformat(),
                "created": record.created.isoformat(),
            },
        )

    def capabilities(self, capabilities: ComputeCapabilities) -> None:
        """Print what the driver says of itself."""
        table = asdict(capabilities)
        if self._as_json:
            self.line("", {"kind": "capabilities", **table})
            return
        for key, value in table.items():
            self.line(f"{key:34} {value}", {})

    def failed(self, code: str, message: str) -> None:
        """Print how a user sees that something failed."""
        self.line(f"{code}: {message}", {"kind": "error", "code": code, "message": message})
