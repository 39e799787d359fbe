"""The process's logs: one line per record on standard error, JSON or text, no exception text.

Third-party loggers stay at WARNING whatever the level: HTTP and HTTP/2 libraries log headers when
asked for more. An exception attached to a record is rendered by `_faults.describe`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sys
import threading
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, Literal, TextIO

from openshell_drivers._faults import describe

LogFormat = Literal["json", "text"]

#: What a LogRecord has of its own; everything else on it came through `extra`.
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LONGEST: Final = 512
_SHORT: Final = 64
_KEPT: Final = "_line_fields"


def printable(text: str, limit: int = _LONGEST) -> str:
    """Make text from outside fit for a log line: bounded, without control characters."""
    if len(text) > limit:
        text = text[:limit] + "..."
    return text if text.isprintable() else "".join(_safe(c) for c in text)


def _safe(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def line_record(logger: logging.Logger, level: int, fields: dict[str, object]) -> logging.LogRecord:
    """Make the record of a line that is written for every call: as `Logger.log` would, but it does
    not walk the stack, for a place in the source that no line shows, and keeps its fields apart."""
    record = logging.LogRecord(logger.name, level, "", 0, "call", (), None)
    vars(record).update(fields)
    record.__dict__[_KEPT] = fields
    return record


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    kept: dict[str, object] | None = record.__dict__.get(_KEPT)
    if kept is not None:
        return list(kept.items())
    fields = [item for item in vars(record).items() if item[0] not in _OWN]
    if record.exc_info and record.exc_info[1] is not None:
        fields.append(("fault", describe(record.exc_info[1])))
    return fields


def _plain(value: object) -> object:
    if isinstance(value, int | bool) or value is None:
        return value
    if isinstance(value, float) and math.isfinite(value):  # JSON knows no other
        return value
    return printable(str(value))


_quoted: Final = json.encoder.encode_basestring


@lru_cache(maxsize=1024)
def _quoted_again(text: str) -> str:
    """Quote the words that come in every line: methods, codes, names."""
    return _quoted(printable(text))


def _json(value: object) -> str:
    if type(value) is str and len(value) <= _SHORT:
        return _quoted_again(value)
    plain = _plain(value)
    if isinstance(plain, str):
        return _quoted(plain)
    return repr(plain) if type(plain) in {int, float} else json.dumps(plain)


def _word(value: object) -> str:
    """One word, in quotes if it has a space, so that no value can look like another field."""
    text = str(_plain(value))
    return _quoted(text) if not text or any(c in text for c in ' ="') else text


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``ts``, ``level``, ``logger``, ``msg`` and the extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        # By hand: a line per call is the dearest thing that a server does for itself.
        parts = [
            f'{{"ts":"{_timestamp(record.created)}","level":"{record.levelname.lower()}"',
            f'"logger":{_json(record.name)},"msg":{_json(record.getMessage())}',
        ]
        parts += [f"{_quoted_again(key)}:{_json(value)}" for key, value in _fields(record)]
        return ",".join(parts) + "}"


class TextFormatter(logging.Formatter):
    """The same for people: time, level, message, ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_timestamp(record.created)} {record.levelname.lower():7} {record.getMessage()}"
        parts = [printable(head)]
        parts += [f"{key}={_word(value)}" for key, value in _fields(record)]
        return " ".join(parts)


_second: tuple[int, str] = (-1, "")


def _timestamp(created: float) -> str:
    global _second  # noqa: PLW0603  # the text of the current second, made once for its records
    whole = int(created)
    if whole != _second[0]:
        _second = (whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)))
    return f"{_second[1]}.{int((created - whole) * 1000):03d}Z"


class _LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines to a stream that flushes at each by itself, as standard error does."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001  # what can fail is unknown; logging's own way out
            self.handleError(record)


def configure(level: str, style: LogFormat, packages: Iterable[str] = ()) -> None:
    """Send the process's logs to standard error.

    `level` holds for this package and for `packages`, the driver's own; all others are heard from
    WARNING on.
    """
    handler = _LineHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # not shown
    logging.raiseExceptions = False  # a broken pipe on stderr must not print the record
    logging.captureWarnings(True)
    for name in ("openshell_drivers", *packages):
        logging.getLogger(name).setLevel(level.upper())


def quiet_process() -> None:
    """Have exceptions that nobody catches, in threads too, reported by type and place."""
    log = logging.getLogger("openshell_drivers.process")

    def report(error: BaseException | None) -> None:
        log.error("unhandled error", extra={"fault": describe(error) if error else "unknown"})

    sys.excepthook = lambda kind, error, trace: report(error)
    sys.unraisablehook = lambda lost: report(lost.exc_value)
    threading.excepthook = lambda lost: report(lost.exc_value)


def quiet_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Have the event loop report lost exceptions by type and place, not by repr."""
    log = logging.getLogger("openshell_drivers.loop")

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        fault = context.get("exception")
        log.error(
            "unhandled error in the event loop",
            extra={"fault": describe(fault) if isinstance(fault, BaseException) else "unknown"},
        )

    loop.set_exception_handler(report)
