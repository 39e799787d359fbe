"""The kill matrix: every check is killed by a fault, every fault by its checks and by no others."""

from __future__ import annotations

import pytest

from openshell_drivers.conformance._checks import Check, checks
from tests.conformance.matrix.harness import Fault, column, every, faults, judge

BROKEN = ("fail", "warn", "info")
FAULTS = {name: fault for name, fault in faults().items() if fault.kills}


def named(names: tuple[str, ...]) -> set[str]:
    """Checks by id, or all of a clause; ``*`` for those of all, where chance decides which."""
    if "*" in names:
        return set(checks())
    return {c.id for c in checks().values() if c.id in names or c.clause in names}


def killed(fault: Fault, only: set[str]) -> set[str]:
    """Those of the checks that a fault makes fail, under the newest gateway that has them."""
    units = [unit for unit in column() if unit.check.id in only]
    return set(judge(units, fault.name).with_outcome(*BROKEN))


def killed_under_others(fault: Fault, only: set[str]) -> set[str]:
    """The checks that it makes fail under gateways that are not the newest."""
    if not only:
        return set()
    newest = {unit.key for unit in column()}
    units = [unit for unit in every(only) if unit.key not in newest]
    return set(judge(units, fault.name).with_outcome(*BROKEN))


def test_every_check_has_a_killer() -> None:
    killers: set[str] = set()
    for fault in FAULTS.values():
        killers |= named(fault.kills)
    figures = {check.id for check in checks().values() if check.profile == "performance"}
    assert sorted(set(checks()) - killers - figures) == []


def test_every_fault_names_checks_that_there_are() -> None:
    known = {"*"} | {c.id for c in checks().values()} | {c.clause for c in checks().values()}
    strange = {
        name: sorted({*fault.kills, *fault.also} - known)
        for name, fault in FAULTS.items()
        if not {*fault.kills, *fault.also} <= known
    }
    assert strange == {}


#: Of the ordinary run. All of them are a matter of ten minutes: `make thorough`.
SOME = sorted(FAULTS)[::40]


#: Against these every other check is held, also those that start processes of their own.
THOROUGH = sorted(FAULTS)[::12]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in SOME else pytest.mark.thorough) for name in FAULTS],
)
def test_its_checks_kill_it(name: str) -> None:
    wanted = named(FAULTS[name].kills)
    found = killed(FAULTS[name], wanted)
    found |= killed_under_others(FAULTS[name], wanted - found)
    assert found == wanted


@pytest.mark.matrix
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", FAULTS)
def test_no_other_check_kills_it(name: str) -> None:
    fault = FAULTS[name]
    allowed = named((*fault.kills, *fault.also))
    others = {check.id for check in checks().values() if name in THOROUGH or not starts_more(check)}
    assert sorted(killed(fault, others - allowed)) == []


def starts_more(check: Check) -> bool:
    """Whether it needs driver processes of its own: nine tenths of the time for a third of all."""
    own = check.own or check.last or check.profile == "performance"
    return own or bool({"spawned", "outage", "slow"} & set(check.needs))
