"""What changed from one report to a later one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openshell_drivers.conformance.report import differences
from openshell_drivers.conformance.report.diff import KINDS, Differences, compare
from openshell_drivers.conformance.report.model import Capability, Outcome, Result
from tests.conformance.report import builder
from tests.conformance.report.builder import result


def between(before: list[Result], after: list[Result]) -> Differences:
    old, new = builder.calm(results=before), builder.calm(results=after)
    return compare(old, new)


def kinds(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found = between([result(**before)], [result(**after)])
    return [change.kind for change in found.changes]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("pass", "fail", "regression"),
        ("warn", "fail", "regression"),
        ("not-applicable", "fail", "regression"),
        ("pass", "waived", "regression"),
        ("not-testable", "fail", "uncovered"),
        ("blocked", "fail", "uncovered"),
        ("fail", "waived", "waiver-changed"),
        ("waived", "fail", "waiver-changed"),
        ("pass", "warn", "new-warning"),
        ("pass", "not-testable", "lost"),
        ("fail", "error", "lost"),
        ("fail", "pass", "fixed"),
        ("fail", "unexpected-pass", "fixed"),
        ("waived", "unexpected-pass", "fixed"),
        ("warn", "pass", "fixed"),
    ],
)
def test_a_move_between_outcomes_has_a_kind(before: Outcome, after: Outcome, kind: str) -> None:
    assert kinds({"outcome": before}, {"outcome": after}) == [kind]


@pytest.mark.parametrize(
    ("before", "after"),
    [("pass", "pass"), ("fail", "fail"), ("pass", "info"), ("blocked", "not-testable")],
)
def test_what_says_the_same_is_no_change(before: Outcome, after: Outcome) -> None:
    found = between([result(outcome=before)], [result(outcome=after)])

    assert (found.changes, found.same) == ((), 1)


def test_only_a_regression_fails() -> None:
    good, bad = [result()], [result(outcome="fail")]

    assert between(good, bad).exit_status == 1
    assert between(bad, good).exit_status == 0
    assert between([result(outcome="blocked")], bad).exit_status == 0


def test_another_failure_of_the_same_check_is_told() -> None:
    first = {"outcome": "fail", "fingerprint": "sha256:1"}

    assert kinds(first, {"outcome": "fail", "fingerprint": "sha256:2"}) == ["other-failure"]
    assert kinds(first, {"outcome": "fail", "fingerprint": ""}) == []


def test_checks_that_mean_something_else_are_not_compared() -> None:
    assert kinds({"revision": 1}, {"revision": 2, "outcome": "fail"}) == ["meaning-changed"]


def test_a_level_may_change_along_with_the_outcome() -> None:
    assert kinds({"level": "SHOULD", "outcome": "warn"}, {"level": "MUST", "outcome": "fail"}) == [
        "regression",
        "level-changed",
    ]


def test_presets_are_compared_apart() -> None:
    def under(preset: str, outcome: Outcome) -> Result:
        return result(preset=preset, outcome=outcome)

    found = between(
        [under("fork-mvp", "pass"), under("0.1.2", "fail")],
        [under("fork-mvp", "fail"), under("0.1.2", "pass")],
    )

    assert [(each.kind, each.preset) for each in found.changes] == [
        ("regression", "fork-mvp"),
        ("fixed", "0.1.2"),
    ]


def test_new_and_removed_checks_are_neither_better_nor_worse() -> None:
    found = between([result("COMP-A-01")], [result("COMP-B-01", outcome="fail")])

    assert [(each.kind, each.what) for each in found.changes] == [
        ("new", "COMP-B-01"),
        ("removed", "COMP-A-01"),
    ]
    assert found.exit_status == 0


def test_verdicts_and_capabilities_are_compared() -> None:
    works = Capability(name="StopSandbox", declared=None, probed="works")
    before = builder.calm(capabilities=[works])
    after = builder.everything(
        capabilities=[works.model_copy(update={"probed": "misbehaves"})], results=before.results
    )

    found = {
        each.what: (each.kind, each.before, each.after) for each in compare(before, after).changes
    }

    assert found["overall"] == ("verdict-changed", "conformant", "non-conformant")
    assert found["compute.core"] == ("verdict-changed", "conformant", "non-conformant")
    assert found["StopSandbox"] == ("capability-changed", "works", "misbehaves")


def test_a_report_does_not_differ_from_itself() -> None:
    report = builder.everything()
    found = compare(report, report)

    assert (found.changes, found.same) == ((), len(report.results))
    assert "nothing changed: 504 results compared" in differences.to_text(found)


@pytest.fixture
def found() -> Differences:
    return compare(builder.calm(), builder.everything())


class TestRendering:
    def test_text_has_the_worst_first_and_one_line_for_all_presets(
        self, found: Differences
    ) -> None:
        text = differences.to_text(found)

        assert (
            "COMP-DEL-02.a [fork-mvp, 0.0.111, 0.1.2, 0.1-latest] pass -> fail: NOT_FOUND" in text
        )
        order = [text.index(f"\n{kind} (") for kind in KINDS if f"\n{kind} (" in text]
        assert order == sorted(order)
        assert len(order) >= 4

    def test_json_tells_every_change(self, found: Differences) -> None:
        document = json.loads(differences.to_json(found))

        assert document["regressed"] is True
        assert len(document["changes"]) == len(found.changes)
        assert {"kind", "what", "preset", "before", "after", "note"} == {*document["changes"][0]}

    def test_markdown_survives_whatever_a_driver_says(self) -> None:
        odd = builder.failure(observed="a|b\n| <img src=x> @everyone \x1b[0m")
        found = between([result()], [result(outcome="fail", failure=odd)])

        (row,) = [
            line for line in differences.to_markdown(found).splitlines() if "COMP-GET-01.a" in line
        ]
        assert row.replace("\\|", "").count("|") == 6
        assert "<img" not in row
        assert "@everyone" not in row
        assert "\x1b" not in row
