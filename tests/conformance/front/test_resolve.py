"""Targets: exactly one reading is used, and nothing of the target is imported to find it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openshell_drivers.conformance._resolve import passed_on, resolve
from openshell_drivers.conformance._targets import Target
from openshell_drivers.errors import ConfigError
from tests.fakes.packages import Site

EXPLOSIVE = "raise RuntimeError('imported')\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Installed packages that do not survive being imported."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return Site(folder)


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    return folder


@pytest.fixture
def listening(short_dir: Path) -> Iterator[Path]:
    path = short_dir / "d.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        yield path


def read(text: str, cwd: Path) -> Target:
    return resolve(text, cwd=cwd, python="python")


def refused(text: str, cwd: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, cwd)
    return str(caught.value)


def spawned(what: str) -> tuple[str, ...]:
    return ("python", "-P", "-m", "openshell_drivers", "run", what, "--socket", "{socket}")


def test_a_bare_name_is_an_installed_driver(site: Site, cwd: Path) -> None:
    site.install("acme-one", {"acme_one": EXPLOSIVE}, drivers={"one": "acme_one:One"})

    target = read("one", cwd)

    assert (target.read_as, target.kind, target.name) == ("driver:one", "driver", "one")
    assert target.argv == spawned("one")
    assert target.verbose == ("--log-level", "debug")
    assert read("driver:one", cwd).argv == target.argv


def test_a_name_that_a_plugin_module_offers_is_an_installed_driver(
    site: Site, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(site.folder))
    offer = (
        "from openshell_drivers.registry import hookimpl\n\n"
        "@hookimpl\ndef openshell_drivers_offer():\n    return {'alpha': 'acme_gone:Alpha'}\n"
    )
    site.install("acme-many", {"acme_many": offer}, plugins={"many": "acme_many"})

    target = resolve("alpha", cwd=cwd, python=sys.executable)

    assert target.read_as == "driver:alpha"
    assert "acme_many" not in sys.modules


def test_an_entry_point_and_the_package_it_lies_in_are_one_reading(site: Site, cwd: Path) -> None:
    site.install("acme", {"acme": EXPLOSIVE}, drivers={"acme": "acme:Acme"})

    assert read("acme", cwd).read_as == "driver:acme"


def test_an_entry_point_and_another_module_of_that_name_are_two(site: Site, cwd: Path) -> None:
    site.install("acme", {"acme": EXPLOSIVE}, drivers={"acme": "other:Acme"})

    said = refused("acme", cwd)

    assert "several ways" in said
    assert said.split("\n")[1:] == ["  driver:acme", "  py:acme"]


def test_a_module_is_found_without_being_imported(site: Site, cwd: Path) -> None:
    package = site.folder / "acme"
    (package / "deep").mkdir(parents=True)
    for path in (package / "__init__.py", package / "deep" / "__init__.py"):
        path.write_text(EXPLOSIVE)
    (package / "deep" / "driver.py").write_text(EXPLOSIVE)

    for text in ("acme", "acme.deep", "acme.deep.driver", "acme.deep.driver:Class"):
        target = read(text, cwd)
        assert target.read_as == f"py:{text}"
        assert target.argv == spawned(f"py:{text}")
        assert target.environment["PYTHONPATH"].split(os.pathsep)[0] == str(site.folder)
    assert read("acme.deep.driver:Class", cwd).name == "driver"


def test_a_module_of_the_folder_one_works_in_is_found(cwd: Path) -> None:
    (cwd / "mine.py").write_text(EXPLOSIVE)

    target = read("mine:Class", cwd)

    assert target.read_as == "py:mine:Class"
    assert target.environment == {}


def test_a_folder_is_no_module(cwd: Path) -> None:
    (cwd / "acme").mkdir()
    (cwd / "acme" / "README").write_text("")

    assert "no such module" in refused("acme", cwd)


@pytest.mark.parametrize("text", ["./driver.py", "sub/driver.py", "./driver.py:Class"])
def test_a_python_file_is_a_driver(cwd: Path, text: str) -> None:
    path = cwd / text.partition(":")[0]
    path.parent.mkdir(exist_ok=True)
    path.write_text(EXPLOSIVE)

    target = read(text, cwd)

    assert target.read_as == f"file:{text}"
    where = f"{path.parent.resolve()}/{path.name}"
    assert Path(target.argv[5].removesuffix(":Class")).resolve() == Path(where)
    assert target.argv[5].endswith(":Class") == text.endswith(":Class")
    assert read(f"file:{text}", cwd).argv == target.argv


def test_a_socket_is_attached_to(listening: Path, cwd: Path) -> None:
    target = read(str(listening), cwd)

    assert (target.kind, target.socket) == ("socket", listening)
    assert target.read_as == f"unix:{listening}"
    assert read(os.path.relpath(listening, cwd), cwd).attached


def test_a_program_is_started_with_the_flag_of_the_gateways(cwd: Path) -> None:
    (cwd / "driver").write_text("#!/bin/sh\n")
    (cwd / "driver").chmod(0o755)

    target = read("./driver", cwd)

    assert (target.kind, target.read_as) == ("command", "cmd:./driver")
    assert target.argv == (str(cwd / "driver"), "--bind-socket", "{socket}")


def test_a_program_that_is_a_python_file_too_is_ambiguous(cwd: Path) -> None:
    (cwd / "driver.py").write_text("#!/usr/bin/env python\n")
    (cwd / "driver.py").chmod(0o755)

    assert refused("./driver.py", cwd).split("\n")[1:] == [
        "  file:./driver.py",
        "  cmd:./driver.py",
    ]


def test_a_command_keeps_its_place_for_the_socket(cwd: Path) -> None:
    target = read("cmd:driver --listen=unix:{socket} 'a b'", cwd)

    assert target.argv == ("driver", "--listen=unix:{socket}", "a b")


def test_a_bare_word_never_runs_a_program_of_the_path(cwd: Path) -> None:
    assert "nothing is called 'true'" in refused("true", cwd)


NOTHING = {
    "memry": "did you mean memory?",
    "./gone": "no path, with a slash in it, of a program",
    "./driver --flag": "a command with arguments is given as cmd:'...'",
    "driver:memry": "no installed package offers a driver 'memry'",
    "py:acme_gone": "there is no module 'acme_gone'",
    "file:gone.py": "there is no file 'gone.py'",
    "cmd:'": "No closing quotation",
    "cmd:": "nothing after the colon",
    "unix:": "nothing after the colon",
    "": "nothing is called ''",
}


@pytest.mark.parametrize(("text", "said"), NOTHING.items())
def test_what_is_nothing_says_what_was_tried(cwd: Path, text: str, said: str) -> None:
    assert said in refused(text, cwd)


def test_a_class_in_a_module_called_driver_is_hinted_at(cwd: Path) -> None:
    (cwd / "driver.py").write_text(EXPLOSIVE)

    assert "py:driver:Mine is the class" in refused("driver:Mine", cwd)


def test_variables_are_passed_on_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_TOKEN", "canary-51")

    assert passed_on(["ACME_TOKEN"]) == {"ACME_TOKEN": "canary-51"}
    for names, said in ((["ACME_GONE"], "no variable"), (["A=canary-51"], "a name alone")):
        with pytest.raises(ConfigError, match=said) as caught:
            passed_on(names)
        assert "canary-51" not in str(caught.value)
