"""Checks of what authors hand over, so that a mistake is named where it is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from types import UnionType
from typing import Any, ParamSpec, TypeVar

from openshell_drivers._faults import WrongType, WrongValue
from openshell_drivers.secrets import Secret

P = ParamSpec("P")
T = TypeVar("T")


def require_secret(field: str, value: object) -> None:
    """Refuse anything but a `Secret`; the value is not shown, since it may be one."""
    if not isinstance(value, Secret):
        raise WrongType(f"{field} must be a Secret, not {type(value).__name__}")


def require_token(field: str, value: object) -> None:
    """Refuse what cannot stand in a header: empty, or with white space or control characters."""
    require_secret(field, value)
    text = value.reveal() if isinstance(value, Secret) else ""
    if not text:
        raise WrongValue(f"{field} must not be empty")
    if not text.isprintable() or any(character.isspace() for character in text):
        raise WrongValue(f"{field} must not hold white space or control characters")


def require_aware(field: str, value: datetime | None) -> None:
    """Refuse a datetime without a time zone: it names no instant."""
    if value is not None and value.utcoffset() is None:
        raise WrongValue(f"{field} must have a time zone")


async def returned(
    kind: type[Any] | UnionType,
    method: Callable[P, Awaitable[T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Await an author's method and refuse another type than it promises."""
    answer = method(*args, **kwargs)
    name = getattr(method, "__qualname__", "a method")
    if not hasattr(answer, "__await__"):
        raise WrongType(f"{name} must be an async def")
    value = await answer
    if not isinstance(value, kind):
        wanted = kind.__name__ if isinstance(kind, type) else str(kind)
        raise WrongType(f"{name} returned {type(value).__name__}, not {wanted}")
    return value
