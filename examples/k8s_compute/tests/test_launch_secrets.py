"""A new sandbox's Secrets are its own, though a predecessor of its name has left some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from openshell_compute_k8s import _sandbox_api

from examples.k8s_compute.tests.scripted import MADE, SANDBOXES, Script, create, driver_of
from openshell_drivers import Backoff, Secret

POST: Final = f"POST {SANDBOXES}"
FINISH: Final = f"PATCH {SANDBOXES}/w--one"
SECRET: Final = "POST /api/v1/namespaces/ns/secrets"
OVER: Final = "PUT /api/v1/namespaces/ns/secrets/w--one-public"
TAKEN: Final = {"code": 409, "reason": "AlreadyExists", "details": {"kind": "secrets"}}
LAUNCH: Final = Secret(json.dumps({"gateway_id": "g", "verification_keys": []}))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait four times, without pauses."""
    monkeypatch.setattr(_sandbox_api, "_PREDECESSOR", Backoff(attempts=5, delay=0.0))


async def made(folder: Path, *answers: dict[str, Any]) -> Script:
    """Have a sandbox made at a server that says this to each try to make its Secret."""
    script = Script()
    script.on(POST, MADE)
    script.on(SECRET, *answers)
    script.on(OVER, {})
    script.on(FINISH, MADE)
    async with driver_of(script, folder, pod={"security": {"uid": 1000}}) as driver:
        await create(driver, launch_authentication=LAUNCH)
    return script


def owners(script: Script, line: str) -> set[str]:
    """Name whose the Secrets are that were written."""
    references = [each["metadata"]["ownerReferences"] for each in script.bodies(line)]
    return {one["uid"] for each in references for one in each}


async def test_a_predecessors_secret_that_goes_is_waited_out(short_dir: Path) -> None:
    script = await made(short_dir, TAKEN, TAKEN, {})
    assert script.lines() == [POST, SECRET, SECRET, SECRET, FINISH]
    assert owners(script, SECRET) == {"s"}


async def test_a_secret_that_stays_is_written_over_at_last(short_dir: Path) -> None:
    script = await made(short_dir, TAKEN)
    assert script.lines() == [POST, *[SECRET] * 5, OVER, FINISH]
    assert owners(script, OVER) == {"s"}
