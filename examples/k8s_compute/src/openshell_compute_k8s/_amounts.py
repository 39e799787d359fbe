"""Amounts of a resource: compared and written exactly, as the API server does it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic_core import PydanticCustomError

from openshell_drivers.errors import InvalidArgument
from openshell_drivers.quantities import cpu_millis, memory_bytes

#: What Kubernetes reads as we do, and anybody can read.
_PLAIN_CPU: Final = re.compile(r"[0-9]+m?")
_PLAIN: Final = re.compile(r"[0-9]+(?:[KMGTPE]i|[kMGTPE])?")


def is_device(resource: str) -> bool:
    """Say whether it is had whole only, and requested exactly as it is limited."""
    return "/" in resource


def size(resource: str, amount: str) -> int:
    """Measure in the resource's least unit: thousandths of a core, bytes, devices. Raises
    `InvalidArgument` for what is no amount."""
    return (cpu_millis if resource == "cpu" else memory_bytes)(amount, field=resource)


def written(resource: str, amount: str) -> str:
    """Write it so that the API server compares what `size` does: as it is, if that is plain."""
    if (_PLAIN_CPU if resource == "cpu" else _PLAIN).fullmatch(amount):
        return amount
    return f"{size(resource, amount)}{'m' if resource == 'cpu' else ''}"


def check(requests: Mapping[str, str], limits: Mapping[str, str]) -> None:
    """Refuse, with `ValueError`, a request above its limit, and parts of devices."""
    for resource in {*requests, *limits}:
        amounts = [each[resource] for each in (requests, limits) if resource in each]
        sizes = [_measured(resource, amount) for amount in amounts]
        if is_device(resource):
            _check_device(amounts, sizes)
        elif sizes[0] > sizes[-1]:
            raise PydanticCustomError("rule", "a request must not be above its limit")


def _measured(resource: str, amount: str) -> int:
    try:
        return size(resource, amount)
    except InvalidArgument:
        raise PydanticCustomError("rule", "an amount is too large") from None


def _check_device(amounts: list[str], sizes: list[int]) -> None:
    if not all(amount.isdecimal() for amount in amounts):
        raise PydanticCustomError("rule", "devices are had in whole numbers")
    if sizes[0] != sizes[-1]:
        raise PydanticCustomError("rule", "devices are requested exactly as they are limited")
