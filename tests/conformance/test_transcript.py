"""What a failure shows of its check: its calls, its log lines, and what waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._caller import Transcript
from openshell_drivers.conformance._instances import Instance
from openshell_drivers.conformance._ledger import Ledger
from openshell_drivers.conformance._profile import Profile
from openshell_drivers.conformance._pytest.cards import weightiest_first
from openshell_drivers.conformance._pytest.summary import _blocked
from openshell_drivers.conformance._targets import Target


@pytest.fixture
def transcript() -> Transcript:
    return Transcript(lambda text: text.replace("canary", "[secret]"))


def asked(transcript: Transcript, name: str, answer: str = "no") -> None:
    request = wire.GetSandboxRequest(name=name)
    transcript.add("GetSandbox", request, "NOT_FOUND", answer, 0.01)


def result(check: str, outcome: str, blocked_by: str = "", reason: str = "") -> dict[str, Any]:
    clause = check.rpartition(".")[0]
    return {
        "check": check,
        "clause": clause,
        "outcome": outcome,
        "blocked_by": blocked_by,
        "reason": reason,
    }


def test_of_polls_that_are_the_same_the_first_and_the_last_are_kept(
    transcript: Transcript,
) -> None:
    for name in ("a", "a", "a", "a", "b", "a"):
        asked(transcript, name)
    asked(transcript, "a", "another answer")

    names = [each.request for each in transcript.exchanges()]
    assert names == [f'{{"name": "{name}"}}' for name in "aabaa"]


def test_what_follows_a_check_is_not_its_own(transcript: Transcript) -> None:
    asked(transcript, "a")
    transcript.end()
    asked(transcript, "b")
    transcript.note("process", "kill -9")

    assert len(transcript.exchanges()) == 1


def test_of_bytes_the_number_is_shown_also_in_lists(transcript: Transcript) -> None:
    listed = wire.ListSandboxesResponse()
    listed.sandboxes.add(id="canary").spec.launch_authentication = b"canary"
    transcript.add("ListSandboxes", b"", "OK", listed, 0)

    shown = transcript.exchanges()[0].message
    assert '"launch_authentication": "6 bytes"' in shown
    assert '"id": "[secret]"' in shown


def test_the_log_is_of_the_check_as_far_as_words_tell(tmp_path: Path) -> None:
    target = Target(given="x", read_as="x", kind="command", name="x", argv=("x",))
    instance = Instance(target, Profile(), tmp_path, Ledger(tmp_path / "l", "r"))
    instance.log_path.write_text("old id-1\n")
    since = instance.logged
    with instance.log_path.open("a") as log:
        log.write("of id-1\nof id-2\n")

    assert instance.tail(since, ["id-1"]) == ["of id-1"]
    assert instance.tail(since, ["id-3"]) == ["of id-1", "of id-2"]
    assert instance.tail(about=["id-1"]) == ["old id-1", "of id-1"]


def test_the_failure_that_most_wait_for_comes_first_and_is_named() -> None:
    small, heavy = result("COMP-GET-05.a", "fail"), result("COMP-STAT-06.a", "fail")
    waiting = [
        result("COMP-STOP-01.a", "blocked", "COMP-STAT-06"),
        result("COMP-STOP-02.a", "blocked", "COMP-STAT-06.a"),
        result("COMP-STOP-03.a", "blocked", "COMP-DEL-01"),
        result("COMP-STOP-04.a", "blocked", reason="given up\nand more"),
    ]
    results = [small, heavy, *waiting]

    assert weightiest_first([[small], [heavy]], results) == [[heavy], [small]]
    assert list(_blocked(results)) == [
        "  2 results blocked by COMP-STAT-06, which is broken: mend that first",
        "  1 result blocked by COMP-DEL-01, which did not hold there",
        "  1 result blocked: given up",
    ]
