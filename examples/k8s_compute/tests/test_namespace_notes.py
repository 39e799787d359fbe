"""What a namespace says of its users is asked for once, and missing only if it is known to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from openshell_compute_k8s import _api

from examples.k8s_compute.tests.scripted import (
    MADE,
    NAMESPACE,
    SANDBOXES,
    Script,
    create,
    driver_of,
)
from openshell_drivers import Backoff, DriverError

POST: Final = f"POST {SANDBOXES}"
NOTED: Final = {"metadata": {"annotations": {"openshift.io/sa.scc.uid-range": "1000680000/10000"}}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One try."""
    monkeypatch.setattr(_api, "_AGAIN", Backoff(attempts=1))


def users(script: Script) -> list[bool]:
    """Say of each sandbox that was made whether it has the namespace's user."""
    return ['"1000680000"' in json.dumps(each) for each in script.bodies(POST)]


def answering(*answers: dict[str, Any]) -> Script:
    """Have an API server that says this of the namespace."""
    script = Script()
    script.on(NAMESPACE, *answers)
    script.on(POST, MADE)
    return script


async def test_annotations_are_read_once(short_dir: Path) -> None:
    script = answering(NOTED)
    async with driver_of(script, short_dir) as driver:
        await create(driver)
        await create(driver)
    assert users(script) == [True, True]
    assert script.lines() == [NAMESPACE, POST, POST]


@pytest.mark.parametrize("code", [403, 404])
async def test_annotations_that_cannot_be_had_are_none(short_dir: Path, code: int) -> None:
    script = answering({"code": code}, NOTED)
    async with driver_of(script, short_dir) as driver:
        await create(driver)
        await create(driver)
    assert users(script) == [False, False]
    assert script.lines() == [NAMESPACE, POST, POST]


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (401, "UNAVAILABLE"),
        (408, "DEADLINE_EXCEEDED"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
async def test_annotations_that_are_not_known_make_nothing_and_are_asked_for_again(
    short_dir: Path, code: int, answer: str
) -> None:
    script = answering({"code": code}, NOTED)
    async with driver_of(script, short_dir) as driver:
        with pytest.raises(DriverError) as refused:
            await create(driver)
        assert refused.value.code == answer
        assert script.lines() == [NAMESPACE]
        await create(driver)
    assert users(script) == [True]
    assert script.lines() == [NAMESPACE, NAMESPACE, POST]
