"""Checks that the author types share, so that a mistake is found where it is made."""

from __future__ import annotations

from datetime import datetime

from openshell_drivers.secrets import Secret


def require_secret(field: str, value: object) -> None:
    """Refuse anything but a `Secret`; the value is not shown, since it may be one."""
    if not isinstance(value, Secret):
        raise TypeError(f"{field} must be a Secret, not {type(value).__name__}")


def require_aware(field: str, value: datetime | None) -> None:
    """Refuse a datetime without a time zone: it names no instant."""
    if value is not None and value.utcoffset() is None:
        raise ValueError(f"{field} must have a time zone")
