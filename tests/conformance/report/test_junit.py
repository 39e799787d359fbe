"""JUnit XML and the badge."""

from __future__ import annotations

import json
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from openshell_drivers.conformance.report import badge, junit
from openshell_drivers.conformance.report.model import Outcome, Report
from tests.conformance.report import builder


@pytest.fixture(scope="module")
def root() -> Element:
    return ElementTree.fromstring(junit.to_text(builder.everything()))


def case(root: Element, check: str, preset: str) -> Element:
    found = [
        each
        for each in root.iter("testcase")
        if each.get("name", "").startswith(f"{check} [{preset}]")
    ]
    assert len(found) == 1
    return found[0]


def test_a_case_is_named_by_service_profile_check_and_preset(root: Element) -> None:
    found = case(root, "COMP-GET-01.a", "0.1.2")

    assert found.get("classname") == "compute.core"
    assert found.get("name") == "COMP-GET-01.a [0.1.2] an unknown id is NOT_FOUND"
    assert not [each for each in found if each.tag != "properties"]


def test_there_is_a_suite_for_each_profile_under_each_preset(root: Element) -> None:
    names = [each.get("name") for each in root.iter("testsuite")]

    assert len(set(names)) == len(names)
    assert {
        "compute.core [fork-mvp]",
        "compute.core [0.1-latest]",
        "credentials.core [fork-mvp]",
    } <= {*names}


@pytest.mark.parametrize(
    ("check", "preset", "tag", "attributes"),
    [
        ("COMP-DEL-02.a", "0.1.2", "failure", {"type": "MUST"}),
        ("CREDU-CON-01.a", "0.1.2", "error", {"type": "suite"}),
        ("CREDF-RES-02.b", "fork-mvp", "failure", {"type": "waiver"}),
        (
            "COMP-LIST-02.a",
            "0.1.2",
            "skipped",
            {"message": "not-testable: supply the backend verbs outage_begin and outage_end"},
        ),
        ("COMP-WS-01.b", "0.1.2", "skipped", {}),
        ("PROC-FD-01.a", "0.1.2", "skipped", {}),
        (
            "COMP-WATCH-04.b",
            "0.1.2",
            "skipped",
            {"message": "blocked: the sandbox could not be deleted"},
        ),
        ("COMP-GET-03.a", "0.1.2", "system-out", {}),
        (
            "CREDF-RES-03.a",
            "fork-mvp",
            "skipped",
            {"message": "waived: expires_at is in milliseconds"},
        ),
    ],
)
def test_each_outcome_has_its_element(
    root: Element, check: str, preset: str, tag: str, attributes: dict[str, str]
) -> None:
    found = case(root, check, preset).find(tag)

    assert found is not None
    assert {name: found.get(name) for name in attributes} == attributes


def test_a_failure_holds_all_that_an_author_needs(root: Element) -> None:
    said = case(root, "COMP-DEL-02.a", "0.1.2").findtext("failure") or ""

    for word in (
        "expected: ",
        "observed: NOT_FOUND",
        "mend: ",
        "log: ",
        "again: openshell-drivers",
    ):
        assert word in said


def test_figures_add_up(root: Element) -> None:
    for name in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(name, "")) == sum(
            int(each.get(name, "")) for each in root.iter("testsuite")
        )
    assert int(root.get("failures", "")) == len(list(root.iter("failure")))
    assert int(root.get("skipped", "")) == len(list(root.iter("skipped")))
    assert int(root.get("tests", "")) == len(list(root.iter("testcase")))


def test_verdicts_are_properties(root: Element) -> None:
    assert root.findtext("properties/property[@name='verdict']") is not None
    found = {
        each.get("name"): each.find("properties/property[@name='verdict here']")
        for each in root.iter("testsuite")
    }
    assert found["compute.security [0.1.2]"].get("value") == "conformant"  # type: ignore[union-attr]
    assert found["compute.security [0.1-latest]"].get("value") == "non-conformant"  # type: ignore[union-attr]


def test_whatever_a_driver_says_the_document_stays_xml() -> None:
    hostile = "\x00\x1b[31m\ufffe ]]> <b> & \" '\n\t é 𝄞"
    failure = builder.failure(observed=hostile, log=[hostile])
    results = [
        builder.result(
            "COMP-GET-01.a", outcome="fail", failure=failure, reason=hostile, title=hostile
        ),
        builder.result("COMP-GET-02.a", outcome="blocked", reason=hostile, notes=[hostile]),
    ]

    read = ElementTree.fromstring(junit.to_text(builder.calm(results=results)))

    said = read.findtext(".//failure") or ""
    assert "\ufffd\ufffd[31m\ufffd ]]> <b> & \" '\n\t é 𝄞" in said


class TestBadge:
    def of(self, outcome: Outcome, *, selection: str = "full", complete: bool = True) -> Report:
        troubles = {"COMP-GET-01.a": (outcome, (), "because")}
        built = builder.report(
            troubles=troubles, extras=False, services=("compute",), complete=complete
        )
        run = built.run.model_copy(update={"selection": selection})
        return built.model_copy(update={"run": run})

    def test_is_what_shields_reads(self) -> None:
        assert json.loads(badge.to_text(self.of("pass"))) == {
            "schemaVersion": 1,
            "label": "openshell driver",
            "message": "compute conformant · 4 gateways",
            "color": "brightgreen",
            "isError": False,
        }

    def test_says_so_where_it_is_not_conformant(self) -> None:
        assert badge.badge(self.of("fail"))["message"] == "compute non-conformant · 1 failure"
        assert badge.badge(self.of("waived"))["message"] == (
            "compute conformant with 1 waiver · 4 gateways"
        )
        assert badge.badge(self.of("not-testable"))["message"] == "compute partial · 4 gateways"
        assert badge.badge(self.of("pass", complete=False))["message"] == "compute incomplete"

    def test_is_green_for_nothing_but_conformant(self) -> None:
        colours = {
            each: badge.badge(self.of(each))["color"]
            for each in ("fail", "waived", "unexpected-pass", "not-testable", "blocked", "error")
        }

        assert colours == {"fail": "red"} | dict.fromkeys([*colours][1:], "yellow")
        assert badge.badge(self.of("pass", complete=False))["color"] == "lightgrey"

    def test_is_not_green_for_a_selection(self) -> None:
        assert badge.badge(self.of("pass", selection="selective"))["color"] == "yellow"
