"""What else there is: the catalogue, the plan, the draft of a profile, diff, and sweep."""

from __future__ import annotations

import json
import os
import signal
import tomllib

import pytest

from openshell_drivers.conformance._checks import NEEDS
from openshell_drivers.conformance._profile import Profile
from openshell_drivers.conformance.cli.init import draft
from openshell_drivers.conformance.cli.probing import Findings
from tests.conformance.front.hosts import PATIENCE, SCRIPT, Host
from tests.conformance.front.test_verify import eventually, under_way

pytestmark = pytest.mark.timeout(300)


def test_the_catalogue_lists_every_clause(host: Host) -> None:
    table = host.command("verify", "--list")
    rows = json.loads(host.command("verify", "--list", "--format", "json").out)

    by_id = {row["id"]: row for row in rows}
    assert by_id["COMP-GET-01"]["levels"] == {"fork": "MUST", "0.0.x": "MUST", "0.1.x": "MUST"}
    assert [check["id"] for check in by_id["COMP-GET-01"]["checks"]] == ["COMP-GET-01"]
    assert all(row["unobserved"] for row in rows if row["observed"] == "none")
    assert table.status == 0
    assert table.out.count("\n") == len(rows) + 3
    assert not host.state.exists()


def test_a_clause_and_a_check_are_explained(host: Host) -> None:
    for name in ("COMP-GET-01", "COMP-SOCK-01.a"):
        done = host.command("verify", "--explain", name)
        assert done.status == 0, done.text
        for word in ("level", "source", "a user sees", "mend", "check", "profile"):
            assert word in done.out
    assert "did you mean COMP-GET-" in host.command("verify", "--explain", "COMP-GET-1").err


def test_the_plan_says_what_is_lacking(host: Host) -> None:
    host.lies()

    plain = host.command("verify", "--plan", "./lies")
    given = host.command("verify", "--plan", "memory")
    broken = host.command("verify", "--plan", "cmd:/bin/false")

    assert plain.status == given.status == 0, plain.text + given.text
    assert NEEDS["remove"] in plain.out
    assert NEEDS["remove"] not in given.out
    assert broken.status == 4
    assert host.ledgers == []


def test_a_draft_holds_every_key_with_its_meaning() -> None:
    found = Findings(name="acme", version="2", services=["compute"])

    lines = draft(found, "cmd:./acme").split("\n")
    uncommented = [line.removeprefix("# ") if " = " in line else line for line in lines]
    profile = Profile.model_validate(tomllib.loads("\n".join(uncommented)))

    assert profile.target.name == "acme"
    missing = []
    for section, part in Profile.model_fields.items():
        for key in (
            getattr(type(part.default), "model_fields", {}) if section != "unsupported" else {}
        ):
            place = [
                n for n, line in enumerate(lines) if line.startswith((f"# {key} =", f"{key} ="))
            ]
            if key != "timeouts" and not any(lines[n - 1].startswith("# ") for n in place):
                missing.append(f"{section}.{key}")
    assert missing == []


def test_init_writes_what_it_finds_and_nothing_over_a_file(host: Host) -> None:
    host.lies()

    first = host.command("init", "memory")
    again = host.command("init", "memory")
    other = host.command("init", "./lies", "-o", "lies.toml")
    gone = host.command("init", "cmd:/bin/false", "-o", "x.toml")

    text = (host.folder / "openshell-conformance.toml").read_text()
    assert first.status == 0, first.text
    assert "It accepts a sandbox of the default template." in " ".join(
        text.replace("# ", "").split()
    )
    assert again.status == 2
    assert "exists already" in again.err
    lies = tomllib.loads((host.folder / "lies.toml").read_text())
    assert other.status == 0, other.text
    assert {"StopSandbox", "EnsureWorkspace"} <= set(lies["unsupported"])
    assert gone.status == 1
    assert not (host.folder / "x.toml").exists()


def test_two_reports_are_compared(host: Host) -> None:
    host.lies()
    good, bad = host.report(), host.report()
    host.verify("memory", "--check=COMP-GET-01", f"--report={good}")
    host.verify("./lies", "--check=COMP-GET-01", f"--report={bad}")

    worse = host.command("diff", good, bad)
    better = host.command("diff", bad / "report.json", good, "--format", "json")
    none = host.command("diff", good, host.folder)

    assert worse.status == 1
    assert "regression" in worse.out
    assert better.status == 0
    assert json.loads(better.out)["regressed"] is False
    assert none.status == 2


def test_what_a_killed_engine_has_left_is_swept_when_told_to(host: Host) -> None:
    with host.begin(SCRIPT, "verify", "memory", "--profile=lifecycle") as run:
        under_way(host, run)
        engine = json.loads(host.ledgers[0].read_text().split("\n")[0])["engine"]
        os.kill(engine, signal.SIGKILL)
        run.communicate(timeout=PATIENCE)
    assert run.returncode == 3, "the suite broke"

    young = host.command("sweep", "--older-than", "1h", "--yes")
    shown = host.command("sweep")
    swept = host.command("sweep", "--yes")

    assert "nothing is left behind" in young.out
    assert "nothing was removed" in shown.out
    assert swept.status == 0, swept.text
    assert eventually(lambda: not host.ledgers)
    assert "nothing is left behind" in host.command("sweep").out
