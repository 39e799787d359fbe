"""Instants survive the wire in both forms, and nothing a driver may give makes an invalid one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from openshell_drivers._codec.times import (
    from_milliseconds,
    from_timestamp,
    to_milliseconds,
    to_timestamp,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
FIRST_MS = -62_135_596_800_000
LAST_MS = 253_402_300_799_999

zones = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(
    timezone
)
instants = st.datetimes(timezones=zones)  # any that Python can write, years 1 and 9999 included


def valid(stamp: Timestamp) -> bool:
    seconds = FIRST_MS // 1000 <= stamp.seconds <= LAST_MS // 1000
    return seconds and 0 <= stamp.nanos < 1_000_000_000


@given(instants)
def test_both_forms_are_the_same_instant_in_milliseconds(instant: datetime) -> None:
    stamp = to_timestamp(instant)

    assert stamp.seconds * 1000 + stamp.nanos // 1_000_000 == to_milliseconds(instant)
    assert stamp.nanos % 1_000_000 == 0


@given(instants)
def test_any_instant_gives_a_valid_timestamp(instant: datetime) -> None:
    assert valid(to_timestamp(instant))


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_is_rounded_down_to_a_millisecond(instant: datetime) -> None:
    back = from_timestamp(to_timestamp(instant))

    assert back is not None
    assert timedelta(0) <= instant - back < timedelta(milliseconds=1)


@given(st.integers(FIRST_MS, LAST_MS))
def test_milliseconds_survive_a_round_trip(milliseconds: int) -> None:
    instant = from_milliseconds(milliseconds)

    assert to_milliseconds(instant) == milliseconds
    if milliseconds:
        assert instant is not None
        assert from_timestamp(to_timestamp(instant)) == instant


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_milliseconds_a_peer_can_send_are_read_without_an_error(milliseconds: int) -> None:
    instant = from_milliseconds(milliseconds)

    assert (instant is None) is (milliseconds == 0 or not FIRST_MS <= milliseconds <= LAST_MS)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_any_timestamp_a_peer_can_send_is_read_without_an_error(seconds: int, nanos: int) -> None:
    stamp = Timestamp(seconds=seconds, nanos=nanos)

    assert (from_timestamp(stamp) is not None) is valid(stamp)


@given(st.integers(FIRST_MS // 1000, LAST_MS // 1000), st.integers(0, 999_999_999))
def test_a_timestamp_is_read_to_the_microsecond_below(seconds: int, nanos: int) -> None:
    instant = from_timestamp(Timestamp(seconds=seconds, nanos=nanos))

    assert instant == EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)


@pytest.mark.parametrize(
    ("instant", "milliseconds", "seconds", "nanos"),
    [
        (EPOCH, 0, 0, 0),
        (EPOCH + timedelta(microseconds=1), 0, 0, 0),
        (EPOCH + timedelta(microseconds=1999), 1, 0, 1_000_000),
        (EPOCH - timedelta(microseconds=1), -1, -1, 999_000_000),
        (EPOCH - timedelta(milliseconds=1001), -1001, -2, 999_000_000),
        (FIRST, FIRST_MS, -62_135_596_800, 0),
        (LAST, LAST_MS, 253_402_300_799, 999_000_000),
        (
            datetime(2100, 1, 1, 5, tzinfo=timezone(timedelta(hours=5))),
            4_102_444_800_000,
            4_102_444_800,
            0,
        ),
        (
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
            LAST_MS,
            253_402_300_799,
            999_000_000,
        ),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), FIRST_MS, -62_135_596_800, 0),
    ],
    ids=str,
)
def test_an_instant_at_a_border(
    instant: datetime, milliseconds: int, seconds: int, nanos: int
) -> None:
    stamp = to_timestamp(instant)

    assert to_milliseconds(instant) == milliseconds
    assert (stamp.seconds, stamp.nanos) == (seconds, nanos)


def test_no_instant_is_zero_milliseconds_and_back() -> None:
    assert to_milliseconds(None) == 0
    assert from_milliseconds(0) is None
