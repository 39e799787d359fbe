"""The limits of a server: each above nothing."""

from __future__ import annotations

import math

import pytest

from openshell_drivers.server import ServerOptions


@pytest.mark.parametrize("name", ["start_timeout", "call_timeout", "drain_timeout", "stop_timeout"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_limit_that_is_none_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        ServerOptions(**{name: value})  # type: ignore[arg-type]  # names differ in type


@pytest.mark.parametrize("name", ["max_calls", "max_streams", "max_message_bytes"])
def test_a_number_that_admits_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        ServerOptions(**{name: 0})  # type: ignore[arg-type]  # names differ in type
