"""The reference drivers under the conformance suite: with every verb, without a waiver."""

from __future__ import annotations

import pytest

from tests.reference.judging import judge
from tests.reference.sandboxes import keepers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

SERVICES = {
    "memory": {"compute", "credentials", "credential-store"},
    "process": {"compute"},
}


@pytest.mark.thorough
@pytest.mark.parametrize("driver", SERVICES)
async def test_a_reference_driver_is_conformant_under_every_preset(driver: str) -> None:
    before = keepers()
    found = await judge(driver)

    assert found.problems == ()
    assert found.verdict == "conformant"
    assert found.services == SERVICES[driver]
    assert keepers() <= before


@pytest.mark.parametrize(("driver", "preset"), [("memory", "0.1-latest"), ("process", "0.0.111")])
async def test_a_reference_driver_holds_the_core_and_the_lifecycle(
    driver: str, preset: str
) -> None:
    before = keepers()
    found = await judge(driver, presets=[preset], profiles=["core", "lifecycle"])

    assert found.problems == ()
    assert found.verdict == "conformant"
    assert keepers() <= before
