"""The environment: template, spec, driver, and nothing protected from a user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openshell_drivers import InvalidArgument, Secret
from openshell_drivers import environment as env
from openshell_drivers.compute import SandboxSpec, SandboxTemplate

CANARY: Final = "canary-7b1e-hidden"
SPEC: Final = SandboxSpec(id="id-1", name="demo", workspace="team")
NAMES: Final = st.text(st.characters(exclude_characters="=\0", codec="utf-8"), min_size=1)
VALUES: Final = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
ENVIRONMENTS: Final = st.dictionaries(NAMES | NAMES.map("OPENSHELL_{}".format), VALUES)


def spec_with(template: dict[str, str], own: dict[str, str]) -> SandboxSpec:
    return replace(SPEC, template=SandboxTemplate(environment=template), environment=own)


def test_the_spec_stands_over_the_template_and_the_driver_over_both() -> None:
    spec = spec_with(
        {"a": "template", "b": "template", "c": "template"}, {"b": "spec", "c": "spec"}
    )

    assert env.compose(spec, {"c": "driver"}) == {"a": "template", "b": "spec", "c": "driver"}


@pytest.mark.parametrize(
    "name", ["OPENSHELL_SANDBOX_TOKEN", "OPENSHELL_SANDBOX_TOKEN_FILE", "OPENSHELL_", "OPENSHELL_X"]
)
def test_a_user_sets_no_protected_variable(name: str) -> None:
    for spec in (spec_with({name: "x", "k": "v"}, {}), spec_with({}, {name: "x", "k": "v"})):
        assert env.compose(spec) == {"k": "v"}
        assert env.compose(spec, {name: "own"}) == {"k": "v", name: "own"}
        assert json.loads(env.user_environment(spec)) == {"k": "v"}


def test_names_that_only_resemble_a_protected_one_are_the_user_s() -> None:
    user = {"OPENSHELL": "1", "openshell_x": "2", "MY_OPENSHELL_X": "3"}

    assert env.compose(spec_with({}, user)) == user


@given(ENVIRONMENTS, ENVIRONMENTS, ENVIRONMENTS)
def test_the_driver_s_variables_are_always_there_unchanged(
    template: dict[str, str], spec: dict[str, str], own: dict[str, str]
) -> None:
    made = env.compose(spec_with(template, spec), own)

    assert {name: made[name] for name in own} == own
    assert {name for name in made if name.startswith("OPENSHELL_")} <= set(own)
    assert all(made[name] == spec[name] for name in made if name in spec and name not in own)


@pytest.mark.parametrize("bad", [{"": "v"}, {"a=b": "v"}, {"a\0": "v"}, {"a": "v\0"}])
@pytest.mark.parametrize("where", ["template", "spec"])
def test_what_no_process_can_have_is_refused_without_its_text(
    bad: dict[str, str], where: str
) -> None:
    spec = spec_with(bad, {}) if where == "template" else spec_with({}, bad)

    for make in (env.compose, env.user_environment):
        with pytest.raises(InvalidArgument, match=r"variable's (name|value)") as seen:
            make(spec)
        assert "a=b" not in seen.value.message


def test_the_identity_is_what_a_supervisor_reads() -> None:
    spec = replace(SPEC, command=("sleep", "9"), log_level="debug", sandbox_token=Secret(CANARY))

    assert env.identity(spec) == {
        "OPENSHELL_SANDBOX_ID": "id-1",
        "OPENSHELL_SANDBOX": "demo",
        "OPENSHELL_LOG_LEVEL": "debug",
        "OPENSHELL_MAIN_PROCESS_SPEC": '{"version":1,"command":["sleep","9"],"tty":false}',
    }
    assert "OPENSHELL_LOG_LEVEL" not in env.identity(SPEC)


def test_an_environment_that_nothing_was_asked_of_holds_nothing() -> None:
    assert env.compose(SPEC) == {}
    assert env.user_environment(SPEC) == "{}"


@pytest.mark.parametrize("tty", [False, True])
def test_no_command_means_a_login_shell_with_a_terminal(tty: bool) -> None:
    made = env.main_process_spec(replace(SPEC, tty=tty))

    assert json.loads(made) == {"version": 1, "command": ["/bin/bash", "-l"], "tty": True}


@given(st.lists(VALUES, min_size=1).map(tuple).filter(lambda words: words[0]), st.booleans())
def test_the_command_and_the_terminal_are_passed_on_exactly(
    command: tuple[str, ...], tty: bool
) -> None:
    made = env.main_process_spec(replace(SPEC, command=command, tty=tty))

    assert json.loads(made) == {"version": 1, "command": list(command), "tty": tty}
    assert made.isascii()
    assert made.isprintable()


@pytest.mark.parametrize("command", [(), ("a",)])
def test_waiting_for_the_client_is_passed_on_where_it_is_wished(command: tuple[str, ...]) -> None:
    spec = replace(SPEC, command=command, await_main_process_attachment=True)

    assert json.loads(env.main_process_spec(spec))["await_main_process_attachment"] is True
    waits_not = env.main_process_spec(replace(spec, await_main_process_attachment=False))
    assert "await_main_process_attachment" not in json.loads(waits_not)


def test_a_command_without_a_program_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="first word"):
        env.main_process_spec(replace(SPEC, command=("", "x")))


def test_a_real_process_gets_the_environment_as_composed() -> None:
    hostile = "a b\n\"'$(id)`é\N{GRINNING FACE}"
    spec = replace(spec_with({"T": hostile}, {"S": hostile}), command=("sh", "-c", hostile))
    wanted = env.compose(spec, env.identity(spec))
    code = "import json, os; print(json.dumps(dict(os.environ)))"

    done = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-c", code],
        env={**wanted, "PATH": os.defpath},
        capture_output=True,
        check=True,
        timeout=30,
    )

    seen = json.loads(done.stdout)
    assert {name: seen[name] for name in wanted} == wanted
    assert json.loads(seen[env.MAIN_PROCESS_SPEC])["command"] == ["sh", "-c", hostile]


def test_no_secret_of_the_spec_is_in_an_environment() -> None:
    spec = replace(
        SPEC, sandbox_token=Secret(CANARY), launch_authentication=Secret(f'{{"x":"{CANARY}"}}')
    )

    made = env.compose(spec, env.identity(spec))

    assert CANARY not in json.dumps(made) + env.user_environment(spec)
