"""A waiver excuses one known failure for a time, and is strict both ways."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from openshell_drivers.conformance._waivers import Waiver, WaiverError, read_waivers, used, waived
from openshell_drivers.conformance.report.model import Outcome, Result

TODAY = date(2026, 11, 22)
GOOD = """
[[waiver]]
check = "COMP-GET-01"
issue = "https://example.org/issues/7"
owner = "@team"
reason = "known"
created = 2026-11-01
expires = 2026-12-01
"""


def waivers(tmp_path: Path, text: str = GOOD) -> list[Waiver]:
    path = tmp_path / "waivers.toml"
    path.write_text(text)
    return read_waivers(path)


def result(outcome: Outcome, check: str = "COMP-GET-01", preset: str = "0.1.2") -> Result:
    return Result(
        check=check,
        clause="COMP-GET-01",
        title="an unknown id is NOT_FOUND",
        service="compute",
        profile="core",
        preset=preset,
        level="MUST",
        outcome=outcome,
    )


def test_a_failure_is_excused_while_the_waiver_lasts(tmp_path: Path) -> None:
    found = waivers(tmp_path)
    assert waived(result("fail"), found, TODAY).outcome == "waived"
    assert waived(result("fail"), found, date(2026, 12, 1)).outcome == "waived"
    assert waived(result("fail"), found, date(2026, 12, 2)).outcome == "fail"
    assert waived(result("fail", check="COMP-GET-03.a"), found, TODAY).outcome == "fail"


def test_a_waiver_for_a_preset_holds_there_only(tmp_path: Path) -> None:
    found = waivers(tmp_path, GOOD + 'preset = "0.1.2"\n')
    assert waived(result("fail"), found, TODAY).outcome == "waived"
    assert waived(result("fail", preset="fork-mvp"), found, TODAY).outcome == "fail"


def test_what_passes_in_spite_of_a_waiver_is_said(tmp_path: Path) -> None:
    uses, results = used(waivers(tmp_path), [result("pass"), result("pass", preset="fork-mvp")])
    assert {each.outcome for each in results} == {"unexpected-pass"}
    assert [use.used for use in uses] == [False]


def test_a_waiver_that_is_needed_somewhere_excuses_passes_elsewhere(tmp_path: Path) -> None:
    uses, results = used(waivers(tmp_path), [result("waived"), result("pass", preset="fork-mvp")])
    assert [each.outcome for each in results] == ["waived", "pass"]
    assert [use.used for use in uses] == [True]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("COMP-GET-01", "COMP-NONE-01"), "there is no check"),
        (("COMP-GET-01", "SEC-ERR-01.a"), "cannot be waived"),
        (("2026-12-01", "2027-11-01"), "180 days"),
        (("2026-12-01", "2026-10-01"), "180 days"),
        (('owner = "@team"\n', ""), "owner"),
        (('"https://example.org/issues/7"', '""'), "issue"),
        (("[[waiver]]", "[[waver]]"), "unknown key"),
        (("[[waiver]]", "[[waiver]"), "waivers.toml"),
    ],
)
def test_a_file_that_is_not_right_is_refused(
    tmp_path: Path, change: tuple[str, str], why: str
) -> None:
    with pytest.raises(WaiverError, match=why):
        waivers(tmp_path, GOOD.replace(*change))
