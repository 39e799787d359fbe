"""The mistakes that authors make, and that the log tells each by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from openshell_drivers import (
    Credential,
    CredentialInfo,
    CredentialRef,
    CredentialsDriver,
    CredentialSlot,
    CredentialStore,
    Internal,
    Secret,
    StoredCredential,
)
from openshell_drivers.client import StoredRef, connect
from openshell_drivers.server import running


class Mistaken(CredentialsDriver):
    name = "mistaken"

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        answers: dict[str, Any] = {
            "text as token": lambda: Credential(token="canary"),  # type: ignore[arg-type]
            "empty token": lambda: Credential(token=Secret("")),
            "token with an end of line": lambda: Credential(token=Secret("canary\n")),
            "no time zone": lambda: Credential(
                token=Secret("canary"),
                expires_at=datetime(2026, 1, 1),  # noqa: DTZ001
            ),
            "nothing": lambda: None,
            "text": lambda: "canary",
        }
        answer: Credential = answers[ref.name]()
        return answer

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        return ["canary"]  # type: ignore[list-item]


class Synchronous(Mistaken):
    name = "synchronous"

    def resolve_credential(self, ref: CredentialRef) -> Any:
        return Credential(token=Secret("canary"))


class Store(CredentialStore):
    name = "store"

    async def store_credential(self, slot: CredentialSlot, value: Secret) -> None: ...

    async def resolve_stored_credential(self, slot: CredentialSlot) -> StoredCredential:
        return Secret("canary")  # type: ignore[return-value]

    async def delete_credential(self, slot: CredentialSlot) -> None: ...


def told(caplog: pytest.LogCaptureFixture) -> str:
    (message,) = [r.getMessage() for r in caplog.records if r.name == "openshell_drivers.rpc"][:1]
    assert "canary" not in message
    return message


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("text as token", "WrongType: token must be a Secret, not str"),
        ("empty token", "WrongValue: token must not be empty"),
        ("token with an end of line", "token must not hold white space or control characters"),
        ("no time zone", "WrongValue: expires_at must have a time zone"),
        ("nothing", "Mistaken.resolve_credential returned NoneType, not Credential"),
        ("text", "Mistaken.resolve_credential returned str, not Credential"),
    ],
)
async def test_a_wrong_answer_is_named_in_the_log_and_not_to_the_caller(
    socket_path: Path, caplog: pytest.LogCaptureFixture, name: str, what: str
) -> None:
    async with running(Mistaken(), socket=socket_path), connect(socket_path) as driver:
        with pytest.raises(Internal, match="the driver's log says where"):
            await driver.credentials.resolve_credential(name)

    assert what in told(caplog)


async def test_a_method_that_is_not_async_is_named(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Synchronous(), socket=socket_path), connect(socket_path) as driver:
        with pytest.raises(Internal):
            await driver.credentials.resolve_credential("any")

    assert "Synchronous.resolve_credential must be an async def" in told(caplog)


async def test_a_list_of_something_else_is_named(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Mistaken(), socket=socket_path), connect(socket_path) as driver:
        with pytest.raises(Internal):
            await driver.credentials.list_credentials()

    assert "list_credentials gave a str, not a CredentialInfo" in told(caplog)


async def test_a_stored_value_of_another_type_is_named(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Store(), socket=socket_path), connect(socket_path) as driver:
        owner = {"workspace": "w", "provider": "p", "provider_id": "i", "key": "K"}
        ref: StoredRef = await driver.credential_store.store_credential(Secret("v"), **owner)
        with pytest.raises(Internal):
            await driver.credential_store.resolve_credentials([ref])

    assert "Store.resolve_stored_credential returned Secret, not StoredCredential" in caplog.text


async def test_a_lifespan_without_its_decorator_is_named(socket_path: Path) -> None:
    class Bare(Mistaken):
        async def lifespan(self) -> AsyncIterator[None]:  # type: ignore[override]
            yield

    with pytest.raises(TypeError, match=r"Bare.lifespan must be an async generator under"):
        async with running(Bare(), socket=socket_path):
            pass


async def test_a_lifespan_may_be_any_context_manager(socket_path: Path) -> None:
    class Fine(Mistaken):
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            async with super().lifespan():
                yield

    async with running(Fine(), socket=socket_path), connect(socket_path) as driver:
        assert await driver.is_serving()


async def test_a_call_of_a_service_that_is_not_offered_is_said_once_aloud(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Store(), socket=socket_path), connect(socket_path) as driver:
        for _ in range(3):
            with pytest.raises(Exception, match="Method not found"):
                await driver.credentials.list_credentials()

    (record,) = [r for r in caplog.records if r.message == "not offered" and r.levelno >= 30]
    assert vars(record)["asked"] == "/openshell.credentials.v1.CredentialsDriver/ListCredentials"
    assert "CredentialDriver" in vars(record)["offered"]
