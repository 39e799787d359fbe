"""The console script, in processes of its own, with the driver of the README."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.fakes.commands import Commands, Serving
from tests.fakes.packages import DRIVER, Site
from tests.fakes.process import eventually

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-e1f0a2"
STATIC = "my_driver:StaticTokens"
SERVICE = "openshell.credentials.v1.CredentialsDriver"


def readme_driver() -> str:
    found = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert found is not None
    return found[1]


@pytest.fixture
def cli(short_dir: Path) -> Commands:
    """The console script in a folder with the README's driver and its tokens."""
    (short_dir / "my_driver.py").write_text(readme_driver())
    (short_dir / "tokens.json").write_text(json.dumps({"tokens": {"github": CANARY, "b": "x"}}))
    return Commands(short_dir)


@pytest.fixture
def static(cli: Commands, socket_path: Path) -> Iterator[Serving]:
    """The README's driver, serving, with as much in the log as there is."""
    arguments = ("--config", "tokens.json", "--socket", socket_path, "--log-level", "debug")
    with cli.serving(socket_path, "run", STATIC, *arguments) as serving:
        yield serving


# Without a driver


def test_without_a_command_the_usage_is_shown(cli: Commands) -> None:
    for arguments in ((), ("-h",), ("-help",), ("--help",), ("help",)):
        done = cli.run(*arguments)

        assert (done.status, done.err) == (0, "")
        assert done.out.startswith("usage: openshell-drivers COMMAND")


@pytest.mark.parametrize("flag", ["--version", "-version"])
def test_version_is_that_of_the_distribution(cli: Commands, flag: str) -> None:
    done = cli.run(flag)

    assert (done.status, done.out) == (0, f"{metadata.version('openshell-drivers')}\n")


@pytest.mark.parametrize("command", ["bogus", "--bogus", f"--token={CANARY}"])
def test_an_unknown_command_is_named_without_a_value(cli: Commands, command: str) -> None:
    done = cli.run(command)

    assert done.status == 2
    assert done.problem == f"there is no command {command.partition('=')[0]!r}"
    assert "usage: openshell-drivers COMMAND" in done.err
    assert CANARY not in done.err


@pytest.mark.parametrize("verb", ["list", "run", "check", "schema", "health", "call"])
@pytest.mark.parametrize("flag", ["-help", "--help"])
def test_every_command_has_help(cli: Commands, verb: str, flag: str) -> None:
    done = cli.run(verb, flag)

    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"usage: openshell-drivers {verb}")


def test_help_after_the_name_is_help(cli: Commands) -> None:
    done = cli.run("run", STATIC, "--help")

    assert (done.status, done.err) == (0, "")
    assert "--bind-socket" in done.out


@pytest.mark.parametrize("verb", ["run", "check", "schema"])
def test_a_command_about_a_driver_wants_its_name_first(cli: Commands, verb: str) -> None:
    assert cli.run(verb).problem.startswith("which driver?")
    assert cli.run(verb, "--config", "x").problem.startswith("which driver?")


# list


def test_list_shows_what_is_installed_and_what_is_broken(cli: Commands) -> None:
    site = Site(cli.folder)
    site.install(
        "acme-one", {"acme_one": DRIVER.format(name="one")}, drivers={"one": "acme_one:Empty"}
    )
    site.install(
        "acme-broken", {"acme_broken": f"raise OSError('{CANARY}')"}, plugins={"bad": "acme_broken"}
    )
    env = {"PYTHONPATH": os.pathsep.join([str(cli.folder), os.environ.get("PYTHONPATH", "")])}

    text = cli.run("list", env=env)
    rows = cli.run("list", "--json", env=env)

    assert (text.status, text.err) == (rows.status, rows.err) == (0, "")
    lines = [line.split(None, 2) for line in text.out.splitlines()]
    assert ["one", "acme-one", "acme_one:Empty"] in lines
    bad = next(line for line in lines if line[0] == "bad")
    assert bad[1] == "acme-broken"
    assert bad[2].startswith("broken plugin: OSError at acme_broken.py:1")
    found = {row["name"]: row for row in json.loads(rows.out)}
    assert found["one"] == {
        "name": "one",
        "target": "acme_one:Empty",
        "source": "acme-one",
        "problem": "",
    }
    assert found["bad"]["problem"].startswith("OSError at acme_broken.py:1")
    assert CANARY not in text.out + rows.out


def test_an_installed_driver_is_run_by_its_name(cli: Commands, socket_path: Path) -> None:
    Site(cli.folder).install(
        "acme-one", {"acme_one": DRIVER.format(name="one")}, drivers={"one": "acme_one:Empty"}
    )
    env = {"PYTHONPATH": os.pathsep.join([str(cli.folder), os.environ.get("PYTHONPATH", "")])}

    with cli.serving(socket_path, "run", "one", "--socket", socket_path, env=env):
        done = cli.run("call", "--socket", socket_path, "--wait", "5", "resolve", "x")

    assert done.status == 1
    assert done.problem == "NOT_FOUND: nothing here"


# check and schema


def test_check_says_what_would_be_served_and_serves_nothing(
    cli: Commands, socket_path: Path
) -> None:
    done = cli.run("check", STATIC, "--config", "tokens.json", "--socket", socket_path)

    assert (done.status, done.err) == (0, "")
    assert done.out.split("\n") == [
        "driver    static 0.0.0",
        f"service   {SERVICE}",
        f"socket    {socket_path}",
        "settings  good",
        "",
    ]
    assert not socket_path.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((STATIC,), 2, "tokens: is missing"),
        ((STATIC, "--config", "none.json"), 2, "cannot read 'none.json': No such file"),
        ((STATIC, "--config", "my_driver.py"), 2, "'my_driver.py' must end in .toml, .json"),
        ((STATIC, "--config", "broken.yaml"), 2, "'broken.yaml': is not valid YAML (line 1)"),
        ((STATIC, "--set", f"tokens={CANARY}"), 2, "tokens: a secret cannot be a flag"),
        ((STATIC, "--set", f"tokns={CANARY}"), 2, "--set: unknown key 'tokns'; did you mean"),
        ((STATIC, "--set", CANARY), 2, "--set: wants KEY=VALUE"),
        ((STATIC, "--log-level", CANARY), 2, "--log-level: must be one of debug, info,"),
        ((STATIC, "--socket-group", CANARY), 2, "--socket-group: there is no such group"),
        ((STATIC, "--reflection=" + CANARY), 2, "argument --reflection: takes no value"),
        ((STATIC, f"--tokens={CANARY}"), 2, "unknown flag --tokens"),
        ((STATIC, CANARY), 2, "unexpected argument"),
        ((STATIC, "--config", "wrong.json"), 2, "tokens.a: must be text"),
        ((STATIC, "--config", "tokens.json", "--socket", "x" * 200), 1, "socket path 'xxx"),
        (("my_drivers:StaticTokens",), 2, "driver 'my_drivers:StaticTokens' cannot be loaded"),
        (("my_driver:Static",), 2, "driver 'my_driver:Static' cannot be loaded: my_driver has no"),
        (("my_driver:NotFound",), 2, "driver 'my_driver:NotFound' is not a Driver class"),
        (("odd:Nameless",), 2, "Nameless has no name"),
        (("odd:Quoting",), 2, "driver 'quoting' cannot be built: ValueError at odd.py:"),
        (("no-such",), 2, "no installed package offers a driver 'no-such'"),
    ],
    ids=str,
)
def test_what_check_refuses_is_one_line_without_a_value(
    cli: Commands, arguments: tuple[str, ...], status: int, said: str
) -> None:
    (cli.folder / "broken.yaml").write_text(f"tokens: [{CANARY}")
    (cli.folder / "wrong.json").write_text(json.dumps({"tokens": {"a": [CANARY]}}))
    (cli.folder / "odd.py").write_text(ODD)

    done = cli.run("check", *arguments)

    assert done.status == status
    assert done.problem.startswith(said)
    assert CANARY not in done.err


ODD = f"""\
from my_driver import CredentialsDriver


class Nameless(CredentialsDriver):
    async def resolve_credential(self, ref): ...
    async def list_credentials(self): ...


class Quoting(Nameless):
    name = "quoting"

    def __init__(self):
        super().__init__()
        int("{CANARY}")
"""


def test_a_class_that_cannot_be_served_is_not_run(cli: Commands) -> None:
    (cli.folder / "odd.py").write_text(ODD)

    done = cli.run("run", "odd:Nameless", "--socket", "x.sock")

    assert (done.status, done.problem) == (2, "Nameless has no name")


def test_what_nobody_expected_is_told_by_type_and_place(cli: Commands) -> None:
    code = (
        "from my_driver import *\n"
        "class Config(DriverConfig):\n"
        "    @classmethod\n"
        "    def model_json_schema(cls, *a, **k):\n"
        f"        raise RuntimeError('{CANARY}')\n"
        "class Odd(StaticTokens):\n    pass\n"
        "Odd.config_model = Config\n"
    )
    (cli.folder / "odd.py").write_text(code)

    done = cli.run("schema", "odd:Odd")

    assert done.status == 1
    assert done.problem.startswith("RuntimeError at odd.py:5 in model_json_schema < cli.py:")
    assert CANARY not in done.err


def test_schema_marks_secrets_and_shows_no_value(cli: Commands) -> None:
    done = cli.run("schema", STATIC)

    assert (done.status, done.err) == (0, "")
    schema = json.loads(done.out)
    assert schema["required"] == ["tokens"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["tokens"]["additionalProperties"] == {
        "type": "string",
        "format": "password",
        "writeOnly": True,
    }


def test_a_driver_without_keys_has_an_empty_schema(cli: Commands) -> None:
    Site(cli.folder).module("bare", DRIVER.format(name="bare"))

    assert json.loads(cli.run("schema", "bare:Empty").out) == {"type": "object", "properties": {}}


# run, health, call


def test_a_driver_is_run_asked_called_and_stopped(
    cli: Commands, static: Serving, socket_path: Path
) -> None:
    at = ("--socket", socket_path, "--wait", "10")

    assert cli.run("health", *at).out == "serving\n"
    assert cli.run("health", *at, "--service", SERVICE).out == "serving\n"
    assert json.loads(cli.run("call", *at, "list").out) == [
        {"name": "b", "scopes": []},
        {"name": "github", "scopes": []},
    ]
    masked = cli.run("call", *at, "resolve", "github")
    shown = cli.run("call", "-bind-socket", socket_path, "resolve", "github", "--reveal")
    assert json.loads(masked.out) == {
        "token": "***",
        "expires_at": None,
        "token_type": "Bearer",
    }
    assert json.loads(shown.out)["token"] == CANARY
    assert (masked.err, shown.err) == ("", "")

    assert static.terminate() == 0
    assert not socket_path.exists()
    assert json.loads(static.log.splitlines()[-1])["msg"] == "stopped"


def test_errors_of_a_call_are_a_status_and_one_line(
    cli: Commands, static: Serving, socket_path: Path
) -> None:
    at = ("--socket", socket_path)

    unknown = cli.run("call", *at, "resolve", "none")
    unnamed = cli.run("call", *at, "resolve")
    other_service = cli.run("call", *at, "capabilities")
    not_served = cli.run("health", *at, "--service", "no.such.Service")

    assert unknown.problem == "NOT_FOUND: there is no credential 'none'"
    assert unnamed.problem.startswith("INVALID_ARGUMENT: ")
    assert other_service.problem.startswith("UNIMPLEMENTED: ")
    assert not_served.problem.startswith("NOT_FOUND: ")
    assert {unknown.status, unnamed.status, other_service.status, not_served.status} == {1}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("health", "--socket", "none.sock"), 1, "UNAVAILABLE: no driver at 'none.sock'"),
        (("call", "--socket", "none.sock", "list"), 1, "UNAVAILABLE: no driver at 'none.sock'"),
        (("call", "--socket", "none.sock", CANARY), 2, "METHOD: must be one of resolve, list,"),
        (("call", "--socket", "none.sock"), 2, "the following arguments are required: METHOD"),
        (("call", "list", "a", CANARY), 2, "unexpected argument"),
        (("health",), 2, "--socket is missing, and of OPENSHELL_DRIVER_SOCKET,"),
        (("health", "--socket", "x", "--wait", CANARY), 2, "--wait: must be a number of seconds"),
        (("health", "--socket", "x", "--wait", "nan"), 2, "--wait: must be a number of seconds"),
        (("health", f"--sock={CANARY}"), 2, "unknown flag --sock"),
        (("health", "--socket", "tokens.json"), 1, "[Errno 88] Socket operation on non-socket"),
    ],
    ids=str,
)
def test_what_cannot_be_dialled_is_one_line(
    cli: Commands, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = cli.run(*arguments)

    assert done.status == status
    assert done.problem.startswith(said)
    assert CANARY not in done.err


def test_a_client_finds_the_socket_in_the_environment(
    cli: Commands, static: Serving, socket_path: Path
) -> None:
    for variable in ("OPENSHELL_DRIVER_SOCKET", "OPENSHELL_CREDENTIALS_DRIVER_SOCKET"):
        assert cli.run("health", env={variable: str(socket_path)}).status == 0


def test_a_driver_may_be_configured_by_environment_alone(cli: Commands, socket_path: Path) -> None:
    env = {
        "OPENSHELL_CREDENTIALS_DRIVER_SOCKET": str(socket_path),
        "OPENSHELL_DRIVER_CONFIG_TOKENS": json.dumps({"env": CANARY}),
        "OPENSHELL_DRIVER_LOG_FORMAT": "text",
    }

    with cli.serving(socket_path, "run", STATIC, env=env) as serving:
        done = cli.run("call", "--socket", socket_path, "--wait", "10", "resolve", "env", "-reveal")
        assert serving.terminate() == 0

    assert json.loads(done.out)["token"] == CANARY
    assert CANARY not in serving.log


def test_a_driver_without_a_socket_is_not_run(cli: Commands) -> None:
    done = cli.run("run", STATIC, "--config", "tokens.json")

    assert (done.status, done.problem) == (2, "--socket is missing")


def test_a_driver_that_cannot_serve_says_why_in_its_log(cli: Commands) -> None:
    (cli.folder / "taken").write_text("kept")

    done = cli.run("run", STATIC, "--config", "tokens.json", "--socket", "taken")

    assert done.status == 1
    (line,) = done.err.splitlines()
    record = json.loads(line)
    assert record["msg"] == "cannot serve"
    taken = str(cli.folder / "taken")
    assert record["reason"] == f"{taken!r} exists and is not a socket; not touched"
    assert (cli.folder / "taken").read_text() == "kept"


def test_a_broken_configuration_on_sighup_is_refused_without_its_text(
    cli: Commands, static: Serving, socket_path: Path
) -> None:
    def refused() -> list[str]:
        records = [json.loads(line) for line in static.log.splitlines() if line.endswith("}")]
        return [r["reason"] for r in records if r["msg"] == "the old configuration stays"]

    def has_refused(times: int) -> bool:
        return len(refused()) == times

    broken = [f'{{"tokens": {{"a": "{CANARY}', f'{{"tokens": {{"a": ["{CANARY}"]}}}}', "{}"]
    for number, text in enumerate(broken, 1):
        (cli.folder / "tokens.json").write_text(text)
        static.process.send_signal(signal.SIGHUP)
        assert eventually(functools.partial(has_refused, number)), static.log
    done = cli.run("call", "--socket", socket_path, "resolve", "github", "--reveal")

    assert json.loads(done.out)["token"] == CANARY
    assert refused() == [
        "'tokens.json': is not valid JSON (line 1)",
        "tokens.a: must be text",
        "tokens: is missing in 'tokens.json'",
    ]
    assert CANARY not in static.log


# Logs and secrets


def test_json_logs_are_an_object_a_line(cli: Commands, static: Serving, socket_path: Path) -> None:
    cli.run("call", "--socket", socket_path, "resolve", "github")
    static.terminate()

    records = [json.loads(line) for line in static.log.splitlines()]
    assert all({"ts", "level", "logger", "msg"} <= set(record) for record in records)
    serving = next(record for record in records if record["msg"] == "serving")
    assert (serving["driver"], serving["socket"]) == ("static", str(socket_path))
    call = next(record for record in records if record.get("subject") == "github")
    assert (call["method"], call["code"]) == ("ResolveCredential", "OK")


def test_text_logs_are_for_people_and_the_level_holds(cli: Commands, socket_path: Path) -> None:
    arguments = ("--config", "tokens.json", "--socket", socket_path, "--log-format", "text")
    with cli.serving(socket_path, "run", STATIC, *arguments) as serving:
        cli.run("health", "--socket", socket_path, "--wait", "10")
        serving.terminate()
    heard = serving.log
    with cli.serving(socket_path, "run", STATIC, *arguments, "--log-level", "error") as silent:
        silent.terminate()

    first = heard.splitlines()[0]
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z info    serving driver=static ", first)
    assert "method=Check" not in heard
    assert silent.log == ""


def test_a_token_shows_neither_in_the_log_nor_in_what_the_kernel_shows(
    cli: Commands, static: Serving, socket_path: Path
) -> None:
    for name in ("github", "none"):
        cli.run("call", "--socket", socket_path, "--wait", "10", "resolve", name)
    shown = static.proc("cmdline") + static.proc("environ") + static.proc("comm")
    files = [path.name for path in cli.folder.rglob("*")]
    static.terminate()

    assert b"tokens.json" in shown
    assert CANARY.encode() not in shown
    assert '"level":"debug"' in static.log
    assert CANARY not in static.log
    assert not any(CANARY in name for name in files)


# The console script of a single driver

OWN = """\
import sys
from openshell_drivers.cli import driver_main
from my_driver import StaticTokens
from openshell_drivers import CredentialsDriver, DriverConfig, Secret


class Config(DriverConfig):
    tokens: dict[str, Secret]
    home_dir: str = "nowhere"


class Own(CredentialsDriver[Config]):
    \"\"\"Gives out what is in a file.

    100% of it.
    \"\"\"

    name = "own"
    resolve_credential = StaticTokens.resolve_credential
    list_credentials = StaticTokens.list_credentials


driver_main(
    Own,
    socket="run/driver.sock",
    config="tokens.json",
    config_flags={"home-dir": "home_dir", "tokens": "tokens"},
)
"""


@pytest.fixture
def own(cli: Commands) -> Commands:
    (cli.folder / "own").write_text(OWN)
    return Commands(cli.folder, (sys.executable, cli.folder / "own"))


def test_a_script_of_a_driver_serves_with_its_defaults(
    own: Commands, cli: Commands, socket_path: Path
) -> None:
    with own.serving(socket_path) as serving:
        done = cli.run("call", "--socket", socket_path, "--wait", "10", "resolve", "b", "--reveal")
        assert serving.terminate() == 0

    assert json.loads(done.out)["token"] == "x"


def test_a_flag_beats_the_defaults_of_a_script(own: Commands) -> None:
    other = own.folder / "other" / "x.sock"

    with own.serving(other, "-bind-socket", other, "-home-dir=/there") as serving:
        assert serving.terminate() == 0

    assert not (own.folder / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tokens", CANARY), "tokens: a secret cannot be a flag"),
        (("--set", "home-dir=x"), "--set: unknown key 'home-dir'; did you mean 'home_dir'?"),
        (("--config", "none.toml"), "cannot read 'none.toml'"),
        (("--home", CANARY), "unknown flag --home"),
        (("--home-dir",), "argument --home-dir: expected one argument"),
        ((CANARY,), "unexpected argument"),
    ],
    ids=str,
)
def test_a_script_of_a_driver_refuses_like_run(
    own: Commands, arguments: tuple[str, ...], said: str
) -> None:
    done = own.run(*arguments)

    assert done.status == 2
    assert done.problem.startswith(said)
    assert done.err.startswith("own: ")
    assert CANARY not in done.err


def test_help_of_a_script_is_the_class_s_docstring_and_its_flags(own: Commands) -> None:
    done = own.run("-help")

    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("usage: own ")
    assert "Gives out what is in a file.\n\n100% of it.\n" in done.out
    assert "--home-dir VALUE" in done.out
