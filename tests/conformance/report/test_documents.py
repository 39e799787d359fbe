"""report.json: written, read back, held to its schema and to itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from openshell_drivers.conformance.report import documents, schema
from openshell_drivers.conformance.report.consistency import check_consistency
from openshell_drivers.conformance.report.documents import UnreadableReport, ordered, read, to_text
from openshell_drivers.conformance.report.model import SCHEMA, Metric, Report, WaiverUse
from tests.conformance.report import builder

PUBLISHED = Path(__file__).parents[3] / "docs" / "report.schema.json"


@pytest.fixture(params=["everything", "calm"])
def report(request: pytest.FixtureRequest) -> Report:
    built: Report = getattr(builder, request.param)()
    return built


def test_what_is_written_reads_back_the_same(report: Report, tmp_path: Path) -> None:
    documents.write(report, tmp_path / "report.json")

    assert read(tmp_path / "report.json") == ordered(report)


def test_the_order_of_a_run_leaves_no_trace(report: Report) -> None:
    shuffled = report.model_copy(
        update={
            name: getattr(report, name)[::-1]
            for name in ("results", "clauses", "capabilities", "metrics", "leaks", "waivers")
        }
    )

    assert to_text(shuffled) == to_text(report)


def test_keys_are_sorted_and_indented_by_two(report: Report) -> None:
    lines = to_text(report).splitlines()
    keys = [line.split('"')[1] for line in lines if line.startswith('  "')]

    assert keys == sorted(keys)
    assert "schema" in keys
    assert to_text(report).endswith("}\n")


def test_keys_of_a_later_version_are_passed_over(report: Report, tmp_path: Path) -> None:
    document = json.loads(to_text(report))
    document["weather"] = {"sunny": True}
    document["results"][0]["mood"] = "good"
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))

    assert read(path) == ordered(report)


def test_a_figure_without_a_word_in_json_is_refused(tmp_path: Path) -> None:
    odd = [Metric(name="p99", value=float("nan"), unit="ms")]

    with pytest.raises(ValueError, match="JSON compliant"):
        documents.write(builder.calm(metrics=odd), tmp_path / "report.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "has no key 'schema'"),
        (b'{"schema": 1}', "has no key 'schema'"),
        (b'{"schema": "sarif/2.1"}', "its schema is another one"),
        (b'{"schema": "openshell-driver-conformance/2"}', "of version '2'; this .* reads .*/1"),
        (b'{"schema": "openshell-driver-conformance/1"}', "verdict: Field required"),
    ],
)
def test_garbage_is_called_what_it_is(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)

    with pytest.raises(UnreadableReport, match=complaint) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(UnreadableReport, match="No such file"):
        read(tmp_path / "none.json")


def test_an_unreadable_report_shows_nothing_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"schema": SCHEMA, "verdict": "hunter2"}))

    with pytest.raises(UnreadableReport) as caught:
        read(path)
    assert "hunter2" not in str(caught.value)


class TestSchema:
    def test_the_published_one_is_that_of_the_model(self) -> None:
        assert PUBLISHED.read_text("utf-8") == schema.to_text()

    def test_it_is_a_schema(self) -> None:
        jsonschema.Draft202012Validator.check_schema(schema.schema())

    def test_every_report_is_valid(self, report: Report) -> None:
        jsonschema.validate(json.loads(to_text(report)), schema.schema())

    @pytest.mark.parametrize(
        "change",
        [
            {"schema": "openshell-driver-conformance/2"},
            {"verdict": "fine"},
            {"results": [{"check": "COMP-GET-01"}]},
        ],
    )
    def test_what_is_no_report_is_not(self, change: dict[str, Any]) -> None:
        document = json.loads(to_text(builder.calm())) | change

        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, schema.schema())

    def test_a_document_must_say_what_it_is(self) -> None:
        document = json.loads(to_text(builder.calm()))
        del document["schema"]

        with pytest.raises(jsonschema.ValidationError, match="'schema' is a required property"):
            jsonschema.validate(document, schema.schema())


class TestConsistency:
    def test_a_report_agrees_with_itself(self, report: Report) -> None:
        assert check_consistency(report) == []

    def test_a_run_cut_short_agrees_with_itself(self) -> None:
        cut = builder.report(troubles={}, extras=False, complete=False)

        assert (cut.verdict, cut.exit_status) == ("incomplete", 6)
        assert check_consistency(cut) == []

    @pytest.mark.parametrize("status", [2, 4])
    def test_a_run_that_never_began_keeps_its_status(self, status: int) -> None:
        empty = builder.report(troubles={}, extras=False, services=(), complete=False)

        assert check_consistency(empty.model_copy(update={"exit_status": status})) == []

    @pytest.mark.parametrize(
        ("changes", "complaint"),
        [
            ({"verdict": "conformant"}, "verdict is conformant, the results say non-conformant"),
            ({"exit_status": 0}, "exit_status is 0, the rest of the report says 1"),
            ({"exit_status": 4}, "exit_status is 4, the rest of the report says 1"),
            ({"verdicts": []}, "compute.core: results without a verdict"),
            ({"waivers": []}, "CREDF-RES-03.a under fork-mvp: waived, but no waiver"),
        ],
    )
    def test_a_false_claim_is_found(self, changes: dict[str, Any], complaint: str) -> None:
        assert complaint in "\n".join(check_consistency(builder.everything(**changes)))

    def test_a_verdict_made_better_is_found(self) -> None:
        report = builder.everything()
        better = report.verdicts[0].model_copy(update={"verdict": "conformant", "counts": {}})

        found = check_consistency(
            report.model_copy(update={"verdicts": [better, *report.verdicts[1:]]})
        )

        assert found == [
            "compute.core: says conformant, its results say non-conformant",
            "compute.core: its counts are not those of its results",
        ]

    def test_a_result_left_out_is_found(self) -> None:
        report = builder.calm()
        found = "\n".join(
            check_consistency(report.model_copy(update={"results": report.results[1:]}))
        )

        assert "504 were planned and 503 have results" in found
        assert "run.executed is 504, the results say 503" in found

    def test_results_that_nobody_asked_for_are_found(self) -> None:
        report = builder.calm()
        run = report.run.model_copy(update={"presets": ["0.1.2"], "profiles": ["core"]})
        found = check_consistency(report.model_copy(update={"run": run}))

        assert "results of preset fork-mvp, which the run did not select" in found
        assert "results of profile security, which the run did not select" in found

    def test_a_result_told_twice_is_found(self) -> None:
        report = builder.calm()
        twice = report.model_copy(update={"results": [*report.results, report.results[0]]})

        assert "COMP-CAP-01.a under fork-mvp: 2 results" in check_consistency(twice)

    def test_a_failure_without_words_is_found(self) -> None:
        mute = builder.result(outcome="fail", failure=None)
        report = builder.calm(results=[mute])

        assert "COMP-GET-01.a under 0.1.2: fail without a failure that says why" in (
            check_consistency(report)
        )

    def test_a_pass_with_a_failure_is_found(self) -> None:
        report = builder.calm(results=[builder.result(failure=builder.failure())])

        assert "COMP-GET-01.a under 0.1.2: a pass with a failure" in check_consistency(report)

    def test_an_odd_date_breaks_nothing(self) -> None:
        odd = WaiverUse(check="X", issue="", owner="", expires="never", used=False)

        assert check_consistency(builder.calm(waivers=[odd])) == []


def test_a_file_that_cannot_be_written_leaves_no_part_behind(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()

    with pytest.raises(OSError, match="directory"):
        documents.write(builder.calm(), tmp_path / "report.json")
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]
