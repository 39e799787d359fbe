"""The pytest front: whatever the host's settings, plugins and conftests do, the verdict is one."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.front.hosts import Host, Judged, judged

pytestmark = pytest.mark.timeout(200)

#: As hostile as a host may be without meaning it.
INI = """\
[pytest]
python_functions = check_*
python_classes = Nothing
python_files = nope_*.py
testpaths = tests
filterwarnings = error
addopts = --strict-markers --strict-config
"""
CONFTEST = """\
import time

time.time = time.monotonic = time.perf_counter = lambda: 0.0
time.sleep = lambda seconds: None


def pytest_runtest_setup(item):
    item.function


def pytest_runtest_makereport(item, call):
    raise RuntimeError("mine")


def pytest_ignore_collect():
    return True
"""
FAILING = "def check_nothing():\n    raise RuntimeError('never to be run')\n"


@pytest.fixture(scope="module")
def clean() -> Iterator[Judged]:
    """What ``openshell-drivers verify`` says, in whose process is nothing of the host's."""
    with tempfile.TemporaryDirectory(prefix="osd-") as folder:
        host = Host(Path(folder) / "clean")
        report = host.report()
        done = host.verify("memory", f"--report={report}")
        assert done.status == 0, done.text
        yield judged(report)


def hostile(host: Host) -> None:
    host.file("pytest.ini", INI)
    host.file("conftest.py", CONFTEST)
    host.file("tests/nope_x.py", FAILING)


def there(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


def test_a_driver_is_judged_in_an_empty_folder(host: Host, clean: Judged) -> None:
    report = host.report()

    done = host.pytest("--driver=memory", f"--openshell-report={report}")

    assert done.status == 0, done.text
    assert judged(report) == clean
    assert "memory, read as driver:memory" in done.out
    assert f"{len(clean[2])} passed" in done.out
    assert host.ledgers == []


HOSTS = {
    "plain": [],
    "hooks": ["-o", "testpaths="],  # then the folder's conftest has a say in all that is in it
    "value-apart": ["--driver", "memory"],
    "quiet": ["-q", "--tb=no", "--no-header", "--no-summary"],
    "plain-asserts": ["--assert=plain", "-p", "no:cacheprovider"],
    "short-timeout": ["--timeout=1"],
    "xdist": ["-n2"],
    "xdist-short-timeout": ["-n2", "--timeout=1", "--dist=loadscope"],
    "reruns": ["--reruns=2", "--reruns-delay=1"],
    "random-order": ["--random-order"],
}
#: Of the ordinary run.
SOME = {"plain", "short-timeout", "xdist"}
NEEDED = {"reruns": "pytest_rerunfailures", "random-order": "random_order"}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k in SOME else pytest.mark.thorough) for k in HOSTS]
)
def test_no_host_changes_a_result(host: Host, kind: str, clean: Judged) -> None:
    if not there(NEEDED.get(kind, "pytest")):
        pytest.skip(f"{NEEDED[kind]} is not installed")
    hostile(host)
    report = host.report()
    driver = [] if "--driver" in HOSTS[kind] else ["--driver=memory"]

    done = host.pytest(*driver, *HOSTS[kind], f"--openshell-report={report}")

    assert report.exists(), done.text
    assert judged(report) == clean, done.text
    assert done.status == 0, done.text
    if kind != "quiet":
        assert f"{len(clean[2])} passed" in done.out
        assert "error" not in done.out.rpartition("passed")[2]
    assert host.ledgers == []


def test_reruns_do_not_mend_a_failure(host: Host) -> None:
    if not there("pytest_rerunfailures"):
        pytest.skip("pytest-rerunfailures is not installed")
    host.lies()

    done = host.pytest(
        "--driver=./lies", "--reruns=3", "--openshell-check=COMP-GET-01", "--openshell-preset=0.1.2"
    )

    assert done.status == 1, done.text
    assert "1 failed" in done.out
    assert "rerun" not in done.out.rpartition("=====")[0].rpartition("=====")[2]


def test_a_browser_stays_selenium_s(host: Host) -> None:
    if not there("pytest_selenium"):
        pytest.skip("pytest-selenium is not installed")
    host.file("test_own.py", "def test_it(request):\n    assert request.config.option.driver\n")

    done = host.pytest("--driver=Firefox")

    assert done.status == 0, done.text
    assert "openshell:" not in done.out


def test_without_a_target_nothing_happens(host: Host) -> None:
    host.file(
        "test_own.py",
        "import sys\n\ndef test_it():\n"
        "    assert not {'grpc', 'google.protobuf', 'pydantic'} & set(sys.modules)\n"
        "    assert 'openshell_drivers.conformance._pytest' not in sys.modules\n",
    )

    done = host.pytest("-p", "no:openshell", env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    with_ours = host.pytest(
        *("-p", "openshell_drivers.conformance.plugin"), env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    )

    assert with_ours.status == 0, with_ours.text
    assert done.status == 4, "the options are unknown without the plugin"


def test_an_option_of_a_conftest_that_is_called_the_same_stays_its_own(host: Host) -> None:
    host.file("conftest.py", "def pytest_addoption(parser):\n    parser.addoption('--driver')\n")
    host.file("test_own.py", "def test_it(request):\n    assert request.config.option.driver\n")
    off = ["-p", "no:selenium"] if there("pytest_selenium") else []

    theirs = host.pytest("--driver=memory", *off)
    ours = host.pytest("--openshell-driver=memory", *off)

    assert theirs.status == 0, theirs.text
    assert "--openshell-driver names a driver to judge" in theirs.out
    assert ours.status == 0, ours.text
    assert "openshell conformance" in ours.out


def test_an_item_s_name_is_the_same_everywhere(host: Host) -> None:
    host.file("pytest.ini", "[pytest]\n")
    inner = Host(host.folder / "deep")
    wanted = "openshell::COMP-GET-01[0.1.2]"
    chosen = ("--driver=memory", "--openshell-preset=0.1.2", "--openshell-check=COMP-GET-01")

    listed = host.pytest("--collect-only", "-q", *chosen)
    log = inner.folder / "log.xml"
    inside = inner.pytest("-n1", "-v", f"--junitxml={log}", *chosen)

    assert listed.out.split("\n")[0] == wanted
    assert inside.status == 0, inside.text
    assert 'classname="openshell" name="COMP-GET-01[0.1.2]"' in log.read_text()


def test_collecting_starts_no_driver(host: Host) -> None:
    done = host.pytest(
        "--driver=cmd:/bin/false", "--collect-only", "-q", "--openshell-check=COMP-*"
    )

    assert done.status == 0, done.text
    assert len([line for line in done.out.split("\n") if line.startswith("openshell::COMP-")]) > 10
    assert not host.state.exists()


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "xdist"])
def test_what_is_deselected_is_not_run(host: Host, workers: list[str]) -> None:
    report = host.report()

    done = host.pytest(
        "--driver=memory", "-k", "COMP-GET-02", *workers, f"--openshell-report={report}"
    )

    assert done.status == 0, done.text
    assert set(judged(report)[2]) == {"COMP-GET-02[fork-mvp]", "COMP-GET-02[0.1.2]"}


def test_when_all_is_deselected_the_status_is_not_zero(host: Host) -> None:
    assert host.pytest("--driver=memory", "-k", "no_such_thing").status == 6


def test_a_failure_says_all_that_its_author_needs(host: Host) -> None:
    host.lies()

    done = host.pytest(
        "--driver=./lies", "--openshell-check=COMP-GET-01", "--openshell-preset=0.1.2"
    )

    assert done.status == 1, done.text
    for words in (
        *("COMP-GET-01  an unknown id is NOT_FOUND", "0.1.2 (MUST)", "rule", "gateway: "),
        *("expected", "observed", "user sees", "mend", "last calls", "GetSandbox"),
        "again     openshell-drivers verify",
        *("compute, core", "not conformant", "status    1"),
    ):
        assert words in done.out, words


def test_the_first_failure_stops_the_run_where_that_is_wanted(host: Host) -> None:
    host.lies()
    report = host.report()

    done = host.pytest(
        "--driver=./lies", "-x", "--openshell-check=COMP-*", f"--openshell-report={report}"
    )

    assert done.status == 1, done.text
    assert "1 failed" in done.out
    verdict, _, results = judged(report)
    assert verdict == "non-conformant"
    assert len(results) < 200


def test_the_user_s_own_tests_run_too_if_they_should(host: Host) -> None:
    host.file("test_own.py", "def test_it():\n    assert 0\n")

    with_them = host.pytest(
        "--driver=memory", "--openshell-also-tests", "-k", "COMP-GET-01 or COMP-GET-02 or test_it"
    )
    without = host.pytest("--driver=memory")

    assert with_them.status == 1, with_them.text
    assert "1 failed, 4 passed" in with_them.out
    assert without.status == 0, without.text


USAGE = {
    "--openshell-check=NO-SUCH-01": "there is no check 'NO-SUCH-01'",
    "--openshell-preset=0.9": "there is no preset '0.9'",
    "--openshell-time-budget=soon": "--time-budget: wants a time",
    "--openshell-seed=x": "--seed: wants a whole number",
    "--openshell-config=gone.toml": "gone.toml: No such file",
    "--openshell-env=NO_SUCH_VARIABLE": "there is no variable 'NO_SUCH_VARIABLE'",
    "--openshell-env=A=secret-value": "--env: wants a name alone",
    "--openshell-report-formats=pdf": "there is no format 'pdf'",
}


@pytest.mark.parametrize(("option", "said"), USAGE.items(), ids=list(USAGE))
def test_a_wrong_option_is_a_usage_error(host: Host, option: str, said: str) -> None:
    done = host.pytest("--driver=memory", option)

    assert done.status == 2, done.text
    assert said in done.err
    assert "secret-value" not in done.text.replace(option, "")


def test_a_driver_that_does_not_come_up_is_told_from_one_that_fails(host: Host) -> None:
    host.file("broken", "#!/bin/sh\necho 'no such license' >&2\nexit 3\n", mode=0o755)

    done = host.pytest("--driver=./broken")

    assert done.status == 4, done.text
    assert "ended with status 3" in done.err
    assert "no such license" in done.err


def test_files_called_like_modules_in_the_user_s_folder_are_not_ours(host: Host) -> None:
    for name in ("secrets", "types", "queue", "grpc"):
        host.file(f"{name}.py", "raise RuntimeError('shadowed')\n")

    done = host.run(sys.executable, "-P", "-m", "pytest", "--driver=memory", "-k", "COMP-GET-01")

    assert done.status == 0, done.text
