"""The credential flows of both lines, with drivers that answer them badly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from openshell_drivers import Backoff, Secret
from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers.testing.gateway import (
    PRESETS,
    CredentialsGateway,
    CredentialStoreGateway,
    GatewayRefused,
    UserError,
    refresh_key,
)
from tests.fakes.polling import until
from tests.fakes.scripted_compute import Stall, Status
from tests.gateway.conftest import NEWEST, UPSTREAM
from tests.gateway.scripted_store import ScriptedStore

pytestmark = pytest.mark.anyio
VALUES = {"API_TOKEN": Secret("one"), "OTHER": Secret("two")}
HOUR = timedelta(hours=1)


@pytest.fixture
async def store(socket_path: Path) -> AsyncIterator[ScriptedStore]:
    scripted = ScriptedStore()
    async with scripted.serving(socket_path):
        yield scripted


@pytest.fixture(params=UPSTREAM)
def upstream(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def shown(values: Any) -> dict[str, str]:
    return {key: value.reveal() for key, value in values.items()}


# The kagenti line


async def test_the_fork_resolves_names_without_a_deadline(
    store: ScriptedStore, socket_path: Path
) -> None:
    async with CredentialsGateway(socket_path) as gateway:
        assert store.calls == []  # it dials, and no more
        token = await gateway.resolve("github")
        listed = await gateway.list_credentials()
        with pytest.raises(UserError, match="no such name") as error:
            await gateway.resolve("gitlab")

    assert (token.token.reveal(), token.token_type, token.expires_at_ms) == ("t0ken", "bearer", 0)
    assert [(each.name, each.scopes) for each in listed] == [("github", ("repo",))]
    assert error.value.code == "NOT_FOUND"
    assert {call.deadline for call in store.calls} == {None}


async def test_a_list_is_optional_for_the_fork(store: ScriptedStore, socket_path: Path) -> None:
    store.script["ListCredentials"] = [Status("UNIMPLEMENTED")]

    async with CredentialsGateway(socket_path) as gateway:
        assert await gateway.list_credentials() == ()


def test_a_line_has_one_of_the_two_services() -> None:
    with pytest.raises(ValueError, match="has no CredentialsDriver"):
        CredentialsGateway("x", preset="0.1.2")
    with pytest.raises(ValueError, match="has no CredentialDriver"):
        CredentialStoreGateway("x", preset="fork-mvp")


# Start


async def test_one_attempt_is_all_that_a_prestarted_driver_gets(
    socket_path: Path, upstream: str
) -> None:
    with pytest.raises(GatewayRefused, match="after 1 attempts"):
        async with CredentialStoreGateway(socket_path, preset=upstream):
            pass


async def test_a_spawned_driver_may_come_up_later(socket_path: Path, upstream: str) -> None:
    store = ScriptedStore()
    dialling = anyio.Event()

    async def dial() -> None:
        dialling.set()
        async with CredentialStoreGateway(socket_path, preset=upstream, spawned=True):
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dial)
        await dialling.wait()
        async with store.serving(socket_path):
            await anyio.sleep_forever()

    assert len(store.asked("GetCapabilities")) == 1


async def test_the_handshake_is_the_one_of_the_line(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    store.capabilities.extension.supported_capabilities[:] = ["openshell.compute.contract"]

    if upstream in NEWEST:
        with pytest.raises(GatewayRefused, match=r"lacks openshell\.credentials\.contract"):
            async with CredentialStoreGateway(socket_path, preset=upstream):
                pass
    else:
        async with CredentialStoreGateway(socket_path, preset=upstream):
            pass

    sent = store.asked("GetCapabilities")[0]
    assert list(sent.gateway.required_capabilities) == (
        ["openshell.credentials.contract"] if upstream in NEWEST else []
    )


@pytest.mark.parametrize("code", ["UNIMPLEMENTED", "INTERNAL", "FAILED_PRECONDITION"])
async def test_an_error_at_the_start_refuses_and_is_retried_for_a_spawned_one_of_0_1(
    store: ScriptedStore, socket_path: Path, upstream: str, code: str
) -> None:
    for spawned in (False, True):
        store.script["GetCapabilities"] = [Status(code)]
        gateway = CredentialStoreGateway(socket_path, preset=upstream, spawned=spawned)
        if spawned and upstream in NEWEST and code == "INTERNAL":
            async with gateway:
                continue
        with pytest.raises(GatewayRefused, match=f"GetCapabilities failed: {code}"):
            async with gateway:
                pass


async def test_every_call_has_30_seconds_on_the_wire_and_no_trace(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        await gateway.create_provider("github", VALUES)
        await gateway.resolve_provider("github")
        await gateway.delete_provider("github")

    assert len(store.calls) == 6
    assert all(25 < (call.deadline or 0) < 31 for call in store.calls)
    assert not any("traceparent" in call.metadata for call in store.calls)


async def test_a_driver_that_does_not_answer_is_left_after_the_limit(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    preset = replace(PRESETS[upstream], credentials_timeout=0.2)

    async with CredentialStoreGateway(socket_path, preset=preset) as gateway:
        store.script["StoreCredential"] = [Stall()]
        with pytest.raises(UserError) as error:
            await gateway.create_provider("github", {"K": Secret("v")})

    assert error.value.code == "DEADLINE_EXCEEDED"
    assert len(store.asked("StoreCredential")) == 1


async def test_no_call_is_tried_twice(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        store.script["StoreCredential"] = [Status("UNAVAILABLE")]
        with pytest.raises(UserError, match="scripted") as error:
            await gateway.create_provider("github", {"K": Secret("v")})

    assert error.value.code == "UNAVAILABLE"
    assert len(store.asked("StoreCredential")) == 1


# Store


async def test_keys_are_stored_at_once_under_the_configured_name(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    stall = Stall()
    store.script["StoreCredential"] = [stall, stall]

    gateway = CredentialStoreGateway(socket_path, preset=upstream, name="vault")
    async with gateway, anyio.create_task_group() as tasks:
        tasks.start_soon(gateway.create_provider, "github", VALUES)
        await until(lambda: len(store.asked("StoreCredential")) == 2)
        assert list(gateway.providers) == []
        stall.until.set()
        await until(lambda: gateway.providers)
        provider = gateway.providers[0]
        values = await gateway.resolve_provider("github")

    assert shown(values) == {"API_TOKEN": "one", "OTHER": "two"}
    sent = store.asked("StoreCredential")[0]
    assert (sent.provider, sent.workspace, sent.provider_id) == ("github", "default", provider.id)
    assert (sent.object_id, sent.HasField("existing_handle")) == ("", False)
    presented = store.asked("ResolveCredentials")[0].credentials
    assert [each.request_id for each in presented] == ["credential-0", "credential-1"]
    assert {each.handle.driver for each in presented} == {"vault"}
    assert {each.handle.metadata["m"] for each in presented} == {"1"}
    assert "one" not in repr(provider)


async def test_if_one_key_fails_the_others_are_deleted_and_it_is_not(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    def some(request: wire.StoreCredentialRequest) -> Any:
        if request.credential_key == "OTHER":
            return Status("PERMISSION_DENIED")
        return store._StoreCredential(request)

    store.script["StoreCredential"] = [some, some]

    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        with pytest.raises(UserError) as error:
            await gateway.create_provider("github", VALUES)
        assert gateway.providers == ()

    assert error.value.code == "PERMISSION_DENIED"
    assert [each.credential_key for each in store.asked("DeleteCredential")] == ["API_TOKEN"]
    assert store.values == {}


async def test_a_blank_handle_is_internal(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    blank = wire.StoreCredentialResponse()
    blank.handle.handle = " \n"
    store.script["StoreCredential"] = [blank]

    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        with pytest.raises(UserError, match="no handle") as error:
            await gateway.create_provider("github", {"K": Secret("v")})

    assert error.value.code == "INTERNAL"


async def test_the_handle_that_an_overwrite_returns_is_thrown_away(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    def moved(request: wire.StoreCredentialRequest) -> Any:
        store._StoreCredential(request)
        answer = wire.StoreCredentialResponse()
        answer.handle.handle = "new"
        return answer

    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        before = await gateway.create_provider("github", {"K": Secret("old")})
        store.script["StoreCredential"] = [moved]
        after = await gateway.update_provider("github", {"K": Secret("new")})
        values = await gateway.resolve_provider("github")

    assert before.handles == after.handles
    assert shown(values) == {"K": "new"}
    sent = store.asked("StoreCredential")[1].existing_handle
    assert (sent.handle, sent.driver) == (before.handles["K"].handle, "external")


async def test_new_keys_come_before_the_commit_and_go_if_it_fails(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        before = await gateway.create_provider("github", {"K": Secret("old")})
        changes = {"K": Secret("new"), "N": Secret("n")}
        with pytest.raises(UserError, match="has changed"):
            await gateway.update_provider("github", changes, commit_fails=True)
        assert gateway.providers == (before,)
        assert list(store.values.values()) == ["old"]

        await gateway.update_provider("github", changes)
        assert shown(await gateway.resolve_provider("github")) == {"K": "new", "N": "n"}

    keys = [each.credential_key for each in store.asked("StoreCredential")]
    assert keys == ["K", "N", "N", "K"]
    assert [each.credential_key for each in store.asked("DeleteCredential")] == ["N"]


async def test_a_refresh_is_staged_beside_the_old_value(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        before = await gateway.create_provider("github", {"K": Secret("old")})
        after = await gateway.refresh_credential("github", "K", Secret("new"))
        values = await gateway.resolve_provider("github")

    staged = store.asked("StoreCredential")[1]
    assert staged.object_id.startswith(f"{before.id}-refresh-")
    assert not staged.HasField("existing_handle")
    assert after.handles["K"] != before.handles["K"]
    assert shown(values) == {"K": "new"}
    gone = store.asked("DeleteCredential")[0].handle.handle
    assert gone == before.handles["K"].handle


def test_refresh_keys_have_82_characters() -> None:
    key = refresh_key("client_secret")

    assert (len(key), key[:18]) == (82, "openshell.refresh.")


# Resolve


def answered(*items: wire.ResolvedCredential) -> wire.ResolveCredentialsResponse:
    return wire.ResolveCredentialsResponse(credentials=items)


def item(request_id: str, **fields: Any) -> wire.ResolvedCredential:
    return wire.ResolvedCredential(request_id=request_id, value="v", **fields)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (answered(), "left a request_id unanswered"),
        (answered(item("credential-0")), "left a request_id unanswered"),
        (answered(item("credential-0"), item("")), "answered an empty request_id"),
        (answered(item("credential-0"), item("credential-7")), "answered an unknown request_id"),
        (
            answered(item("credential-0"), item("credential-1"), item("credential-1")),
            "answered a request_id twice",
        ),
    ],
)
async def test_a_batch_that_is_not_answered_once_each_is_internal(
    store: ScriptedStore,
    socket_path: Path,
    upstream: str,
    answer: wire.ResolveCredentialsResponse,
    problem: str,
) -> None:
    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        await gateway.create_provider("github", VALUES)
        store.script["ResolveCredentials"] = [answer]
        with pytest.raises(UserError, match=problem) as error:
            await gateway.resolve_provider("github")

    assert error.value.code == "INTERNAL"


@pytest.mark.parametrize("code", ["NOT_FOUND", "PERMISSION_DENIED", "DATA_LOSS", "UNAVAILABLE"])
async def test_a_code_of_resolve_reaches_the_caller(
    store: ScriptedStore, socket_path: Path, upstream: str, code: str
) -> None:
    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        await gateway.create_provider("github", VALUES)
        store.script["ResolveCredentials"] = [Status(code)]
        with pytest.raises(UserError) as error:
            await gateway.resolve_provider("github")

    assert error.value.code == code


PAST, FUTURE = 1_000_000_000, 4_000_000_000


@pytest.mark.parametrize(
    ("given", "own", "kept"),
    [
        ((0, None), None, (True, True)),
        ((FUTURE * 1000, FUTURE), None, (True, True)),
        ((PAST * 1000, PAST), None, (False, False)),
        ((FUTURE * 1000, FUTURE), -HOUR, (False, False)),
        ((PAST * 1000, PAST), HOUR, (False, False)),
        ((0, None), -HOUR, (False, False)),
        ((0, None), HOUR, (True, True)),
        ((0, 0), None, (True, False)),  # a zero that is there is 1970
        ((-5, None), -HOUR, (True, False)),  # a negative one cancels the provider's own
        ((PAST * 1000, None), None, (False, True)),  # each line reads its own field
        ((0, PAST), None, (True, False)),
    ],
)
async def test_what_has_expired_is_left_out_silently(
    store: ScriptedStore,
    socket_path: Path,
    upstream: str,
    given: tuple[int, int | None],
    own: timedelta | None,
    kept: tuple[bool, bool],
) -> None:
    answer = item("credential-0", expires_at_ms=given[0])
    if given[1] is not None:
        answer.expiration_time.seconds = given[1]
        answer.expiration_time.SetInParent()
    ends = {} if own is None else {"K": datetime.now(UTC) + own}

    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        await gateway.create_provider("github", {"K": Secret("v")}, expires_at=ends)
        store.script["ResolveCredentials"] = [answered(answer)]
        found = await gateway.resolve_provider("github")

    assert ("K" in found) is kept[upstream in NEWEST]


async def test_material_for_refreshing_does_not_expire(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    given = item("credential-0", expires_at_ms=PAST * 1000)
    given.expiration_time.seconds = PAST
    key = refresh_key("client_secret")

    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        await gateway.create_provider("github", {key: Secret("v")})
        store.script["ResolveCredentials"] = [answered(given)]

        assert list(await gateway.resolve_provider("github")) == [key]


async def test_a_time_that_is_none_fails_the_batch_of_0_1(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    given = item("credential-0")
    given.expiration_time.nanos = -1

    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        await gateway.create_provider("github", {"K": Secret("v")})
        store.script["ResolveCredentials"] = [answered(given)]
        if upstream == "0.0.111":
            assert list(await gateway.resolve_provider("github")) == ["K"]
            return
        with pytest.raises(UserError, match="a time that is none"):
            await gateway.resolve_provider("github")


# Delete


async def test_a_delete_that_fails_leaves_the_provider(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        await gateway.create_provider("github", {"K": Secret("v")})
        store.script["DeleteCredential"] = [Status("UNAVAILABLE")]
        with pytest.raises(UserError) as error:
            await gateway.delete_provider("github")
        assert error.value.code == "UNAVAILABLE"
        assert [each.name for each in gateway.providers] == ["github"]
        await gateway.delete_provider("github")

        assert (gateway.providers, store.values) == ((), {})
        with pytest.raises(UserError, match="not found"):
            await gateway.resolve_provider("github")


async def test_providers_of_one_name_in_two_workspaces_are_two(
    store: ScriptedStore, socket_path: Path, upstream: str
) -> None:
    async with CredentialStoreGateway(socket_path, preset=upstream) as gateway:
        await gateway.create_provider("github", {"K": Secret("a")})
        await gateway.create_provider("github", {"K": Secret("b")}, workspace="team")
        with pytest.raises(UserError, match="already exists"):
            await gateway.create_provider("github", {"K": Secret("c")})

        assert shown(await gateway.resolve_provider("github")) == {"K": "a"}
        assert shown(await gateway.resolve_provider("github", workspace="team")) == {"K": "b"}


def test_a_spawned_driver_has_10_seconds() -> None:
    dials = {PRESETS[each].spawned_dial for each in UPSTREAM}

    assert dials == {Backoff(attempts=100, delay=0.1)}
