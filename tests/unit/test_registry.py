"""Finding drivers: one is imported, its neighbours are not, a broken plugin stops nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.packages import DRIVER, PLUGIN, Site

CANARY = "canary-9c40d7"

ASK = """\
import builtins, json, sys
from openshell_drivers.errors import ConfigError
from openshell_drivers.registry import find, offers

found = {}
try:
    if sys.argv[1:]:
        found["class"] = find(sys.argv[1]).__name__
    else:
        found["offers"] = [[o.name, o.target, o.source, o.problem] for o in offers()]
except ConfigError as error:
    found["error"] = str(error)
    found["chained"] = error.__cause__ is not None or not error.__suppress_context__
found["imported"] = getattr(builtins, "imported", [])
found["heavy"] = sorted({"grpc", "google.protobuf", "pydantic"} & set(sys.modules))
print(json.dumps(found))
"""


class World:
    """A site, and a process of its own that asks the registry there."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)

    def _ask(self, *arguments: str) -> dict[str, Any]:
        path = os.pathsep.join([str(self.site.folder), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", ASK, *arguments],
            env=env,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert CANARY not in done.stdout
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def find(self, name: str) -> dict[str, Any]:
        return self._ask(name)

    def problem(self, name: str) -> str:
        found = self._ask(name)
        assert "error" in found, found
        return str(found["error"])

    def offers(self) -> dict[str, list[str]]:
        """What this site offers, by name: target, source, problem."""
        rows = self._ask()["offers"]
        return {name: rest for name, *rest in rows if rest[1].startswith("acme")}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_finding_by_entry_point_imports_no_neighbour_and_no_plugin(world: World) -> None:
    world.site.install(
        "acme-one",
        {"acme_one": DRIVER.format(name="one"), "acme_other": DRIVER.format(name="other")},
        drivers={"one": "acme_one:Empty", "other": "acme_other:Empty"},
    )
    world.site.install(
        "acme-two", {"acme_two": DRIVER.format(name="two")}, drivers={"two": "acme_two:Empty"}
    )
    world.site.install(
        "acme-many", {"acme_plugin": PLUGIN.format(offer={})}, plugins={"many": "acme_plugin"}
    )

    found = world.find("one")

    assert found == {"class": "Empty", "imported": ["acme_one"], "heavy": []}


def test_listing_imports_no_driver(world: World) -> None:
    world.site.install(
        "acme-one", {"acme_one": DRIVER.format(name="one")}, drivers={"one": "acme_one:Empty"}
    )
    world.site.install(
        "acme-many",
        {"acme_plugin": PLUGIN.format(offer={"alpha": "acme_alpha:Empty"})},
        plugins={"many": "acme_plugin"},
    )

    found = world._ask()

    assert found["imported"] == ["acme_plugin"]
    assert found["heavy"] == []
    assert world.offers() == {
        "alpha": ["acme_alpha:Empty", "acme-many", ""],
        "one": ["acme_one:Empty", "acme-one", ""],
    }


def test_a_plugin_offers_several_and_only_the_one_asked_for_is_imported(world: World) -> None:
    world.site.install(
        "acme-many",
        {
            "acme_plugin": PLUGIN.format(
                offer={"alpha": "acme_alpha:Empty", "beta": "acme_beta:Empty"}
            ),
            "acme_alpha": DRIVER.format(name="alpha"),
            "acme_beta": DRIVER.format(name="beta"),
        },
        plugins={"many": "acme_plugin"},
    )

    assert world.find("beta")["imported"] == ["acme_plugin", "acme_beta"]


def test_two_packages_with_one_name_are_an_error_that_names_both(world: World) -> None:
    for package in ("acme-two", "acme-one"):
        module = package.replace("-", "_")
        world.site.install(
            package, {module: DRIVER.format(name="same")}, drivers={"same": f"{module}:Empty"}
        )

    found = world.find("same")

    assert found["error"] == "driver 'same' is offered by several packages: acme-one, acme-two"
    assert found["imported"] == []


def test_two_plugins_with_one_name_are_an_error_that_names_both(world: World) -> None:
    for package in ("acme-two", "acme-one"):
        module = package.replace("-", "_")
        world.site.install(
            package,
            {module: PLUGIN.format(offer={"same": "nowhere:Class"})},
            plugins={package: module},
        )

    assert (
        world.problem("same") == "driver 'same' is offered by several packages: acme-one, acme-two"
    )


def test_a_class_that_has_another_name_than_its_entry_is_refused(world: World) -> None:
    world.site.install(
        "acme-one", {"acme_one": DRIVER.format(name="uno")}, drivers={"one": "acme_one:Empty"}
    )

    told = "driver 'one' of acme-one: the class calls itself 'uno'"
    assert world.problem("one") == f"{told}; name the entry point and the class alike"


def test_a_name_that_nobody_offers_is_said(world: World) -> None:
    assert world.problem("none").startswith("no installed package offers a driver 'none'")


BROKEN = {
    "missing": ("import acme_gone", "there is no module 'acme_gone'"),
    "import": (f"raise ImportError('{CANARY}')", "ImportError at acme_broken.py:1 in <module>"),
    "syntax": (f"\nx = {CANARY!r} {CANARY!r}y z\n", "SyntaxError at acme_broken.py:2"),
    "key": (f"{{}}['{CANARY}']", "KeyError at acme_broken.py:1 in <module>"),
    "exit": (f"raise SystemExit('{CANARY}')", "SystemExit at acme_broken.py:1 in <module>"),
    "chain": (
        f"try:\n    int('{CANARY}')\nexcept ValueError as e:\n    raise RuntimeError(e) from e",
        "RuntimeError at acme_broken.py:4 in <module>",
    ),
    "lazy": (
        f"def __getattr__(name):\n    raise RuntimeError('{CANARY}')",
        "RuntimeError at acme_broken.py:2 in __getattr__",
    ),
}


@pytest.mark.parametrize(("code", "said"), BROKEN.values(), ids=BROKEN)
def test_a_driver_that_cannot_be_imported_is_named_without_the_error_s_text(
    world: World, code: str, said: str
) -> None:
    world.site.install(
        "acme-broken", {"acme_broken": code}, drivers={"broken": "acme_broken:Driver"}
    )

    found = world.find("broken")

    assert found["error"].startswith(f"driver 'acme_broken:Driver' cannot be loaded: {said}")
    assert found["chained"] is False


NO_DRIVER = {
    "acme_odd:thing": "is not a Driver class",
    "acme_odd:Other": "is not a Driver class",
    "acme_odd:Half": "lacks list_credentials, resolve_credential",
    "acme_odd:Gone": "cannot be loaded: acme_odd has no 'Gone'",
    "acme_odd:": "cannot be loaded: acme_odd has no ''",
    "acme_odd": "cannot be loaded: acme_odd has no ''",
    ":Half": "cannot be loaded: ValueError at ",
    ".acme_odd:Half": "cannot be loaded: TypeError at ",
    "os.path:join": "is not a Driver class",
}
ODD = """\
from openshell_drivers import CredentialsDriver

thing = 7


class Other: ...


class Half(CredentialsDriver):
    name = "half"
"""


@pytest.mark.parametrize(
    ("target", "said"),
    NO_DRIVER.items(),
)
def test_what_is_no_usable_class_is_refused(world: World, target: str, said: str) -> None:
    world.site.install("acme-odd", {"acme_odd": ODD}, drivers={"half": target})

    assert world.problem("half").startswith(f"driver {target!r} {said}")
    if ":" in target:
        assert world.problem(target).startswith(f"driver {target!r} {said}")


def test_a_driver_is_found_by_module_and_class(world: World) -> None:
    world.site.module("acme_loose", DRIVER.format(name="loose"))

    assert world.find("acme_loose:Empty")["imported"] == ["acme_loose"]


BROKEN_PLUGINS = {
    **BROKEN,
    "hook": (
        f"from openshell_drivers.registry import hookimpl\n\n"
        f"@hookimpl\ndef openshell_drivers_offer():\n    raise ValueError('{CANARY}')",
        "ValueError at acme_broken.py:5 in openshell_drivers_offer",
    ),
    "quits": (
        f"from openshell_drivers.registry import hookimpl\n\n"
        f"@hookimpl\ndef openshell_drivers_offer():\n    raise SystemExit('{CANARY}')",
        "SystemExit at acme_broken.py:5 in openshell_drivers_offer",
    ),
    "answer": (PLUGIN.format(offer=[CANARY]), "ValueError at registry.py"),
    "misspelt": (
        "from openshell_drivers.registry import hookimpl\n\n"
        "@hookimpl\ndef openshell_drivers_ofer():\n    return {}",
        "PluginValidationError at ",
    ),
    "unmarked": ("def openshell_drivers_offer():\n    return {}", "it offers nothing"),
    "nothing": (PLUGIN.format(offer=None), "it offers nothing"),
}
del BROKEN_PLUGINS["lazy"]


@pytest.mark.parametrize(("code", "said"), BROKEN_PLUGINS.values(), ids=BROKEN_PLUGINS)
def test_a_broken_plugin_is_named_and_stops_nobody(world: World, code: str, said: str) -> None:
    world.site.install("acme-broken", {"acme_broken": code}, plugins={"broken": "acme_broken"})
    world.site.install(
        "acme-fine",
        {
            "acme_plugin": PLUGIN.format(offer={"alpha": "acme_alpha:Empty"}),
            "acme_alpha": DRIVER.format(name="alpha"),
        },
        plugins={"fine": "acme_plugin"},
    )

    offers = world.offers()
    nobody = world.problem("absent")

    target, source, problem = offers["broken"]
    assert (target, source) == ("", "acme-broken")
    assert problem.startswith(said)
    assert offers["alpha"] == ["acme_alpha:Empty", "acme-fine", ""]
    assert world.find("alpha")["class"] == "Empty"
    assert f"plugin 'broken' of acme-broken is broken: {said}" in nobody


def test_a_half_removed_distribution_stops_nobody(world: World) -> None:
    world.site.install(
        "acme-gone", {"acme_gone": DRIVER.format(name="gone")}, drivers={"gone": "acme_gone:Empty"}
    )
    world.site.install(
        "acme-one", {"acme_one": DRIVER.format(name="one")}, drivers={"one": "acme_one:Empty"}
    )
    (world.site.folder / "acme_gone-1.2.dist-info" / "METADATA").unlink()

    assert "one" in world.offers()
    assert world.find("gone")["class"] == "Empty"


def test_the_name_of_a_broken_plugin_is_no_driver(world: World) -> None:
    world.site.install("acme-broken", {"acme_broken": "1 / 0"}, plugins={"broken": "acme_broken"})

    said = world.problem("broken").split("\n")

    assert said[0].startswith("no installed package offers a driver 'broken'")
    assert said[1].startswith("plugin 'broken' of acme-broken is broken: ZeroDivisionError at ")
