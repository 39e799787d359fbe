"""``openshell-drivers verify``: targets of every form, every exit status, and a clean end."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conformance.front.hosts import PATIENCE, SCRIPT, STICKY, TWO, WAIVER, Host, judged

pytestmark = pytest.mark.timeout(300)

ONE_CHECK = ("--check=COMP-GET-01", "--preset=0.1.2")


def eventually(look: Callable[[], object]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if look():
            return True
        time.sleep(0.05)
    return False


@contextmanager
def serving(host: Host) -> Iterator[Path]:
    path = host.folder.parent / "m" / "d.sock"
    with host.begin(SCRIPT, "run", "memory", "--socket", path) as process:
        try:
            assert eventually(path.exists)
            yield path
        finally:
            process.terminate()
            process.communicate()


def test_targets_of_every_form_are_judged(host: Host) -> None:
    host.file("mine.py", TWO)
    host.file("driver", f'#!/bin/sh\nexec {SCRIPT} run memory "$@"\n', mode=0o755)
    forms = {
        "memory": "driver:memory",
        "mine:Two": "py:mine:Two",
        "openshell_drivers.reference.memory": "py:openshell_drivers.reference.memory",
        "./mine.py:One": "file:./mine.py:One",
        "./driver": "cmd:./driver",
        "cmd:./driver --socket {socket}": "cmd:./driver --socket {socket}",
    }

    for text, read in forms.items():
        done = host.verify(text, *ONE_CHECK)
        assert done.status == 0, done.text
        assert f"target    {text}" in done.out
        assert read in done.out


def test_a_module_with_several_drivers_says_which_there_are(host: Host) -> None:
    host.file("mine.py", TWO)

    done = host.verify("mine")

    assert done.status == 4, done.text
    assert "could be any of mine:One, mine:Two" in done.err.replace("py:", "")


def test_an_attached_socket_is_judged_and_left_as_it_was(host: Host) -> None:
    with serving(host) as path:
        done = host.verify(f"unix:{path}", *ONE_CHECK)
        partly = host.verify(path, "--check=COMP-SOCK-02,COMP-GET-01", "--preset=0.1.2")
        listed = host.command("call", "sandboxes", "--socket", path)

    assert done.status == 0, done.text
    assert partly.status == 6, partly.text
    assert "to have it judged, supply:" in partly.out
    assert json.loads(listed.out) == []


def test_a_failure_is_one_card_for_all_gateways_and_status_1(host: Host) -> None:
    host.lies()

    done = host.verify("./lies", "--check=COMP-GET-01")

    assert done.status == 1, done.text
    assert done.out.count("COMP-GET-01  an unknown id is NOT_FOUND") == 1
    assert "under     fork-mvp, 0.0.111, 0.1.2, 0.1-latest (MUST)" in done.out
    assert "✕ COMP-GET-01 [" in done.out, "a line as it comes"


def test_usage_is_status_2_and_a_driver_that_does_not_start_4(host: Host) -> None:
    assert host.verify("no-such-driver").status == 2
    assert host.verify("memory", "--check=NO-SUCH").status == 2
    assert host.verify("memory", "--preset").status == 2
    assert host.command("verify").status == 2
    assert host.verify("cmd:/bin/false").status == 4
    assert host.ledgers == []


def test_the_command_that_repeats_a_failure_does_so(host: Host) -> None:
    host.lies()
    host.file("acme.toml", '[target]\nname = "acme"\n')

    done = host.verify("./lies", *ONE_CHECK, "--config=acme.toml", "--strict")
    again = done.out.partition("  again     ")[2].splitlines()[0]
    words = shlex.split(again)

    assert words[:2] == ["openshell-drivers", "verify"]
    assert "--config=acme.toml" in words
    assert "COMP-GET-01  an unknown id" in host.verify(*words[2:]).out


def test_what_the_driver_does_not_let_go_of_is_status_5(host: Host) -> None:
    host.file("sticky.py", STICKY)
    host.file("openshell-conformance.toml", "[compute.timeouts]\ngone = 1\n")

    done = host.verify("./sticky.py:Sticky", "--check=COMP-GET-04", "--preset=0.1.2")

    assert done.status == 5, done.text
    assert "left behind:\n  sandbox " in done.out
    assert "verdict   conformant" in done.out


def test_a_waiver_that_is_not_needed_is_status_7(host: Host) -> None:
    today = datetime.now(UTC).date()
    host.file("waivers.toml", WAIVER.format(today=today, later=today + timedelta(days=30)))

    done = host.verify("memory", *ONE_CHECK, "--waivers=waivers.toml")

    assert done.status == 7, done.text
    assert "COMP-GET-01: passes, so its waiver is to be removed" in done.out


def test_the_verdict_of_each_gateway_is_said_where_they_differ(host: Host) -> None:
    host.lies()

    same = host.verify("./lies", "--check=COMP-GET-01")
    differs = host.verify(
        "./lies", "--check=COMP-CAP-01.a,COMP01-NEG-01", "--preset=fork-mvp,0.1.2"
    )

    assert "  under " not in same.out.partition("verdict   ")[0].rpartition("target    ")[2]
    assert "  under 0.1.2                     not conformant" in differs.out, differs.text


def test_nothing_of_pytest_s_reaches_it(host: Host) -> None:
    host.file("pytest.ini", "[pytest]\naddopts = --no-such-option\n")
    host.file("conftest.py", "raise RuntimeError('loaded')\n")
    host.file("secrets.py", "raise RuntimeError('shadowed')\n")

    done = host.verify(
        "memory", *ONE_CHECK, env={"PYTEST_ADDOPTS": "--no-such", "PYTEST_PLUGINS": "no_such"}
    )

    assert done.status == 0, done.text


def test_it_says_how_to_get_pytest(host: Host) -> None:
    host.file("none/pytest.py", "")
    hidden = (
        "import sys, importlib.util as u; f = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'pytest' else f(name, *a); "
        "from openshell_drivers.cli import main; main(['verify', 'memory'])"
    )

    done = host.run(Path(SCRIPT).with_name("python"), "-c", hidden)

    assert done.status == 2
    assert 'pip install "openshell-drivers[conformance]"' in done.err


def test_a_variable_reaches_the_driver_by_name_and_no_report(host: Host) -> None:
    seen = host.folder / "seen"
    text = f'#!/bin/sh\nprintf %s "$ACME_TOKEN" > {seen}\nexec {SCRIPT} run memory "$@"\n'
    host.file("driver", text, mode=0o755)
    report = host.report()
    env = {"ACME_TOKEN": "canary-7d1"}

    done = host.verify("./driver", *ONE_CHECK, "--env=ACME_TOKEN", f"--report={report}", env=env)

    assert done.status == 0, done.text
    assert seen.read_text() == "canary-7d1"
    assert "canary-7d1" not in done.text
    assert all(b"canary-7d1" not in path.read_bytes() for path in report.iterdir())


def test_reports_are_those_that_were_asked_for(host: Host) -> None:
    report = host.report()

    done = host.verify(
        "memory", *ONE_CHECK, f"--report={report}", "--report-formats=json,junit", "--seed=7"
    )

    assert sorted(path.name for path in report.iterdir()) == ["junit.xml", "report.json"]
    document = json.loads((report / "report.json").read_text())
    assert document["run"]["seed"] == 7
    assert document["run"]["command"] == (
        "openshell-drivers verify driver:memory --preset=0.1.2 --check=COMP-GET-01 "
        f"--report={report} --report-formats=json,junit --seed=7"
    )
    assert str(report / "report.json") in done.out


def test_a_configuration_beside_the_user_is_read(host: Host) -> None:
    host.file("openshell-conformance.toml", '[target]\nname = "acme"\n')
    report = host.report()

    host.verify("memory", *ONE_CHECK, f"--report={report}")

    assert json.loads((report / "report.json").read_text())["target"]["name"] == "acme"


def under_way(host: Host, process: subprocess.Popen[str]) -> None:
    """Wait until drivers run and checks are made."""

    def made() -> bool:
        return any(b'"step": "create"' in path.read_bytes() for path in host.ledgers)

    assert eventually(lambda: made() or process.poll() is not None)
    assert process.poll() is None, process.communicate()


def alive(host: Host) -> list[str]:
    """Processes of the drivers of this host's runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"XDG_STATE_HOME={host.state}".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_ctrl_c_cleans_up_and_is_no_verdict(host: Host) -> None:
    report = host.report()
    with host.begin(SCRIPT, "verify", "memory", "--profile=lifecycle", f"--report={report}") as run:
        under_way(host, run)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=PATIENCE)

    verdict, status, _ = judged(report)
    assert (run.returncode, verdict, status) == (6, "incomplete", 6), out + err
    assert "what was made is being removed" in out
    assert host.ledgers == []
    assert alive(host) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_killed_run_has_made_is_removed(host: Host, number: signal.Signals) -> None:
    with host.begin(SCRIPT, "verify", "memory", "--profile=lifecycle") as run:
        under_way(host, run)
        os.kill(run.pid, number)
        run.communicate(timeout=PATIENCE)

    assert run.returncode == -number
    assert eventually(lambda: not host.ledgers)
    assert eventually(lambda: not alive(host))


def test_a_terminal_gets_one_changing_line(host: Host) -> None:
    host.lies()
    command = f"{SCRIPT} verify ./lies --check=COMP-GET-01"

    done = host.run("script", "-qefc", command, "/dev/null", env={"TERM": "xterm"})

    assert done.status == 1, done.text
    assert "\x1b[2K4/4 4 fail" in done.out


def test_the_time_budget_ends_the_run(host: Host) -> None:
    done = host.verify("memory", "--check=COMP-*", "--time-budget=0.5s")

    assert done.status == 6, done.text
    assert "out of its time budget" in done.out
