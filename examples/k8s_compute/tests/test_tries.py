"""A create is tried again if it was not let in, and never if it may have been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from openshell_compute_k8s import _api
from openshell_compute_k8s._failures import read_refusal

from examples.k8s_compute.tests.scripted import MADE, SANDBOXES, Answer, Script, create, driver_of
from openshell_drivers import Backoff, DriverError

POST: Final = f"POST {SANDBOXES}"


def refused(code: int, reason: str = "", **details: Any) -> Answer:
    """A refusal of the API server's."""
    return {"code": code, "reason": reason, "message": "canary", "details": details}


COUNTED: Final = refused(409, "Conflict", name="few", kind="resourcequotas")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tries, or five at a quota, without pauses."""
    monkeypatch.setattr(_api, "_AGAIN", Backoff(attempts=4, delay=0.0))
    monkeypatch.setattr(_api, "_COUNTED", Backoff(attempts=5, delay=0.0))


async def created(folder: Path, *answers: Answer) -> tuple[str, int]:
    """Create at a server that answers so; how that ends, and how often it was asked."""
    script = Script()
    script.on(POST, *answers)
    said: list[str] = []
    async with driver_of(script, folder) as driver:
        try:
            ended = await create(driver)
        except DriverError as error:
            ended = error.code
            said.append(error.message)
    assert "canary" not in " ".join(said)
    return ended, len(script.bodies(POST))


@pytest.mark.parametrize("answer", [COUNTED, refused(429)], ids=["quota", "overload"])
async def test_what_was_not_let_in_is_tried_again(short_dir: Path, answer: Answer) -> None:
    assert await created(short_dir, answer, answer, MADE) == ("k8s:ns:s", 3)


@pytest.mark.parametrize(
    ("answer", "code", "tries"), [(COUNTED, "ABORTED", 5), (refused(429), "RESOURCE_EXHAUSTED", 4)]
)
async def test_after_so_many_tries_the_user_hears_of_it(
    short_dir: Path, answer: Answer, code: str, tries: int
) -> None:
    assert await created(short_dir, answer) == (code, tries)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (refused(409, "Conflict", name="w--one", kind="sandboxes"), "ABORTED"),
        (refused(409, "Conflict"), "ABORTED"),
        (refused(403, "Forbidden", name="few", kind="resourcequotas"), "FAILED_PRECONDITION"),
        (refused(500), "UNAVAILABLE"),
    ],
)
async def test_any_other_refusal_of_a_create_stands(
    short_dir: Path, answer: Answer, code: str
) -> None:
    assert await created(short_dir, answer, MADE) == (code, 1)


@pytest.mark.parametrize(
    ("message", "passes"), [("failed to create typed patch object", False), ("etcd", True)]
)
def test_an_apply_that_kubernetes_cannot_read_is_not_tried_again(
    message: str, passes: bool
) -> None:
    """A 500 like any other, but for its words; the same request gets it for ever."""
    body = json.dumps({"message": f"{message} (a; b): .spec.c: field not declared in schema"})
    refusal = read_refusal(500, body.encode(), None)
    assert _api._passing(refusal, again=True) is passes
