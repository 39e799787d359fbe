"""`Backoff`: as many delays as said, none longer than said."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openshell_drivers import Backoff

SECONDS = st.floats(min_value=0, max_value=1e6)
POLICIES = st.builds(
    Backoff,
    attempts=st.none() | st.integers(min_value=1, max_value=200),
    delay=SECONDS,
    factor=st.floats(min_value=1, max_value=1e9),
    maximum=SECONDS,
    jitter=st.floats(min_value=0, max_value=1),
)


@given(POLICIES)
def test_there_is_one_delay_less_than_there_are_attempts(policy: Backoff) -> None:
    delays = list(islice(policy, 300))

    assert len(delays) == (300 if policy.attempts is None else policy.attempts - 1)


@given(POLICIES)
def test_no_delay_is_negative_or_longer_than_the_maximum(policy: Backoff) -> None:
    for delay in islice(policy, 300):
        assert 0 <= delay <= policy.maximum


@given(POLICIES.filter(lambda policy: policy.jitter == 0))
def test_delays_without_jitter_never_shrink(policy: Backoff) -> None:
    for shorter, longer in pairwise(islice(policy, 300)):
        assert shorter <= longer


@given(st.floats(min_value=0.01, max_value=1))
def test_jitter_takes_off_its_share_at_most(jitter: float) -> None:
    for delay in Backoff(attempts=50, delay=1.0, jitter=jitter):
        assert 1 - jitter <= delay <= 1


def test_each_iteration_starts_anew() -> None:
    policy = Backoff(attempts=5, delay=1, factor=2)

    assert list(policy) == list(policy) == [1, 2, 4, 8]


def test_the_default_is_the_gateways_own() -> None:
    delays = list(Backoff())

    assert len(delays) == 99
    assert sum(delays) == pytest.approx(9.9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"delay": -1.0},
        {"maximum": -1.0},
        {"factor": 0.5},
        {"jitter": 1.5},
        {"jitter": -0.1},
    ],
)
def test_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must (be|not be|lie)"):
        Backoff(**wrong)  # type: ignore[arg-type]  # the keys vary
