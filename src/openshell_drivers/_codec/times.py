"""Instants on the wire: milliseconds for the old lines, a Timestamp for the new, always both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_FIRST: Final = -62_135_596_800_000  # the years 1 to 9999 in UTC, all that a Timestamp may hold
_LAST: Final = 253_402_300_799_999


def to_milliseconds(instant: datetime | None) -> int:
    """Give milliseconds since the epoch, rounded down; 0 for None (CREDU01-EXP-02).

    An instant that only its own time zone has a year for, as ``datetime.max`` west of Greenwich,
    becomes the last or first there is: a Timestamp out of range fails the caller's decoding.
    """
    if instant is None:
        return 0
    return min(max((instant - _EPOCH) // _MILLISECOND, _FIRST), _LAST)


def from_milliseconds(milliseconds: int) -> datetime | None:
    """Read milliseconds since the epoch; 0 and what no calendar holds give None."""
    if milliseconds == 0:
        return None
    try:
        return _EPOCH + milliseconds * _MILLISECOND
    except OverflowError:
        return None


def to_timestamp(instant: datetime) -> Timestamp:
    """Give the same instant as `to_milliseconds` does, as a valid Timestamp (COMP01-TIME-01)."""
    milliseconds = to_milliseconds(instant)
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def from_timestamp(stamp: Timestamp) -> datetime | None:
    """Read a Timestamp; one out of range gives None."""
    if not 0 <= stamp.nanos < 1_000_000_000:
        return None
    try:
        return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    except OverflowError:
        return None
