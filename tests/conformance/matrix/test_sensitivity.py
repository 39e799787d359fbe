"""The proxy of `--sensitivity` changes nothing by itself, and its spoils are noticed."""

from __future__ import annotations

import asyncio

import pytest

from openshell_drivers.conformance._outcomes import Broken
from openshell_drivers.conformance._proxy import proxied
from openshell_drivers.conformance._sensitivity import canonical
from openshell_drivers.conformance._spoils import Spoil, named
from tests.conformance.matrix.harness import bare, column

pytestmark = pytest.mark.timeout(180)
#: A few of every kind of spoil; all of them are tried when they are found.
SOME = sorted(canonical())[::10]


async def endings(spoil_of: dict[str, Spoil]) -> dict[str, bool]:
    """Whether each check fails over its spoil."""
    found: dict[str, bool] = {}
    async with bare() as conductor:
        instance = await conductor.instance()
        for number, unit in enumerate(column(spoil_of)):
            place = conductor.folder / f"p{number}"
            async with proxied(instance, spoil_of[unit.check.id], place) as front:
                end = await conductor.execute_on(front, unit)
            found[unit.check.id] = isinstance(end.problem, Broken)
    return found


def test_a_proxy_that_spoils_nothing_is_not_noticed() -> None:
    found = asyncio.run(endings({name: Spoil("nothing") for name in SOME}))
    assert {name for name, failed in found.items() if failed} == set()


def test_what_is_spoilt_is_noticed() -> None:
    spoils = {name: named(canonical()[name]) for name in SOME}
    assert None not in spoils.values()
    found = asyncio.run(endings({k: v for k, v in spoils.items() if v is not None}))
    assert {name for name, failed in found.items() if not failed} == set()
