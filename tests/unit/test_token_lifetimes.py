"""What issuers write as a lifetime, and what becomes of it."""

from __future__ import annotations

import math

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from openshell_drivers import Unavailable
from openshell_drivers.tokens import TokenCache, TokenPolicy, parse_lifetime
from tests.fakes.issuer import Clocks, Issuer, outcome


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (None, None),
        (True, None),
        (False, None),
        (0, 0.0),
        (-5, 0.0),
        (-1e30, 0.0),
        (300, 300.0),
        (2.5, 2.5),
        ("3600", 3600.0),
        (" 3600 ", 3600.0),
        ("0", 0.0),
        ("garbage", None),
        ("", None),
        ("9" * 1000, None),
        (math.nan, None),
        ("nan", None),
        (math.inf, math.inf),
        (-math.inf, 0.0),
        (1e30, 1e30),
        (10**400, math.inf),
        (-(10**400), None),
        ([3600], None),
        ({"s": 1}, None),
        (b"3600", None),
    ],
)
def test_lifetime_is_read_as_far_as_it_says_something(
    written: object, seconds: float | None
) -> None:
    assert parse_lifetime(written) == seconds


@given(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
)
def test_lifetime_is_a_number_of_seconds_or_nothing(written: object) -> None:
    seconds = parse_lifetime(written)

    assert seconds is None or seconds >= 0


UNUSABLE: list[object] = [None, 0, -1, -math.inf, "garbage", "", math.nan, True, "0", [], "9" * 50]
ABSURD: list[object] = [1e30, math.inf, 10**400, "1e30", 2**63]


@pytest.mark.parametrize("expires_in", [*UNUSABLE, *ABSURD, 300, "3600", 0.5])
async def test_odd_lifetime_floods_no_issuer_and_names_no_past(expires_in: object) -> None:
    clocks = Clocks()
    issuer = Issuer(clocks)
    issuer.expires_in = expires_in
    async with TokenCache(issuer, clock=clocks.clock, now=clocks.now) as cache:
        for _ in range(100):
            credential = await cache.get("name")
            assert credential.expires_at is None or credential.expires_at >= clocks.now()

    assert issuer.total == 1


@pytest.mark.parametrize("expires_in", [1e-9, 5e-324, 0.01])
async def test_lifetime_of_next_to_nothing_is_not_asked_for_in_a_loop(expires_in: float) -> None:
    clocks = Clocks()
    issuer = Issuer(clocks)
    issuer.expires_in = expires_in
    async with TokenCache(issuer, clock=clocks.clock, now=clocks.now) as cache:
        ends = {(await cache.get("name")).expires_at for _ in range(100)}

    assert ends == {None}
    assert issuer.total == 1


@pytest.mark.parametrize("expires_in", UNUSABLE)
async def test_token_of_unusable_lifetime_has_no_expiry_and_is_reused_a_while(
    expires_in: object,
) -> None:
    clocks = Clocks()
    issuer = Issuer(clocks)
    issuer.expires_in = expires_in
    policy = TokenPolicy(unknown_lifetime=60, shortest_reuse=1)
    async with TokenCache(issuer, policy=policy, clock=clocks.clock, now=clocks.now) as cache:
        first = await cache.get("name")
        clocks.pass_(0.9)
        await cache.get("name")
        within = issuer.total
        clocks.pass_(60)
        await cache.get("name")

    assert first.expires_at is None
    assert (within, issuer.total) == (1, 2)


@pytest.mark.parametrize("expires_in", ABSURD)
async def test_absurd_lifetime_counts_as_the_longest(expires_in: object) -> None:
    clocks = Clocks()
    issuer = Issuer(clocks)
    issuer.expires_in = expires_in
    async with TokenCache(issuer, clock=clocks.clock, now=clocks.now) as cache:
        credential = await cache.get("name")

    assert credential.expires_at is not None
    assert (credential.expires_at - clocks.now()).total_seconds() == 86_400


class CacheModel(RuleBasedStateMachine):
    """Any order of asking, waiting, failing and renewing keeps the promises."""

    def __init__(self) -> None:
        super().__init__()
        self.clocks = Clocks()
        self.issuer = Issuer(self.clocks)
        self.given: list[str] = []
        self.portal = anyio.from_thread.start_blocking_portal()
        self.calls = self.portal.__enter__()
        opening = self._opened()
        self.opening = self.calls.wrap_async_context_manager(opening)
        self.cache = self.opening.__enter__()

    def _opened(self) -> TokenCache:
        policy = TokenPolicy(max_names=3, patience=0.0)
        return TokenCache(self.issuer, policy=policy, clock=self.clocks.clock, now=self.clocks.now)

    @rule(name=st.sampled_from("abcde"))
    def ask(self, name: str) -> None:
        before = self.issuer.total
        given = self.calls.call(lambda: outcome(self._asked(name)))
        after = self.issuer.total
        assert after - before <= 1, "one caller, more than one fetch"
        if given.startswith(name):
            issued = int(given.removeprefix(f"{name}-"))
            assert issued <= self.issuer.fetches[name]
        else:
            assert given == "UNAVAILABLE"

    async def _asked(self, name: str) -> object:
        credential = await self.cache.get(name)
        assert credential.expires_at is None or credential.expires_at > self.clocks.now()
        while self.issuer.under_way:
            await anyio.lowlevel.checkpoint()
        return credential

    @rule(seconds=st.floats(min_value=0, max_value=500))
    def wait(self, seconds: float) -> None:
        self.clocks.pass_(seconds)

    @rule(lifetime=st.sampled_from([None, 0, 1, 40, 300, "3600", math.nan]))
    def change_lifetime(self, lifetime: object) -> None:
        self.issuer.expires_in = lifetime

    @rule(seconds=st.sampled_from([0.0, 0.5, 5.0]))
    def change_speed(self, seconds: float) -> None:
        self.issuer.takes = seconds

    @rule(down=st.booleans())
    def change_health(self, down: bool) -> None:
        self.issuer.fail(Unavailable("down") if down else None)

    @rule(name=st.sampled_from("abcde") | st.none())
    def renew(self, name: str | None) -> None:
        self.calls.call(self.cache.renew, name)

    @rule(name=st.sampled_from("abcde"))
    def forget(self, name: str) -> None:
        self.calls.call(self.cache.forget, name)

    @invariant()
    def names_are_bounded(self) -> None:
        assert len(self.cache._entries) <= 3

    def teardown(self) -> None:
        self.opening.__exit__(None, None, None)
        self.portal.__exit__(None, None, None)
        assert self.issuer.under_way == 0


TestCache = CacheModel.TestCase
