"""`Log`: one JSON object a line on standard error, everything from DEBUG up."""

from __future__ import annotations

import datetime
import json
import sys


class Log:
    """Writes lines. Callers give names, codes and numbers, never values that users sent."""

    def line(self, level: str, message: str, **fields: object) -> None:
        """Write one line at once."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        record = {"time": now, "level": level, "msg": message, **fields}
        self.write(json.dumps(record))

    def write(self, text: str) -> None:
        """Send a line off; a reader who is gone is no reason to fail."""
        try:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return

    def debug(self, message: str, **fields: object) -> None:
        self.line("DEBUG", message, **fields)

    def info(self, message: str, **fields: object) -> None:
        self.line("INFO", message, **fields)

    def error(self, message: str, **fields: object) -> None:
        self.line("ERROR", message, **fields)
