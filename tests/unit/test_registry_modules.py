"""Finding drivers that no package offers: by module, by package, by file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.packages import DRIVER
from tests.unit.test_registry import World

TWO = DRIVER.format(name="one") + "\n\nclass Second(Empty):\n    name = 'two'\n"
NONE = "from openshell_drivers import Credential, CredentialsDriver\n"
HALF = """\
from openshell_drivers import CredentialsDriver

class Half(CredentialsDriver):
    name = "h"
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_module_s_only_driver_is_found(world: World) -> None:
    world.site.module("acme_loose", DRIVER.format(name="loose"))

    assert world.find("acme_loose")["class"] == "Empty"
    assert world.find("py:acme_loose")["class"] == "Empty"
    assert world.find("py:acme_loose:Empty")["class"] == "Empty"


def test_a_package_s_only_driver_is_found_where_it_shows_it(world: World) -> None:
    package = world.site.folder / "acme"
    package.mkdir()
    (package / "inner.py").write_text(DRIVER.format(name="inner"))
    (package / "__init__.py").write_text("from acme.inner import Empty as Empty\n")

    assert world.find("acme")["class"] == "Empty"
    assert world.find("acme.inner")["class"] == "Empty"


def test_an_offered_driver_goes_before_a_module_of_that_name(world: World) -> None:
    world.site.install(
        "acme-one",
        {"one": TWO, "acme_one": DRIVER.format(name="one")},
        drivers={"one": "acme_one:Empty"},
    )

    assert world.find("one")["imported"] == ["acme_one"]
    assert "could be any of" in world.problem("py:one")


@pytest.mark.parametrize(
    ("code", "said"),
    {
        TWO: "driver {!r} could be any of {}:Empty, {}:Second",
        NONE: "driver {!r} cannot be loaded: it has no Driver class of its own",
        HALF: "driver '{}:Half' lacks list_credentials, resolve_credential",
        "import acme_gone": "driver {!r} cannot be loaded: there is no module 'acme_gone'",
        "raise SystemExit(3)": "driver {!r} cannot be loaded: SystemExit at ",
    }.items(),
    ids=["two", "none", "half", "import", "exit"],
)
def test_what_has_not_exactly_one_driver_is_refused(world: World, code: str, said: str) -> None:
    world.site.module("acme_loose", code)
    file = str(world.site.folder / "acme_loose.py")

    for name in ("acme_loose", file):
        assert world.problem(name).startswith(said.format(*[name] * said.count("{")))


def test_a_file_s_driver_is_found_and_its_neighbours_too(world: World) -> None:
    world.site.module("neighbour", "NAME = 'loose'\n")
    code = DRIVER.replace("{name!r}", "neighbour.NAME")
    folder = world.site.folder / "apart"
    folder.mkdir()
    (folder / "driver.py").write_text(f"import beside as neighbour\n{code}")
    (folder / "beside.py").write_text("NAME = 'loose'\n")

    assert world.find(str(folder / "driver.py"))["class"] == "Empty"
    assert world.find(f"{folder}/driver.py:Empty")["class"] == "Empty"
    assert "has no 'Gone'" in world.problem(f"{folder}/driver.py:Gone")


@pytest.mark.parametrize("name", ["json.py", "my-driver.py", "openshell_drivers.py"])
def test_a_file_may_be_called_like_anything(world: World, name: str) -> None:
    folder = world.site.folder / "apart"
    folder.mkdir()
    (folder / name).write_text(DRIVER.format(name="loose"))

    assert world.find(str(folder / name))["class"] == "Empty"


def test_a_file_that_is_not_there_is_said(world: World) -> None:
    assert "there is no such file" in world.problem("./gone.py")


def test_a_folder_that_has_the_name_is_no_module(world: World) -> None:
    (world.site.folder / "acme_folder").mkdir()

    assert world.problem("acme_folder").startswith("no installed package offers a driver")
