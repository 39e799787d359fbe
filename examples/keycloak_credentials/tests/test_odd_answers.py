"""Every answer that an issuer should not give, and what the gateway is told."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from examples.keycloak_credentials.tests.world import World, failure, resolve
from openshell_drivers import (
    DeadlineExceeded,
    DriverError,
    FailedPrecondition,
    PermissionDenied,
    Unavailable,
)
from tests.peers.scripted import (
    Answer,
    ScriptedEndpoint,
    document,
    drip,
    endless_chunks,
    hang,
    never_read,
    raw,
    redirect,
    token,
)

ODD: dict[str, type[DriverError]] = {
    "/hang": DeadlineExceeded,
    "/redirect-307": FailedPrecondition,
    "/redirect-302": FailedPrecondition,
    "/echo": FailedPrecondition,
    "/megabyte-500": Unavailable,
    "/megabyte-200": Unavailable,
    "/unavailable": Unavailable,
    "/endless": Unavailable,
    "/not-json": Unavailable,
    "/cut-json": Unavailable,
    "/not-utf8": Unavailable,
    "/empty-body": Unavailable,
    "/deep-json": Unavailable,
    "/list": Unavailable,
    "/json-string": Unavailable,
    "/token-missing": Unavailable,
    "/token-empty": Unavailable,
    "/token-null": Unavailable,
    "/token-number": Unavailable,
    "/token-newline": Unavailable,
    "/type-number": Unavailable,
    "/drip": DeadlineExceeded,
    "/reset": Unavailable,
    "/close": Unavailable,
    "/too-many": Unavailable,
    "/too-many-long": Unavailable,
}


@pytest.mark.parametrize(("path", "kind"), ODD.items())
async def test_odd_answer_is_refused_with_its_status(
    world: World, endpoint: ScriptedEndpoint, path: str, kind: type[DriverError]
) -> None:
    async with world.driver(one=world.post(endpoint.url(path), timeout=0.7)) as driver:
        error = await failure(driver)

    assert type(error) is kind
    assert "'one'" in error.message


async def test_every_odd_answer_is_judged(endpoint: ScriptedEndpoint) -> None:
    good = {path for path in endpoint.routes if path.startswith(("/expires-", "/type-"))}
    assert set(endpoint.routes) - good - {"/ok"} == set(ODD) - good


@pytest.mark.parametrize(
    "life", ["missing", "null", "zero", "negative", "garbage", "nan", "true", "list"]
)
async def test_unusable_lifetime_gives_no_expiry_and_no_hot_loop(
    world: World, endpoint: ScriptedEndpoint, life: str
) -> None:
    async with world.driver(one=world.post(endpoint.url(f"/expires-{life}"))) as driver:
        answers = [await resolve(driver) for _ in range(20)]

    assert {answer.expires_at for answer in answers} == {None}
    assert endpoint.count == 1


@pytest.mark.parametrize(
    ("life", "seconds"), [("string", 60), ("huge", 86400), ("infinite", 86400)]
)
async def test_strange_but_usable_lifetime_is_taken_within_bounds(
    world: World, endpoint: ScriptedEndpoint, life: str, seconds: int
) -> None:
    before = datetime.now(UTC)
    async with world.driver(one=world.post(endpoint.url(f"/expires-{life}"))) as driver:
        answer = await resolve(driver)

    assert answer.expires_at is not None
    life_given = answer.expires_at - before
    assert timedelta(seconds=seconds - 1) < life_given < timedelta(seconds=seconds + 5)


async def test_life_of_a_second_and_a_half_is_never_given_out_in_the_past(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    async with world.driver(one=world.post(endpoint.url("/expires-fraction"))) as driver:
        for _ in range(50):
            answer = await resolve(driver)
            assert answer.expires_at is not None
            assert answer.expires_at > datetime.now(UTC)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("bearer", "Bearer"),
        ("BEARER", "Bearer"),
        ("Bearer", "Bearer"),
        ("", "Bearer"),
        (None, "Bearer"),
        (..., "Bearer"),
        ("mac", "mac"),
        ("N_A", "N_A"),
    ],
)
async def test_token_type_is_canonical(
    world: World, endpoint: ScriptedEndpoint, given: object, told: str
) -> None:
    endpoint.queue(token(token_type=given))
    async with world.driver(one=world.post(endpoint.url())) as driver:
        assert (await resolve(driver)).token_type == told


@pytest.mark.parametrize("given", ["bear er", "x" * 33, "a\nb", 7, ["Bearer"], "Bearer:"])
async def test_token_type_that_is_no_token_is_refused(
    world: World, endpoint: ScriptedEndpoint, given: object
) -> None:
    endpoint.queue(token(token_type=given))
    async with world.driver(one=world.post(endpoint.url())) as driver:
        assert type(await failure(driver)) is Unavailable


@pytest.mark.parametrize("answer", [hang, never_read, drip(b"x" * 1000), endless_chunks(b"x")])
async def test_fetch_ends_at_its_total_deadline(
    world: World, endpoint: ScriptedEndpoint, answer: Answer
) -> None:
    endpoint.queue(answer)
    async with world.driver(one=world.post(endpoint.url(), timeout=0.4)) as driver:
        started = time.monotonic()
        error = await failure(driver)

    assert isinstance(error, DeadlineExceeded | Unavailable)  # endless may reach the limit first
    assert time.monotonic() - started < 5


async def test_redirect_is_not_followed(world: World, endpoint: ScriptedEndpoint) -> None:
    endpoint.queue(redirect(endpoint.url("/ok"), 307))
    async with world.driver(one=world.post(endpoint.url())) as driver:
        assert type(await failure(driver)) is FailedPrecondition

    assert endpoint.count == 1


async def test_unreachable_issuer_is_unavailable(world: World) -> None:
    async with world.driver(one=world.post("http://127.0.0.1:9/token")) as driver:
        assert type(await failure(driver)) is Unavailable


async def test_unknown_host_is_unavailable(world: World) -> None:
    async with world.driver(one=world.post("http://issuer.invalid/token")) as driver:
        assert type(await failure(driver)) is Unavailable


async def test_compressed_answer_is_refused_unread(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    endpoint.queue(raw(b'{"access_token": "x"}', Content_Encoding="gzip"))
    async with world.driver(one=world.post(endpoint.url())) as driver:
        assert type(await failure(driver)) is Unavailable

    assert endpoint.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "answer", [raw(b"x" * 100_000, status=404), raw(b"x", status=404, Content_Encoding="gzip")]
)
async def test_status_counts_even_if_its_body_cannot_be_read(
    world: World, endpoint: ScriptedEndpoint, answer: Answer
) -> None:
    endpoint.queue(answer)
    async with world.driver(one=world.post(endpoint.url())) as driver:
        assert type(await failure(driver)) is FailedPrecondition


async def test_error_in_a_200_counts_as_an_error(world: World, endpoint: ScriptedEndpoint) -> None:
    endpoint.queue(document({"error": "access_denied"}))
    async with world.driver(one=world.post(endpoint.url())) as driver:
        assert type(await failure(driver)) is PermissionDenied


async def test_no_cookie_is_kept(world: World, endpoint: ScriptedEndpoint) -> None:
    endpoint.queue(token(expires_in=0), token(expires_in=0))
    endpoint.queue(document({"error": "invalid_client"}, 401, Set_Cookie="route=1; Path=/"))
    endpoint.routes["/token"] = token(expires_in=0)
    async with world.driver(one=world.post(endpoint.url(), timeout=5)) as driver:
        await driver._fetch("one")
        await driver._fetch("one")
        with pytest.raises(DriverError):
            await driver._fetch("one")
        await driver._fetch("one")

    assert all("cookie" not in request.headers for request in endpoint.requests)


async def test_environment_proxy_is_not_used(
    world: World, endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with world.driver(one=world.post(endpoint.url())) as driver:
        await resolve(driver)

    assert endpoint.count == 1


async def test_configured_proxy_is_used(world: World, endpoint: ScriptedEndpoint) -> None:
    settings = world.post("http://issuer.invalid/token", proxy=endpoint.base_url)
    async with world.driver(one=settings) as driver:
        await resolve(driver)

    assert endpoint.requests[0].path == "http://issuer.invalid/token"
