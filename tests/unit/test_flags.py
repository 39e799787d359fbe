"""Flags: one dash or two, no abbreviations, and errors that name the flag and never the value."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from openshell_drivers import ConfigError
from openshell_drivers._flags import SERVER_FLAGS, Parser, add_server_flags, given
from openshell_drivers.settings import ServerSettings

CANARY = "canary-2ab771"


@pytest.fixture
def parser() -> Parser:
    made = Parser("acme-driver", "Does things.")
    add_server_flags(made)
    made.add_argument("--set", action="append", default=[])
    return made


def problem(parser: Parser, argv: Sequence[str]) -> str:
    with pytest.raises(ConfigError) as caught:
        parser.parse(argv)
    assert "canary" not in str(caught.value)
    first, _, hint = str(caught.value).partition("\n")
    assert hint == "try acme-driver --help"
    return first


@pytest.mark.parametrize("flag", ["--socket", "-socket", "--bind-socket", "-bind-socket"])
@pytest.mark.parametrize("joined", [True, False])
def test_a_long_flag_may_have_one_dash(parser: Parser, flag: str, *, joined: bool) -> None:
    argv = [f"{flag}=/run/a=b"] if joined else [flag, "/run/a=b"]

    assert parser.parse(argv).socket == "/run/a=b"


def test_every_server_setting_has_a_flag_of_its_name(parser: Parser) -> None:
    settings = set(ServerSettings.__dataclass_fields__)

    assert set(SERVER_FLAGS) == settings | {"config"}
    for name in settings:
        flag = f"-{name.replace('_', '-')}"
        switch = name in {"require_handshake", "reflection"}
        namespace = parser.parse([flag] if switch else [flag, "x"])
        assert given(namespace, SERVER_FLAGS) == {name: "true" if switch else "x"}


def test_flags_that_are_not_there_are_not_given(parser: Parser) -> None:
    assert given(parser.parse([]), SERVER_FLAGS) == {}
    assert given(parser.parse(["--socket="]), SERVER_FLAGS) == {"socket": ""}


def test_the_last_of_two_equal_flags_counts(parser: Parser) -> None:
    assert parser.parse(["--socket", "a", "-bind-socket=b"]).socket == "b"


def test_values_may_look_like_anything_but_flags(parser: Parser) -> None:
    argv = ["--set", "a=--socket", "--set=-socket", "--log-level", "socket", "--config", "- x"]

    namespace = parser.parse(argv)

    assert namespace.set == ["a=--socket", "-socket"]
    assert (namespace.log_level, namespace.config, namespace.socket) == ("socket", "- x", None)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--sock", CANARY], "unknown flag --sock"),
        (["-sock", CANARY], "unknown flag -sock"),
        ([f"--sock={CANARY}"], "unknown flag --sock"),
        (["--log", CANARY], "unknown flag --log"),
        (["--token", CANARY, "--socket", "x"], "unknown flag --token"),
        ([f"-token={CANARY}"], "unknown flag -token"),
        (["---socket", CANARY], "unknown flag ---socket"),
        ([CANARY], "unexpected argument"),
        (["--socket", "x", CANARY], "unexpected argument"),
        (["--socket"], "argument --socket/--bind-socket: expected one argument"),
        (
            ["--socket", "--config", CANARY],
            "argument --socket/--bind-socket: expected one argument",
        ),
        (["--socket", f"-{CANARY}"], "argument --socket/--bind-socket: expected one argument"),
        ([f"--reflection={CANARY}"], "argument --reflection: takes no value"),
        ([f"-reflection={CANARY}"], "argument --reflection: takes no value"),
        ([f"-h{CANARY}"], "argument -h/--help: takes no value"),
        (["--", CANARY], "unknown flag --"),
    ],
    ids=str,
)
def test_a_wrong_flag_is_named_without_its_value(
    parser: Parser, argv: Sequence[str], said: str
) -> None:
    assert problem(parser, argv) == said


@pytest.mark.parametrize("flag", ["-h", "-help", "--help"])
def test_help_is_printed_and_all_is_well(
    parser: Parser, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser.parse([flag])

    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: acme-driver")
    assert all(f"--{name.replace('_', '-')}" in said for name in SERVER_FLAGS)
