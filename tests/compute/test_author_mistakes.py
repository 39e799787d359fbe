"""Mistakes of authors are named where they are made, in words that may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from openshell_drivers import (
    AdmissionPolicy,
    ComputeDriver,
    CreateScope,
    ObservedSandbox,
    SandboxFeed,
    SandboxRef,
    SandboxSpec,
    Unavailable,
)
from openshell_drivers._services.compute import rules
from tests.compute.living import living, spec
from tests.fakes.compute import Polled


async def step() -> None: ...


def scope() -> CreateScope:
    return CreateScope("id", lambda event: None, set())


def test_background_work_is_a_function_and_not_what_it_gives() -> None:
    with pytest.raises(TypeError, match="in_background wants an async function, uncalled"):
        scope().in_background(step())  # type: ignore[arg-type]  # the mistake under test


def test_an_undo_step_is_a_function_and_not_what_it_gives() -> None:
    with pytest.raises(TypeError, match="undo wants an async function, uncalled, not coroutine"):
        scope().undo(step())  # type: ignore[arg-type]  # the mistake under test


async def test_a_shielded_call_is_a_function_and_not_what_it_gives() -> None:
    with pytest.raises(TypeError, match="shielded wants an async function, uncalled"):
        await scope().shielded(step())  # type: ignore[arg-type]  # the mistake under test


def test_an_event_is_a_platform_event() -> None:
    with pytest.raises(TypeError, match="an event is a PlatformEvent, not str"):
        scope().event("pulling")  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(TypeError, match="an event is a PlatformEvent, not str"):
        SandboxFeed().event("id", "pulling")  # type: ignore[arg-type]  # the mistake under test


class Minimal(ComputeDriver):
    name = "minimal"

    async def create_sandbox(self, spec: SandboxSpec, scope: CreateScope) -> None: ...

    async def delete_sandbox(self, ref: SandboxRef) -> bool:
        return False

    async def list_sandboxes(self) -> Sequence[ObservedSandbox]:
        return []


def test_support_and_policy_are_of_their_types() -> None:
    class Supports(Minimal):
        support = {"memory_limit": True}  # type: ignore[assignment]  # noqa: RUF012  # the mistake

    class Policy(Minimal):
        def admission_policy(self) -> AdmissionPolicy:
            return {}  # type: ignore[return-value]  # the mistake under test

    with pytest.raises(TypeError, match=r"Supports.support must be a Support, not dict"):
        rules(Supports())
    with pytest.raises(TypeError, match=r"Policy.admission_policy returned dict"):
        rules(Policy())


def test_a_stop_without_a_start_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class Stops(Minimal):
        async def stop_sandbox(self, ref: SandboxRef) -> None: ...

    rules(Stops())

    assert "Stops stops sandboxes and cannot start them again" in caplog.text


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (None, "list_sandboxes returned NoneType, not Iterable"),
        ([{}], "list_sandboxes gave dict, not ObservedSandbox"),
    ],
)
async def test_a_list_of_another_kind_is_named_in_the_log(
    listed: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    driver = Polled()

    async def list_sandboxes() -> Any:
        return listed

    async with living(driver) as life:
        driver.list_sandboxes = list_sandboxes  # type: ignore[method-assign]
        poller = life.board.poller
        assert poller is not None
        poller._list = driver.list_sandboxes  # type: ignore[attr-defined]  # the running one's
        with pytest.raises(Unavailable):
            await life.list()

    assert said in caplog.text


async def test_a_sandbox_that_is_never_seen_is_said(caplog: pytest.LogCaptureFixture) -> None:
    driver = Polled()
    driver.platform.lagging = []
    async with living(driver) as life:
        await life.create(spec())
        now = 1e9
        life.board._clock = lambda: now
        await life.list()

    assert "was never seen: is its id kept as it came?" in caplog.text
