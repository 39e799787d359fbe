"""What is odd but legal passes every check under every preset, and so does the driver itself."""

from __future__ import annotations

import pytest

from openshell_drivers.conformance._units import Selection, plan
from openshell_drivers.testing.gateway import PRESETS
from tests.conformance.matrix.harness import SERVICES, faults, judge

BAD = ("fail", "warn", "error", "blocked", "not-testable")
VARIANTS = [name for name, fault in faults().items() if not fault.kills]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(p, marks=pytest.mark.thorough if p == "0.1-latest" else pytest.mark.matrix)
        for p in PRESETS
    ],
)
def test_the_bare_driver_passes_everything(preset: str) -> None:
    units = plan(Selection(presets=(preset,)), SERVICES)
    judged = judge(units)
    bad = {r.check: (r.outcome, r.reason) for r in judged.results if r.outcome in BAD}
    assert bad == {}
    assert judged.leaks == []


#: Each variant under one preset, and each preset with some variant.
SOME = {(name, list(PRESETS)[number % len(PRESETS)]) for number, name in enumerate(VARIANTS)}
CASES = [
    pytest.param(
        name, preset, marks=pytest.mark.thorough if (name, preset) in SOME else pytest.mark.matrix
    )
    for name in VARIANTS
    for preset in PRESETS
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "preset"), CASES)
def test_a_legal_variant_passes_everything(name: str, preset: str) -> None:
    units = plan(Selection(presets=(preset,), profiles=("core", "lifecycle")), SERVICES)
    judged = judge(units, name)
    bad = {
        r.check: (r.outcome, r.reason)
        for r in judged.results
        if r.outcome in BAD and not (r.outcome == "blocked" and name == "optional-rpcs-missing")
    }
    assert bad == {}
    assert judged.leaks == []
