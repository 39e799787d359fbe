"""Keeps the HTTP library's own log quiet: at DEBUG it writes response headers, which are the
issuer's text, and at INFO the reason phrase. Does not import the library.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOGGERS: Final = (
    "httpx2",
    "httpcore2.connection",
    "httpcore2.http11",
    "httpcore2.proxy",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop the library's records while inside, whatever level anybody sets."""

    def nothing(record: logging.LogRecord) -> bool:
        return False

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(nothing)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(nothing)
