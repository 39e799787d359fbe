"""The test switch: outages and delays of the suite's making, and nothing else that is different."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from openshell_drivers import (
    ComputeDriver,
    Credential,
    CredentialInfo,
    CredentialRef,
    CredentialsDriver,
    CredentialSlot,
    CredentialStore,
    DriverError,
    NotFound,
    Secret,
    Unavailable,
)
from openshell_drivers import _testswitch as testswitch
from openshell_drivers._lifecycle import Lifecycle
from openshell_drivers._services import compute as compute_service
from openshell_drivers._services import credential_store as store_service
from openshell_drivers._switched import switched
from openshell_drivers.reference.memory import Memory, MemoryConfig
from openshell_drivers.reference.process import Process, ProcessConfig
from openshell_drivers.tokens import FetchedToken, TokenCache, TokenPolicy
from tests.compute.living import DELETED, REF, Reader, living, shown, spec
from tests.fakes.commands import Commands
from tests.fakes.compute import OneByOne, Polled, Pushed
from tests.fakes.polling import until

pytestmark = pytest.mark.anyio

#: Recovering is a matter of a look at a file, not of a pause between two polls.
AT_ONCE = 2.0
SLOT = CredentialSlot(
    id="a" * 40, handle="handle", workspace="w", provider="p", provider_id="i", key="KEY"
)


class File:
    """The switch as the suite writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, text: str) -> None:
        part = self.path.with_suffix(".part")
        part.write_text(text)
        part.replace(self.path)

    def outage(self) -> None:
        self.say(json.dumps({"outage": True}))

    def delay(self, seconds: float) -> None:
        self.say(json.dumps({"delay": seconds}))

    def end(self) -> None:
        self.say("{}")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[File]:
    monkeypatch.setattr(testswitch, "_active", None)
    yield File(tmp_path / "switch.json")
    testswitch._active = None


def pushed(file: File) -> ComputeDriver[Any]:
    return switched(Pushed, file.path)()


def polled(file: File) -> ComputeDriver[Any]:
    return switched(Polled, file.path)()


def one_by_one(file: File) -> ComputeDriver[Any]:
    return switched(OneByOne, file.path)()


async def becomes(life: Lifecycle, *, seeing: bool) -> None:
    """Wait until the backend can be listed, or cannot."""
    with anyio.fail_after(15):
        while True:
            try:
                await life.list()
            except Unavailable:
                if not seeing:
                    return
            else:
                if seeing:
                    return
            await anyio.sleep(0.002)


@pytest.mark.parametrize("make", [pushed, polled, one_by_one])
async def test_an_outage_is_unavailable_for_all_that_looks_or_acts(
    file: File, make: Callable[[File], ComputeDriver[Any]]
) -> None:
    async with living(make(file)) as life:
        await life.create(spec())
        file.outage()
        await until(lambda: not life.board.synced or make is not pushed)
        calls: list[Callable[[], Any]] = [
            life.list,
            lambda: life.get(REF),
            lambda: life.create(spec("id-2")),
            lambda: life.stop(REF),
            lambda: life.delete(REF),
        ]
        for call in calls:
            with pytest.raises(Unavailable):
                await call()


@pytest.mark.parametrize("make", [pushed, polled, one_by_one])
async def test_the_end_of_an_outage_is_noticed_at_once_and_nothing_is_lost(
    file: File, make: Callable[[File], ComputeDriver[Any]]
) -> None:
    async with living(make(file)) as life, Reader.of(life.board) as reader:
        await life.create(spec())
        await until(lambda: shown(life.board) == "Ready=True/Running")
        file.outage()
        await becomes(life, seeing=False)
        file.end()
        began = time.monotonic()
        await becomes(life, seeing=True)
        assert time.monotonic() - began < AT_ONCE
        assert (await life.get(REF)).id == REF.id
        await life.stop(REF)
        assert shown(life.board).startswith("Suspended=True")

    assert all(what != DELETED for _, what in reader.heard)


async def test_what_happens_in_an_outage_is_told_after_it(file: File) -> None:
    driver = switched(Pushed, file.path)()
    async with living(driver) as life, Reader.of(life.board) as reader:
        await life.create(spec())
        file.outage()
        await until(lambda: not life.board.synced)
        del driver.platform.present[REF.id]
        file.end()
        await until(lambda: (REF.id, DELETED) in reader.heard)


async def test_nobody_observes_while_an_outage_lasts(file: File) -> None:
    driver = switched(Pushed, file.path)()
    async with living(driver) as life:
        file.outage()
        await until(lambda: not life.board.synced)
        with anyio.move_on_after(0.3):
            await until(lambda: driver.platform.count("observe") > 1)
        during = driver.platform.count("observe")
        file.end()
        await until(lambda: life.board.synced)

    assert during == 1
    assert driver.platform.count("observe") == 2


@pytest.mark.parametrize("make", [pushed, polled])
async def test_a_delay_makes_what_acts_take_longer(
    file: File, make: Callable[[File], ComputeDriver[Any]]
) -> None:
    async with living(make(file)) as life:
        file.delay(0.3)
        began = time.monotonic()
        await life.create(spec())
        assert time.monotonic() - began >= 0.3


async def test_delays_of_different_calls_do_not_add_up(file: File) -> None:
    async with living(pushed(file)) as life:
        file.delay(0.5)
        began = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(life.create, spec(f"id-{number}", f"box-{number}"))
        assert time.monotonic() - began < 8 * 0.5


async def test_validation_reaches_no_backend(file: File) -> None:
    driver = switched(Memory, file.path)(MemoryConfig())
    async with driver.lifespan():
        file.outage()
        await driver.validate_sandbox_create(spec())


@pytest.mark.parametrize("text", ["", "{", "[]", '"out"', "{}", '{"outage": false}', "\0"])
async def test_a_file_that_says_nothing_of_an_outage_makes_none(file: File, text: str) -> None:
    switch = testswitch.turn_on(file.path)
    file.say(text)
    await switch.reach()
    assert not switch.out


async def test_without_the_file_there_is_no_outage(file: File) -> None:
    await testswitch.turn_on(file.path).reach()


# Credentials.


class Plain(CredentialsDriver):
    """Asks its issuer each time."""

    name = "plain"

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        return Credential(token=Secret("token"))

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        return []


class Caching(CredentialsDriver):
    """Has a token cache before its issuer."""

    name = "caching"
    life = 300.0

    def __init__(self) -> None:
        super().__init__()
        self.fetched = 0
        self.tokens = TokenCache(self._fetch, policy=TokenPolicy(passing_failure=0.0))

    async def _fetch(self, name: str) -> FetchedToken:
        self.fetched += 1
        return FetchedToken(token=Secret(f"{name}-{self.fetched}"), expires_in=self.life)

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        if ref.name == "unknown":
            raise NotFound("it is not there")
        return await self.tokens.get(ref.name)

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        return []


async def test_a_driver_without_a_cache_cannot_resolve_in_an_outage(file: File) -> None:
    driver = switched(Plain, file.path)()
    file.outage()
    with pytest.raises(Unavailable):
        await driver.resolve_credential(CredentialRef(name="one"))
    file.end()
    assert (await driver.resolve_credential(CredentialRef(name="one"))).token.reveal() == "token"


async def test_tokens_in_hand_are_given_out_in_an_outage_and_no_others(file: File) -> None:
    driver = switched(Caching, file.path)()
    async with driver.tokens:
        first = await driver.resolve_credential(CredentialRef(name="one"))
        file.outage()
        assert await driver.resolve_credential(CredentialRef(name="one")) == first
        with pytest.raises(Unavailable):
            await driver.resolve_credential(CredentialRef(name="two"))
        with pytest.raises(NotFound):  # that is known without the issuer
            await driver.resolve_credential(CredentialRef(name="unknown"))
        file.end()
        assert (await driver.resolve_credential(CredentialRef(name="two"))).token.reveal() == (
            "two-2"
        )


async def test_a_token_that_ends_in_an_outage_is_not_given_out(file: File) -> None:
    driver = switched(Caching, file.path)()
    driver.life = 1.0
    async with driver.tokens:
        first = await driver.resolve_credential(CredentialRef(name="one"))
        file.outage()
        errors: list[DriverError] = []

        async def ask() -> None:
            try:
                assert await driver.resolve_credential(CredentialRef(name="one")) == first
            except DriverError as error:
                errors.append(error)

        with anyio.fail_after(10):
            while not errors:
                await ask()
                await anyio.sleep(0.01)
    assert type(errors[0]) is Unavailable
    assert driver.fetched == 1


async def test_a_slow_issuer_is_slow_once_for_all_who_ask(file: File) -> None:
    driver = switched(Caching, file.path)()
    async with driver.tokens:
        file.delay(0.3)
        began = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(driver.resolve_credential, CredentialRef(name="one"))
        assert time.monotonic() - began >= 0.3
        assert driver.fetched == 1


async def test_a_store_in_an_outage_does_nothing_and_keeps_everything(file: File) -> None:
    driver = switched(Memory, file.path)(MemoryConfig())
    async with driver.lifespan():
        await driver.store_credential(SLOT, Secret("before"))
        file.outage()
        calls: list[Callable[[], Any]] = [
            lambda: driver.store_credential(SLOT, Secret("after")),
            lambda: driver.resolve_stored_credential(SLOT),
            lambda: driver.delete_credential(SLOT),
            driver.list_stored_credentials,
        ]
        for call in calls:
            with pytest.raises(Unavailable):
                await call()
        file.end()
        assert (await driver.resolve_stored_credential(SLOT)).value.reveal() == "before"


# What is not different.


class OnlyStore(CredentialStore):
    """Cannot list."""

    name = "only-store"

    async def store_credential(self, slot: CredentialSlot, value: Secret) -> None: ...

    async def resolve_stored_credential(self, slot: CredentialSlot) -> Any: ...

    async def delete_credential(self, slot: CredentialSlot) -> None: ...


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (Memory, (MemoryConfig(),)),
        (Process, (ProcessConfig(root=Path("root")),)),
        (Polled, ()),
        (OneByOne, ()),
        (Pushed, ()),
    ],
)
def test_capabilities_are_the_driver_s_own(file: File, kind: Any, arguments: Any) -> None:
    plain, odd = kind(*arguments), switched(kind, file.path)(*arguments)

    assert compute_service.capabilities(odd) == compute_service.capabilities(plain)
    for rpc in ("stop_sandbox", "get_sandbox", "ensure_workspace", "authenticate_sandbox"):
        theirs = getattr(kind, rpc) is getattr(ComputeDriver, rpc)
        assert theirs == (getattr(type(odd), rpc) is getattr(ComputeDriver, rpc))


@pytest.mark.parametrize("kind", [OnlyStore, Memory])
def test_what_a_store_can_do_is_its_own(file: File, kind: Any) -> None:
    arguments = (MemoryConfig(),) if kind is Memory else ()
    plain, odd = kind(*arguments), switched(kind, file.path)(*arguments)

    assert store_service.capabilities(odd) == store_service.capabilities(plain)


def test_a_process_has_a_switch_only_if_its_variable_names_one(
    short_dir: Path, socket_path: Path
) -> None:
    cli = Commands(short_dir)
    switch = short_dir / "switch.json"
    switch.write_text('{"outage": true}')
    variable = {"OPENSHELL_DRIVERS_TEST_SWITCH": str(switch)}

    run = ("run", "memory", "--socket", socket_path)
    with cli.serving(socket_path, *run) as serving:
        sees = cli.run("call", "--socket", socket_path, "sandboxes")
        assert "test switch" not in serving.log
    with cli.serving(socket_path, *run, env=variable) as serving:
        blind = cli.run("call", "--socket", socket_path, "sandboxes")
        assert "the test switch is on" in serving.log

    assert (sees.status, sees.out.strip()) == (0, "[]")
    assert "cannot be observed" in blind.err
