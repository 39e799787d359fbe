"""What results amount to."""

from __future__ import annotations

import pytest

from openshell_drivers.conformance.report.model import Leak, Outcome, Verdict, WaiverUse
from openshell_drivers.conformance.report.verdicts import (
    OUTCOMES,
    counts,
    executed,
    exit_status,
    overall,
    service_verdicts,
    waiver_problems,
)
from tests.conformance.report.builder import STARTED, everything, result

LEAK = Leak(kind="sandbox", name="cf-7-a")


def judged(*outcomes: Outcome, **changes: object) -> Verdict:
    """The verdict on one profile, a pass and some other outcomes."""
    results = [result("COMP-CAP-01")]
    results += [
        result(f"COMP-GET-0{n}", outcome=each, **changes) for n, each in enumerate(outcomes)
    ]
    (verdict,) = service_verdicts(results)
    return verdict.verdict


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        ("pass", "conformant"),
        ("not-applicable", "conformant"),
        ("fail", "non-conformant"),
        ("warn", "partial"),
        ("info", "partial"),
        ("not-testable", "partial"),
        ("not-observable", "partial"),
        ("blocked", "partial"),
        ("error", "partial"),
        ("waived", "conformant-with-waivers"),
        ("unexpected-pass", "conformant-with-waivers"),
    ],
)
def test_a_must_that_is_neither_passed_nor_waived_nor_inapplicable_spoils_a_verdict(
    outcome: Outcome, verdict: Verdict
) -> None:
    assert judged(outcome) == verdict


@pytest.mark.parametrize("outcome", sorted({*OUTCOMES} - {"fail", "waived", "unexpected-pass"}))
def test_a_should_spoils_no_verdict(outcome: Outcome) -> None:
    assert judged(outcome, level="SHOULD") == "conformant"


def test_a_should_that_fails_the_run_makes_it_non_conformant() -> None:
    assert judged("fail", level="SHOULD") == "non-conformant"


def test_a_failure_goes_before_whatever_could_not_be_judged() -> None:
    assert judged("not-testable", "waived", "fail", "error") == "non-conformant"


def test_performance_is_never_non_conformant() -> None:
    (verdict,) = service_verdicts(
        [
            result("PERF-GET-01", profile="performance", outcome="fail"),
            result("PERF-GET-02", profile="performance", outcome="warn"),
        ]
    )

    assert verdict.verdict == "conformant"


def test_a_profile_of_which_nothing_ran_is_partial() -> None:
    (verdict,) = service_verdicts([result(outcome="not-applicable")])

    assert verdict.verdict == "partial"


def test_profiles_and_services_are_judged_apart_in_their_order() -> None:
    results = [
        result("CREDF-RES-01", service="credentials"),
        result("SEC-LOG-01", profile="security", outcome="fail"),
        result("COMP-GET-01", profile="core"),
    ]

    found = [(each.service, each.profile, each.verdict) for each in service_verdicts(results)]

    assert found == [
        ("compute", "core", "conformant"),
        ("compute", "security", "non-conformant"),
        ("credentials", "core", "conformant"),
    ]


def test_a_verdict_tells_each_thing_to_supply_once() -> None:
    wanting = {"outcome": "not-testable", "reason": "supply compute.refused"}
    (verdict,) = service_verdicts(
        [result("COMP-VAL-01", **wanting), result("COMP-VAL-02", **wanting), result("COMP-VAL-03")]
    )

    assert verdict.missing == ["supply compute.refused"]
    assert verdict.counts == {"pass": 1, "not-testable": 2}


def test_counts_have_every_outcome_that_occurs_and_no_other() -> None:
    found = counts(everything().results)

    assert list(found) == list(OUTCOMES)
    assert sum(found.values()) == len(everything().results)
    assert counts([result()]) == {"pass": 1}


def test_what_could_not_be_judged_was_not_executed() -> None:
    ran = [each for each in OUTCOMES if executed([result(outcome=each)])]

    assert ran == ["pass", "fail", "warn", "info", "waived", "unexpected-pass"]


class TestOverall:
    def verdict(self, *outcomes: Outcome, complete: bool = True) -> Verdict:
        results = [
            result(f"{service}-X-0{n}", service=service, outcome=outcome)
            for n, (outcome, service) in enumerate(
                zip(outcomes, ["compute", "credentials", "credential-store"], strict=False)
            )
        ]
        ran = executed(results)
        return overall(service_verdicts(results), complete=complete, executed=ran)

    def test_is_the_worst_of_its_parts(self) -> None:
        assert self.verdict("pass", "pass") == "conformant"
        assert self.verdict("pass", "waived") == "conformant-with-waivers"
        assert self.verdict("waived", "not-testable", "pass") == "partial"
        assert self.verdict("not-testable", "fail", "pass") == "non-conformant"

    def test_of_a_run_cut_short_is_incomplete_however_green(self) -> None:
        assert self.verdict("pass", complete=False) == "incomplete"
        assert self.verdict("not-testable", "pass", complete=False) == "incomplete"

    def test_of_a_run_cut_short_is_non_conformant_if_it_found_a_failure(self) -> None:
        assert self.verdict("fail", complete=False) == "non-conformant"

    def test_of_nothing_is_incomplete(self) -> None:
        assert self.verdict() == "incomplete"
        assert self.verdict("not-testable") == "incomplete"


class TestExitStatus:
    def status(self, verdict: Verdict, *outcomes: Outcome, **changes: object) -> int:
        results = [result(outcome=each) for each in outcomes]
        return exit_status(verdict=verdict, results=results, **changes)  # type: ignore[arg-type]

    def test_is_zero_where_the_verdict_is_met(self) -> None:
        assert self.status("conformant", "pass") == 0
        assert self.status("conformant-with-waivers", "waived") == 0

    def test_tells_why_it_is_not_zero(self) -> None:
        assert self.status("non-conformant", "fail") == 1
        assert self.status("conformant", configured=False) == 2
        assert self.status("partial", "error") == 3
        assert self.status("incomplete", ready=False) == 4
        assert self.status("conformant", "pass", leaks=[LEAK]) == 5
        assert self.status("partial", "not-testable") == 6
        assert self.status("incomplete") == 6
        assert self.status("conformant", "pass", waiver_problems=["expired"]) == 7

    def test_tells_the_worst_where_several_things_are_wrong(self) -> None:
        wrong = {"leaks": [LEAK], "waiver_problems": ["expired"]}

        assert self.status("non-conformant", "fail", "error", **wrong, ready=False) == 4
        assert self.status("non-conformant", "fail", "error", **wrong, configured=False) == 2
        assert self.status("non-conformant", "fail", "error", **wrong) == 1
        assert self.status("partial", "error", **wrong) == 3
        assert self.status("partial", "not-observable", **wrong) == 7
        assert self.status("partial", "not-observable", leaks=[LEAK]) == 6


class TestWaivers:
    def problems(self, outcome: Outcome, *, used: bool = True, expires: str = "2027-01-01") -> int:
        waiver = WaiverUse(
            check="COMP-GET-01.a",
            issue="https://x.example/1",
            owner="a",
            expires=expires,
            used=used,
        )
        return len(waiver_problems([result(outcome=outcome)], [waiver], STARTED))

    def test_a_waiver_in_use_is_no_problem_to_the_end_of_its_last_day(self) -> None:
        assert self.problems("waived") == 0
        assert self.problems("waived", expires=STARTED[:10]) == 0
        assert self.problems("waived", expires="2026-11-21") == 1

    def test_a_pass_with_a_waiver_is_one_problem(self) -> None:
        assert self.problems("unexpected-pass", used=True) == 1
        assert self.problems("unexpected-pass", used=False) == 1

    def test_an_unused_waiver_is_a_problem_only_where_its_check_ran(self) -> None:
        assert self.problems("fail", used=False) == 1
        assert self.problems("not-testable", used=False) == 0
        assert self.problems("blocked", used=False) == 0

    def test_a_date_that_is_none_breaks_nothing(self) -> None:
        assert self.problems("waived", expires="soon") == 0
