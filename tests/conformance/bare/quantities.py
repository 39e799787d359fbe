"""Kubernetes quantities: whether a text is one (COMP-IN-04)."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_CPU: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|k|[eE][+-]?[0-9]{1,2})?", re.ASCII)
_MEMORY: Final = re.compile(
    r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[kKMGTPE]|[eE][+-]?[0-9]{1,2})?", re.ASCII
)
_LONGEST: Final = 40


def is_cpu(text: str) -> bool:
    """Whether it is an amount of processors above zero."""
    return _is_positive(_CPU, text)


def is_memory(text: str) -> bool:
    """Whether it is an amount of bytes above zero."""
    return _is_positive(_MEMORY, text)


def _is_positive(pattern: re.Pattern[str], text: str) -> bool:
    found = pattern.fullmatch(text) if len(text) <= _LONGEST else None
    return found is not None and Decimal(found[1]) > 0
