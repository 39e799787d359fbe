"""`TokenCache`: one fetch however many ask, and what is good is given out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from openshell_drivers import (
    ConfigError,
    Credential,
    DeadlineExceeded,
    DriverError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from openshell_drivers.tokens import FetchedToken, TokenCache, TokenPolicy
from tests.fakes.issuer import Clocks, Issuer, outcome

CANARY = "canary-33f0-fetch"


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def issuer(clocks: Clocks) -> Issuer:
    return Issuer(clocks)


def _cache(issuer: Issuer, clocks: Clocks, **policy: float) -> TokenCache:
    return TokenCache(
        issuer,
        policy=TokenPolicy(**policy),  # type: ignore[arg-type]  # one of them is an int
        clock=clocks.clock,
        now=clocks.now,
    )


async def _settled(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await checkpoint()


async def _token(cache: TokenCache, name: str = "name") -> str:
    return (await cache.get(name)).token.reveal()


async def test_five_hundred_callers_of_a_cold_name_cost_one_fetch(
    issuer: Issuer, clocks: Clocks
) -> None:
    tokens = []

    async def call() -> None:
        tokens.append(await _token(cache))

    async with _cache(issuer, clocks) as cache, anyio.create_task_group() as tasks:
        for _ in range(500):
            tasks.start_soon(call)

    assert tokens == ["name-1"] * 500
    assert issuer.total == 1


async def test_followers_are_answered_when_the_leader_is_cancelled(
    issuer: Issuer, clocks: Clocks
) -> None:
    gate = issuer.close("name")
    async with _cache(issuer, clocks) as cache:
        leader = asyncio.create_task(_token(cache))
        await _settled(lambda: issuer.under_way == 1)
        followers = [asyncio.create_task(_token(cache)) for _ in range(10)]
        await checkpoint()
        leader.cancel()
        await asyncio.wait([leader])
        gate.set()
        tokens = await asyncio.gather(*followers)

    assert leader.cancelled()
    assert tokens == ["name-1"] * 10
    assert issuer.total == 1


async def test_dead_issuer_delays_only_its_own_names(issuer: Issuer, clocks: Clocks) -> None:
    issuer.close("dead")
    async with _cache(issuer, clocks) as cache:
        waiting = asyncio.create_task(_token(cache, "dead"))
        await _settled(lambda: issuer.under_way == 1)
        with anyio.fail_after(5):
            token = await _token(cache, "alive")
        waiting.cancel()

    assert token == "alive-1"


async def test_fetch_that_hangs_ends_in_time() -> None:
    issuer = Issuer()
    issuer.close("name")
    async with TokenCache(issuer, policy=TokenPolicy(fetch_timeout=0.05)) as cache:
        with pytest.raises(DeadlineExceeded):
            await cache.get("name")

    assert issuer.under_way == 0


async def test_token_is_renewed_in_the_background_before_its_end(
    issuer: Issuer, clocks: Clocks
) -> None:
    async with _cache(issuer, clocks, refresh_ahead=60, margin=30) as cache:
        await cache.get("name")
        clocks.pass_(260)
        gate = issuer.close("name")
        during = await _token(cache)
        await _settled(lambda: issuer.under_way == 1)
        still = await _token(cache)
        gate.set()
        await _settled(lambda: issuer.under_way == 0)
        after = await _token(cache)

    assert (during, still, after) == ("name-1", "name-1", "name-2")


async def test_names_do_not_refresh_in_step(issuer: Issuer, clocks: Clocks) -> None:
    random.seed(7)
    names = [f"name{number}" for number in range(50)]
    async with _cache(issuer, clocks, refresh_ahead=60, jitter=0.5) as cache:
        for name in names:
            await cache.get(name)
        clocks.pass_(255)  # 45 s are left: some of the draws between 30 s and 60 s are below
        for name in names:
            await cache.get(name)
        await _settled(lambda: issuer.under_way == 0)

    assert 50 + 5 < issuer.total < 100 - 5


@pytest.mark.parametrize("left", [45, 20, 0.5])
async def test_valid_token_is_given_out_when_its_renewal_fails(
    issuer: Issuer, clocks: Clocks, left: float
) -> None:
    async with _cache(issuer, clocks) as cache:
        await cache.get("name")
        issuer.fail(Unavailable("down"))
        clocks.pass_(300 - left)
        tokens = [await _token(cache) for _ in range(20)]
        await _settled(lambda: issuer.under_way == 0)

    assert tokens == ["name-1"] * 20
    assert issuer.total == 2


async def test_expired_token_is_never_given_out(issuer: Issuer, clocks: Clocks) -> None:
    async with _cache(issuer, clocks) as cache:
        await cache.get("name")
        issuer.fail(Unavailable("down"))
        clocks.pass_(300)
        with pytest.raises(Unavailable):
            await cache.get("name")


async def test_token_that_the_wall_clock_calls_expired_is_not_given_out(
    issuer: Issuer, clocks: Clocks
) -> None:
    async with _cache(issuer, clocks) as cache:
        first = await cache.get("name")
        assert first.expires_at is not None
        clocks.wall = first.expires_at
        token = await _token(cache)

    assert token == "name-2"


async def test_renewal_below_the_margin_is_waited_for_with_patience_only() -> None:
    clocks = Clocks()
    issuer = Issuer(clocks)
    async with _cache(issuer, clocks, patience=0.05) as cache:
        await cache.get("name")
        clocks.pass_(290)
        gate = issuer.close("name")
        with anyio.fail_after(5):
            impatient = await _token(cache)
        patient = asyncio.create_task(_token(cache))
        await checkpoint()
        gate.set()
        renewed = await patient

    assert (impatient, renewed) == ("name-1", "name-2")


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (Unavailable("x"), 1.0),
        (DeadlineExceeded("x"), 1.0),
        (ResourceExhausted("x"), 1.0),
        (NotFound("x"), 10.0),
        (FailedPrecondition("x"), 10.0),
        (PermissionDenied("x"), 10.0),
        (Unauthenticated("x"), 10.0),
        (InvalidArgument("x"), 10.0),
        (RuntimeError("x"), 10.0),
    ],
)
async def test_failure_is_kept_as_long_as_its_kind_says(
    issuer: Issuer, clocks: Clocks, error: Exception, kept: float
) -> None:
    issuer.fail(error)
    async with _cache(issuer, clocks) as cache:
        codes = {await outcome(cache.get("name")) for _ in range(50)}
        fetches = issuer.total
        clocks.pass_(kept - 0.01)
        await outcome(cache.get("name"))
        before = issuer.total
        clocks.pass_(0.02)
        issuer.fail(None)
        token = await _token(cache)

    assert len(codes) == 1
    assert (fetches, before) == (1, 1)
    assert token == "name-2"


async def test_each_caller_gets_an_error_of_its_own(issuer: Issuer, clocks: Clocks) -> None:
    issuer.fail(NotFound("no such client"))
    errors: list[DriverError] = []

    async def call() -> None:
        try:
            await cache.get("name")
        except NotFound as error:
            errors.append(error)

    async with _cache(issuer, clocks) as cache, anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(call)

    assert len({id(error) for error in errors}) == 10
    assert {error.message for error in errors} == {"no such client"}


async def test_unexpected_error_shows_neither_to_callers_nor_in_the_log(
    issuer: Issuer, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    issuer.fail(RuntimeError(CANARY))
    async with _cache(issuer, clocks) as cache:
        with pytest.raises(Internal) as caught:
            await cache.get("name")

    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert CANARY not in caplog.text


async def test_fetch_that_was_cancelled_from_within_is_a_failure(
    issuer: Issuer, clocks: Clocks
) -> None:
    issuer.fail(asyncio.CancelledError())
    async with _cache(issuer, clocks) as cache:
        with anyio.fail_after(5), pytest.raises(DriverError):
            await cache.get("name")
        issuer.fail(None)
        clocks.pass_(20)
        token = await _token(cache)

    assert token == "name-2"


@pytest.mark.parametrize("answer", [None, "text", FetchedToken])
async def test_fetch_that_gives_no_token_is_an_internal_error(answer: object) -> None:
    async def fetch(name: str) -> FetchedToken:
        return answer  # type: ignore[return-value]  # what the test is about

    async with TokenCache(fetch) as cache:
        with pytest.raises(Internal):
            await cache.get("name")


async def test_token_that_expired_on_its_way_is_not_fetched_in_a_loop(
    issuer: Issuer, clocks: Clocks
) -> None:
    issuer.expires_in, issuer.takes = 2, 3.0
    async with _cache(issuer, clocks) as cache:
        with anyio.fail_after(5):
            codes = {await outcome(cache.get("name")) for _ in range(50)}

    assert codes == {"UNAVAILABLE"}
    assert issuer.total == 1


async def test_wall_clock_that_runs_away_makes_no_loop(issuer: Issuer, clocks: Clocks) -> None:
    def fly() -> object:
        clocks.pass_(0)
        clocks.wall = clocks.wall.replace(year=clocks.wall.year + 1)
        return clocks.wall

    cache = TokenCache(issuer, clock=clocks.clock, now=fly)  # type: ignore[arg-type]  # it is one
    async with cache:
        with anyio.fail_after(5), pytest.raises(Unavailable):
            await cache.get("name")

    assert issuer.total == 1


async def test_names_are_bounded_and_the_least_recently_used_one_goes(
    issuer: Issuer, clocks: Clocks
) -> None:
    async with _cache(issuer, clocks, max_names=3) as cache:
        for name in ("a", "b", "c", "a", "d", "a", "c", "d"):
            await cache.get(name)
        again = await _token(cache, "b")

    assert issuer.fetches == {"a": 1, "b": 2, "c": 1, "d": 1}
    assert again == "b-2"


async def test_fetches_under_way_are_bounded(issuer: Issuer, clocks: Clocks) -> None:
    async with _cache(issuer, clocks, max_names=3) as cache:
        calls = []
        for name in ("a", "b", "c"):
            issuer.close(name)
            calls.append(asyncio.create_task(_token(cache, name)))
        await _settled(lambda: issuer.under_way == 3)
        with pytest.raises(ResourceExhausted):
            await cache.get("d")
        for call in calls:
            call.cancel()


async def test_many_names_leave_no_more_than_the_bound(issuer: Issuer, clocks: Clocks) -> None:
    async with _cache(issuer, clocks, max_names=10) as cache:
        for number in range(500):
            await cache.get(f"name{number}")

        assert len(cache._entries) == 10


async def test_failure_of_a_fetch_begun_before_a_renewal_is_not_kept(
    issuer: Issuer, clocks: Clocks
) -> None:
    issuer.fail(PermissionDenied("the old secret"))
    gate = issuer.close("name")
    async with _cache(issuer, clocks) as cache:
        caller = asyncio.create_task(_token(cache))
        await _settled(lambda: issuer.under_way == 1)
        issuer.fail(None)
        cache.renew("name")
        gate.set()
        token = await caller
        again = await _token(cache)

    assert (token, again) == ("name-2", "name-2")


@pytest.mark.parametrize("name", ["name", None])
async def test_renewing_forgets_a_failure(issuer: Issuer, clocks: Clocks, name: str | None) -> None:
    issuer.fail(PermissionDenied("the old secret"))
    async with _cache(issuer, clocks) as cache:
        await outcome(cache.get("name"))
        issuer.fail(None)
        cache.renew(name)
        token = await _token(cache)

    assert token == "name-2"


async def test_token_in_hand_is_used_until_the_renewed_one_is_there(
    issuer: Issuer, clocks: Clocks
) -> None:
    async with _cache(issuer, clocks, patience=0.01) as cache:
        await cache.get("name")
        gate = issuer.close("name")
        cache.renew()
        during = await _token(cache)
        gate.set()
        await _settled(lambda: issuer.under_way == 0)
        after = await _token(cache)

    assert (during, after) == ("name-1", "name-2")


async def test_renewing_a_name_that_nobody_asked_for_does_nothing(
    issuer: Issuer, clocks: Clocks
) -> None:
    async with _cache(issuer, clocks) as cache:
        cache.renew("never seen")
        cache.forget("never seen")

    assert issuer.total == 0


async def test_forgotten_name_is_fetched_anew(issuer: Issuer, clocks: Clocks) -> None:
    async with _cache(issuer, clocks) as cache:
        await cache.get("name")
        cache.forget("name")
        token = await _token(cache)

    assert token == "name-2"


async def test_token_fetched_before_forgetting_is_given_to_nobody(
    issuer: Issuer, clocks: Clocks
) -> None:
    gate = issuer.close("name")
    async with _cache(issuer, clocks) as cache:
        caller = asyncio.create_task(_token(cache))
        await _settled(lambda: issuer.under_way == 1)
        cache.forget("name")
        gate.set()
        token = await caller
        again = await _token(cache)

    assert (token, again) == ("name-2", "name-2")


async def test_failure_from_before_forgetting_is_given_to_nobody(
    issuer: Issuer, clocks: Clocks
) -> None:
    issuer.fail(PermissionDenied("the old terms"))
    gate = issuer.close("name")
    async with _cache(issuer, clocks) as cache:
        caller = asyncio.create_task(outcome(cache.get("name")))
        await _settled(lambda: issuer.under_way == 1)
        issuer.fail(None)
        cache.forget("name")
        gate.set()
        token = await caller

    assert token == "name-2"


async def test_leaving_cancels_every_fetch_and_answers_who_waits(
    issuer: Issuer, clocks: Clocks
) -> None:
    async with _cache(issuer, clocks) as cache:
        callers = []
        for name in ("a", "b", "c"):
            issuer.close(name)
            callers.append(asyncio.create_task(outcome(cache.get(name))))
        await _settled(lambda: issuer.under_way == 3)
    codes = await asyncio.gather(*callers)

    assert issuer.under_way == 0
    assert codes == ["UNAVAILABLE"] * 3


async def test_closed_cache_refuses(issuer: Issuer, clocks: Clocks) -> None:
    cache = _cache(issuer, clocks)
    async with cache:
        pass

    with pytest.raises(Unavailable, match="closed"):
        await cache.get("name")


async def test_error_inside_the_context_comes_out_as_it_is(issuer: Issuer, clocks: Clocks) -> None:
    with pytest.raises(ConfigError, match="as it is"):
        async with _cache(issuer, clocks):
            raise ConfigError("as it is")


async def test_cancelling_who_holds_the_cache_cancels_its_fetches() -> None:
    issuer = Issuer()
    issuer.close("name")
    with anyio.move_on_after(0.05) as scope:
        async with TokenCache(issuer) as cache:
            await cache.get("name")

    assert scope.cancelled_caught
    assert issuer.under_way == 0


async def test_expiry_is_counted_from_before_the_fetch(issuer: Issuer, clocks: Clocks) -> None:
    asked = clocks.now()
    issuer.takes = 10.0
    async with _cache(issuer, clocks) as cache:
        credential: Credential = await cache.get("name")

    assert credential.expires_at is not None
    assert (credential.expires_at - asked).total_seconds() == 300
