"""Kubernetes quantities in plain numbers: ``500m`` of CPU, ``1.5Gi`` of memory (COMP-IN-04).

The grammar is that of Kubernetes: a sign, digits with at most one point (``.5`` and ``5.`` count),
and a suffix from ``n u m k M G T P E``, from ``Ki`` to ``Ei``, or an exponent (``1e3``; an ``E``
alone means exa). ``K``, which Kubernetes does not know and the gateways let through, counts as
``k``. The arithmetic is exact.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

from openshell_drivers.errors import InvalidArgument

__all__ = ["cpu_millis", "memory_bytes"]

_LONGEST: Final = 64
_MOST: Final = 2**63 - 1
#: More than any text that is short enough can make up for with its digits, either way.
_FARTHEST_EXPONENT: Final = 1000
_DECIMAL: Final = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_BINARY: Final = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_SUFFIXES: Final = {
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate(_DECIMAL, -3)},
    **{suffix: Fraction(1024) ** power for power, suffix in enumerate(_BINARY, 1)},
    "K": Fraction(1000),
}
_QUANTITY: Final = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]*))?"
    r"(?:[eE](?P<exponent>[+-]?[0-9]+)|(?P<suffix>[A-Za-z]{0,2}))"
)


def cpu_millis(text: str, *, field: str = "cpu") -> int:
    """Read an amount of CPU in thousandths of a core, rounded up: ``1n`` is 1, as in Kubernetes.

    Raises `InvalidArgument`, which names `field` and the rule, for all that is not a quantity, for
    zero and less, and for what does not fit 64 bits with a sign.
    """
    return _rounded_up(_amount(text, field) * 1000, field)


def memory_bytes(text: str, *, field: str = "memory") -> int:
    """Read an amount of memory in bytes, rounded up: ``1500m`` is 2, as in Kubernetes.

    Raises `InvalidArgument` as `cpu_millis` does.
    """
    return _rounded_up(_amount(text, field), field)


def _amount(text: str, field: str) -> Fraction:
    if len(text) > _LONGEST:
        raise InvalidArgument(f"{field} is longer than {_LONGEST} characters")
    match = _QUANTITY.fullmatch(text)
    digits = (match["whole"] + (match["part"] or "")) if match else ""
    if match is None or not digits or (match["suffix"] or "") not in _SUFFIXES:
        raise InvalidArgument(f"{field} is not a Kubernetes quantity, such as 2, 500m or 1.5Gi")
    amount = Fraction(int(digits), 10 ** len(match["part"] or ""))
    if amount == 0 or match["sign"] == "-":
        raise InvalidArgument(f"{field} must be more than zero")
    if match["exponent"] is None:
        return amount * _SUFFIXES[match["suffix"]]
    exponent = int(match["exponent"])
    return amount * Fraction(10) ** max(-_FARTHEST_EXPONENT, min(exponent, _FARTHEST_EXPONENT))


def _rounded_up(amount: Fraction, field: str) -> int:
    number = math.ceil(amount)
    if number > _MOST:
        raise InvalidArgument(f"{field} is more than 64 bits can hold")
    return number
