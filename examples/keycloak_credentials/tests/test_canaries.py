"""Nothing that is secret, and nothing that an issuer says, is ever seen where it should not be."""

from __future__ import annotations

import logging
import traceback

import pytest
from joserfc.jwk import RSAKey

from examples.keycloak_credentials.tests.world import Settings, World, canary, failure, resolve
from openshell_drivers import DriverError
from tests.peers.scripted import (
    ODD_ANSWERS,
    Answer,
    ScriptedEndpoint,
    document,
    echo_form,
    raw,
    redirect,
    token,
)

LOGGERS = (
    "",
    "anyio",
    "asyncio",
    "httpcore2",
    "httpcore2.connection",
    "httpcore2.http11",
    "httpcore2.proxy",
    "httpx2",
    "openshell_credentials_keycloak",
    "openshell_drivers",
    "openshell_drivers.tokens",
)


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, name)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Give all that was logged, fields and tracebacks included."""
    return caplog.text + "".join(repr(record.__dict__) for record in caplog.records)


def shown(error: BaseException | None) -> str:
    """Give all that an error can tell, and all that hangs on it."""
    told = ""
    while error is not None:
        told += "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
        error = error.__cause__ or error.__context__
    return told


ANSWERS = {
    "echo": echo_form(),
    "echo-500": echo_form(500),
    "echo-200": echo_form(200),
    "description": document({"error": "invalid_scope", "error_description": "canary-remote"}, 400),
    "code": document({"error": "canary-remote"}, 400),
    "text": raw(b"canary-remote", "text/plain", 502),
    "page": raw(b"<html>canary-remote</html>", "text/html"),
    "header": raw(b"{}", status=401, WWW_Authenticate="Bearer error=canary-remote"),
    "cookie": document({"error": "invalid_grant"}, 400, Set_Cookie="canary-remote=1"),
    "location": redirect("https://canary-remote.example/"),
    "encoding": raw(b"", Content_Encoding="canary-remote"),
    "type": token("canary-token", token_type="canary remote"),
    "newline": token("canary-token\n"),
    "not http": raw(b"x"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_refusal_shows_nothing_of_the_issuer_and_no_secret(
    world: World, endpoint: ScriptedEndpoint, caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    endpoint.default = answer
    async with world.driver(one=world.post(endpoint.url())) as driver:
        error = await failure(driver)

    told = [record.__dict__["reason"] for record in caplog.records if hasattr(record, "reason")]
    assert "canary" not in shown(error)
    assert "canary" not in logged(caplog)
    assert told == [error.message]


@pytest.mark.parametrize("path", sorted(ODD_ANSWERS))
async def test_no_odd_answer_brings_the_secret_out(
    world: World, endpoint: ScriptedEndpoint, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    told = ""
    async with world.driver(one=world.post(endpoint.url(path), timeout=0.5)) as driver:
        try:
            await resolve(driver)
        except DriverError as error:
            told = shown(error)

    assert "canary" not in told + logged(caplog)


async def test_fetch_raises_with_nothing_hanging_on(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    endpoint.default = echo_form()
    async with world.driver(one=world.post(endpoint.url())) as driver:
        with pytest.raises(DriverError) as caught:
            await driver._grants["one"].fetch()

    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_success_logs_neither_token_nor_secret(
    world: World, endpoint: ScriptedEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.default = token(canary("token"))
    async with world.driver(
        post=world.post(endpoint.url()),
        basic=world.post(endpoint.url(), auth="client_secret_basic"),
    ) as driver:
        found = [await resolve(driver, name) for name in ("post", "basic")]
        told = f"{driver!r} {vars(driver)!r} {driver.config!r} {found!r} {driver._grants!r}"
        told += "".join(repr(vars(grant)) for grant in driver._grants.values())

    assert all(each.token.reveal().startswith("canary") for each in found)
    assert "canary" not in told + logged(caplog)


def key_settings(world: World, url: str) -> tuple[Settings, str]:
    pem = RSAKey.generate_key(2048).as_pem(private=True).decode()
    world.write("key.pem", pem)
    settings = world.post(url, auth="private_key_jwt", private_key_ref="key.pem")
    del settings["client_secret_ref"]
    return settings, pem


async def test_private_key_and_assertion_are_not_shown(
    world: World, endpoint: ScriptedEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.default = echo_form()
    settings, pem = key_settings(world, endpoint.url())
    async with world.driver(one=settings) as driver:
        told = shown(await failure(driver)) + repr(vars(driver._grants["one"]))

    told += logged(caplog)
    assert endpoint.requests[0].form["client_assertion"] not in told
    assert not [line for line in pem.splitlines()[1:-1] if line in told]


async def test_broken_key_is_not_shown(
    world: World, endpoint: ScriptedEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    settings, pem = key_settings(world, endpoint.url())
    lines = pem.splitlines()
    world.write("key.pem", "\n".join([*lines[:5], "canary", *lines[6:]]))
    async with world.driver(one=settings) as driver:
        told = shown(await failure(driver)) + logged(caplog)

    assert "canary" not in told
    assert not [line for line in lines[1:-1] if line in told]


async def test_log_of_the_library_is_given_back_afterwards(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    before = [list(logging.getLogger(name).filters) for name in LOGGERS]
    async with world.driver(one=world.post(endpoint.url())) as driver:
        await resolve(driver)

    assert [list(logging.getLogger(name).filters) for name in LOGGERS] == before
