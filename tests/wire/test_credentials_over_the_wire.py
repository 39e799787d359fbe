"""The CREDF clauses, at the socket, against a driver that only knows names and tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import grpc
import pytest

from openshell_drivers.errors import (
    DriverError,
    FailedPrecondition,
    Internal,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from openshell_drivers.secrets import Secret
from tests.wire.gateway import CREDENTIALS, STORE, Gateway, Item, dial, refusal
from tests.wire.vault import Vault


async def test_a_known_name_gives_token_type_and_end(gateway: Gateway) -> None:
    answer = await gateway.token("github")

    assert (answer.token, answer.token_type) == ("ghp-1", "Bearer")
    assert answer.expires_at_ms == 4_102_444_800_123


async def test_an_end_that_is_not_known_is_zero(gateway: Gateway) -> None:
    assert (await gateway.token("forever")).expires_at_ms == 0


async def test_an_empty_name_never_reaches_the_driver(gateway: Gateway, vault: Vault) -> None:
    vault.tokens[""] = Secret("never")

    assert (await refusal(gateway.token("")))[0] == "INVALID_ARGUMENT"


async def test_an_unknown_name_is_not_found(gateway: Gateway) -> None:
    assert await refusal(gateway.token("none")) == ("NOT_FOUND", "no credential 'none'")


@pytest.mark.parametrize(
    "kind", [Unavailable, Internal, FailedPrecondition, PermissionDenied, NotFound]
)
async def test_a_driver_s_error_is_answered_as_it_is(
    gateway: Gateway, vault: Vault, kind: type[DriverError]
) -> None:
    vault.faults["github"] = kind("said by the driver")

    assert await refusal(gateway.token("github")) == (kind.code, "said by the driver")


async def test_an_unexpected_error_is_internal_and_says_nothing(
    gateway: Gateway, vault: Vault
) -> None:
    vault.mistakes["github"] = ValueError("ghp-1 is the token")

    code, message = await refusal(gateway.token("github"))

    assert code == "INTERNAL"
    assert "ghp-1" not in message


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(hours=1)])
async def test_a_token_that_has_ended_is_never_sent(
    gateway: Gateway, vault: Vault, ago: timedelta
) -> None:
    vault.ends = datetime.now(UTC) - ago

    code, message = await refusal(gateway.token("github"))

    assert code == "UNAVAILABLE"
    assert "ghp-1" not in message


async def test_a_list_has_every_name_once_in_order_and_no_token(
    gateway: Gateway, vault: Vault
) -> None:
    vault.tokens["Azure"] = Secret("aad-3")

    answer = await gateway.names()

    assert [each.name for each in answer.credentials] == ["Azure", "forever", "github"]
    assert [list(each.scopes) for each in answer.credentials] == [["read", "write"]] * 3
    for token in vault.tokens.values():
        assert token.reveal().encode() not in answer.SerializeToString()


async def test_calls_at_once_get_their_own_answers(gateway: Gateway, vault: Vault) -> None:
    vault.tokens = {f"n{number}": Secret(f"t{number}") for number in range(50)}
    vault.pause = 0.01
    found: dict[str, str] = {}

    async def one(name: str) -> None:
        found[name] = (await gateway.token(name)).token

    async with anyio.create_task_group() as tasks:
        for name in vault.tokens:
            tasks.start_soon(one, name)

    assert found == {name: token.reveal() for name, token in vault.tokens.items()}


# Both services on one socket (CREDF-MIX-01)


async def test_each_path_decodes_its_own_shape(gateway: Gateway) -> None:
    """Both services have a ResolveCredentialRequest and a ListCredentialsResponse of their own."""
    item = await gateway.put(Item(), "v")

    assert (await gateway.token("github")).token == "ghp-1"
    assert await gateway.value(item) == "v"
    assert {each.name for each in (await gateway.names()).credentials} == {"forever", "github"}
    assert [each.handle for each in (await gateway.list_stored()).credentials] == [item.handle]


@pytest.mark.parametrize(
    "path",
    [
        STORE + "ResolveCredential",
        CREDENTIALS + "ResolveCredentials",
        CREDENTIALS + "GetCapabilities",
        STORE + "SuspendSandbox",
        "/openshell.credentials.v2.CredentialDriver/GetCapabilities",
    ],
)
async def test_a_method_that_the_service_does_not_have_is_unimplemented(
    gateway: Gateway, path: str
) -> None:
    from openshell_drivers._wire.credential_driver_pb2 import ListCredentialsRequest as Empty

    assert (await refusal(gateway.call(path, Empty(), Empty)))[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize("authority", ["[::]:50051", "[::]:50052", "localhost", "anything"])
async def test_every_authority_is_served(gateway: Gateway, authority: str, vault: Vault) -> None:
    target = gateway.target
    async with dial(target, authority) as peer:
        assert (await peer.token("github")).token == "ghp-1"


async def test_metadata_that_is_not_known_is_ignored(gateway: Gateway) -> None:
    call = gateway.raw(CREDENTIALS + "ListCredentials")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    answer = await call(b"", metadata=(("traceparent", trace), ("x-bin", b"\xff")), timeout=30)

    assert answer != b""


async def test_bytes_that_are_no_message_are_invalid(gateway: Gateway) -> None:
    call = gateway.raw(CREDENTIALS + "ResolveCredential")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\x0a\xff", timeout=30)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
