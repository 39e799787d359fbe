"""Bad values and unknown keys: the key is named and where it stands, the value never."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AnyUrl,
    BaseModel,
    Field,
    ImportString,
    IPvAnyAddress,
    SecretStr,
    field_validator,
    model_validator,
)

from openshell_drivers import (
    ConfigError,
    Credential,
    CredentialInfo,
    CredentialRef,
    CredentialsDriver,
    DriverConfig,
    Secret,
)
from openshell_drivers.settings import Sources, load

CANARY: Final = "canary-88b1e4"


class Plain(CredentialsDriver):
    name = "plain"

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        raise NotImplementedError

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        return []


def driver_of(model: type[DriverConfig]) -> type[CredentialsDriver[Any]]:
    class Configured(Plain):
        config_model = model

    return Configured


def write(folder: Path, document: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(document))
    return path


def problem(driver: type[CredentialsDriver[Any]], **places: Any) -> str:
    """Load what cannot be loaded; no word of the value may be in the error or hang on it."""
    with pytest.raises(ConfigError) as caught:
        load(driver, Sources(**{"environment": {}, **places}))
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    assert "canary" not in str(error)
    return str(error)


# The server's settings

BAD: Final[Mapping[str, Sequence[Any]]] = {
    "socket": ["a\0b", f"{CANARY}\n", 7, [CANARY], {"path": CANARY}, True],
    "log_level": [CANARY, "trace", "10", 10, [CANARY], {"level": CANARY}],
    "log_format": [CANARY, "xml", 1, [CANARY]],
    "socket_group": [CANARY, "-1", "99999999999", -1, True, 1.5, [CANARY], {"group": CANARY}],
    "allowed_uids": [
        *(CANARY, "1,x", "1,,2", "-1", "1.5", "4294967295", "9" * 5000, " ", "١"),
        *([], [CANARY], [True], [-1], [[1]], {"uid": CANARY}, True, 1.5),
    ],
    "start_timeout": [CANARY, "0", "-1", "nan", "inf", "1e9", "1s", "9" * 5000, 0, True, [CANARY]],
    "call_timeout": [CANARY, "0", "nan", int("9" * 400), False, {"s": CANARY}],
    "drain_timeout": [CANARY, "-0.0", "86401", 86_401, -5, [1]],
    "require_handshake": [CANARY, "maybe", "on", 1, 0, [True], {"is": CANARY}],
    "reflection": [CANARY, "2", 2, [CANARY]],
}
EVERY_BAD: Final = [(name, value) for name, values in BAD.items() for value in values]
BAD_TEXTS: Final = [(name, value) for name, value in EVERY_BAD if isinstance(value, str)]


def short(value: object) -> str:
    return repr(value)[:20]


@pytest.mark.parametrize(("name", "value"), BAD_TEXTS, ids=short)
def test_a_bad_flag_is_named(name: str, value: str) -> None:
    said = problem(Plain, flags={name: value})

    assert said.startswith(f"--{name.replace('_', '-')}: ")
    assert "\n" not in said


@pytest.mark.parametrize(("name", "value"), BAD_TEXTS, ids=short)
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    variable = f"OPENSHELL_DRIVER_{name.upper()}"

    assert problem(Plain, environment={variable: value}).startswith(f"{variable}: ")


@pytest.mark.parametrize(("name", "value"), EVERY_BAD, ids=short)
def test_a_bad_value_in_the_server_section_is_named(
    name: str, value: object, tmp_path: Path
) -> None:
    said = problem(Plain, default_config=write(tmp_path, {"server": {name: value}}))

    assert said.startswith(f"server.{name}: ")


def test_a_gateways_variable_is_named_when_its_value_is_bad() -> None:
    variable = "OPENSHELL_CREDENTIALS_DRIVER_SOCKET"

    assert problem(Plain, environment={variable: f"\t{CANARY}"}).startswith(f"{variable}: ")


def test_a_bad_value_that_a_stronger_place_overrides_does_not_matter() -> None:
    sources = Sources(
        flags={"log_level": "debug"}, environment={"OPENSHELL_DRIVER_LOG_LEVEL": CANARY}
    )

    assert load(Plain, sources).server.log_level == "debug"


@pytest.mark.parametrize("section", [CANARY, [CANARY], 1, None, True])
def test_the_server_section_must_be_a_mapping(section: object, tmp_path: Path) -> None:
    said = problem(Plain, default_config=write(tmp_path, {"server": section}))

    assert said == "server: must be a mapping"


# Unknown keys


class Inner(DriverConfig):
    client_id: str = ""
    depth: int = 0


class Outer(DriverConfig):
    tokens: dict[str, str] | None = None
    realms: dict[str, Inner] | None = None
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"tokns": CANARY}, "tokns: unknown key; did you mean 'tokens'?"),
        ({"zzz": {"a": CANARY}}, "zzz: unknown key"),
        (
            {"inner": {"clientid": CANARY}},
            "inner.clientid: unknown key; did you mean 'client_id'?",
        ),
        (
            {"realms": {"one": {"dept": 1}}},
            "realms.one.dept: unknown key; did you mean 'depth'?",
        ),
        (
            {"server": {"log_levle": CANARY}},
            "server: unknown key 'log_levle'; did you mean 'log_level'?",
        ),
        ({"server": {"zzz": CANARY}}, "server: unknown key 'zzz'"),
    ],
)
def test_an_unknown_key_in_a_file_is_named_with_the_likely_one(
    document: object, said: str, tmp_path: Path
) -> None:
    assert problem(driver_of(Outer), default_config=write(tmp_path, document)) == said


def test_a_key_of_the_server_section_may_be_no_text_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"server: {{1: {CANARY}}}")

    assert problem(Plain, default_config=path) == "server: unknown key 1"


def test_an_unknown_key_on_the_command_line_is_named_with_the_likely_one() -> None:
    said = problem(driver_of(Outer), config_flags={"tokns": CANARY})

    assert said == "--set: unknown key 'tokns'; did you mean 'tokens'?"


def test_a_driver_without_keys_refuses_all_keys(tmp_path: Path) -> None:
    by_file = problem(Plain, default_config=write(tmp_path, {"sever": CANARY}))
    by_flag = problem(Plain, config_flags={"key": CANARY})

    assert "(this driver has no keys): unknown key 'sever'; did you mean 'server'?" in by_file
    assert "--set (this driver has no keys): unknown key 'key'" in by_flag


def test_a_driver_may_have_a_key_named_server(tmp_path: Path) -> None:
    class Remote(DriverConfig):
        server: str

    sources = Sources(environment={}, default_config=write(tmp_path, {"server": "there"}))

    assert load(driver_of(Remote), sources).config == Remote(server="there")


def test_every_mistake_is_told_at_once_in_a_line_of_its_own(tmp_path: Path) -> None:
    class Two(DriverConfig):
        first: int
        second: int
        third: int

    said = problem(driver_of(Two), default_config=write(tmp_path, {"frst": 1, "second": CANARY}))

    assert sorted(line.partition(":")[0] for line in said.split("\n")) == [
        *("first", "frst", "second", "third")
    ]


def test_control_characters_of_a_key_do_not_reach_the_terminal(tmp_path: Path) -> None:
    said = problem(driver_of(Outer), default_config=write(tmp_path, {"\x1b[31m\n": 1}))

    assert said.isprintable()


# Values of the driver's keys


class Colour(Enum):
    RED = "red"


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Everything(DriverConfig):
    number: int = 0
    real: float = 0.0
    small: Annotated[int, Field(le=3)] = 0
    tiny: Annotated[str, Field(max_length=3)] = ""
    shaped: Annotated[str, Field(pattern="^[a-z]*$")] = ""
    truth: bool = False
    when: datetime | None = None
    span: timedelta | None = None
    url: AnyUrl | None = None
    address: IPvAnyAddress | None = None
    number_or_list: int | list[int] = 0
    colour: Colour | None = None
    one_of: Literal["x", "y"] = "x"
    unique: uuid.UUID | None = None
    zone: ZoneInfo | None = None
    code: ImportString[Any] = None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    secret: Secret | None = None
    secrets: dict[str, Secret] | None = None
    nested: dict[str, Inner] | None = None
    pairs: list[tuple[int, int]] | None = None
    lines: Annotated[list[str], Field(max_length=1)] | None = None


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("number", CANARY, "number"),
        ("number", [CANARY], "number"),
        ("real", CANARY, "real"),
        ("small", 123_456, "small"),
        ("tiny", CANARY, "tiny"),
        ("shaped", CANARY, "shaped"),
        ("truth", CANARY, "truth"),
        ("when", CANARY, "when"),
        ("span", CANARY, "span"),
        ("url", CANARY, "url"),
        ("address", CANARY, "address"),
        ("number_or_list", CANARY, "number_or_list.int"),
        ("colour", CANARY, "colour"),
        ("one_of", CANARY, "one_of"),
        ("unique", CANARY, "unique"),
        ("zone", CANARY, "zone"),
        ("code", CANARY, "code"),
        ("code", f"os.{CANARY}", "code"),
        ("pet", {"kind": CANARY}, "pet"),
        ("pet", CANARY, "pet"),
        ("secret", [CANARY], "secret"),
        ("secret", 12345678, "secret"),
        ("secrets", {"name": [CANARY]}, "secrets.name"),
        ("secrets", {"name": {"token": CANARY}}, "secrets.name"),
        ("secrets", CANARY, "secrets"),
        ("nested", {"one": {"depth": CANARY}}, "nested.one.depth"),
        ("nested", {"one": CANARY}, "nested.one"),
        ("pairs", [[1, CANARY]], "pairs.0.1"),
        ("lines", [CANARY, CANARY], "lines"),
    ],
    ids=short,
)
def test_a_bad_value_of_a_key_is_named_by_path_and_rule(
    key: str, value: object, place: str, tmp_path: Path
) -> None:
    said = problem(driver_of(Everything), default_config=write(tmp_path, {key: value}))

    first, _, rule = said.split("\n")[0].partition(": ")
    assert first == place
    assert rule
    assert "123" not in said


@pytest.mark.parametrize(
    ("places", "origin"),
    [
        (
            {"environment": {"OPENSHELL_DRIVER_CONFIG_NUMBER": CANARY}},
            "OPENSHELL_DRIVER_CONFIG_NUMBER",
        ),
        ({"config_flags": {"number": CANARY}}, "the command line"),
    ],
)
def test_a_bad_value_that_is_not_from_the_file_says_where_it_is_from(
    places: Mapping[str, Any], origin: str
) -> None:
    said = problem(driver_of(Everything), **places)

    assert said.startswith("number: ")
    assert said.endswith(f" (from {origin})")


@pytest.mark.parametrize("raw", [f'["{CANARY}', f'{{"a": "{CANARY}"', f"[{CANARY}]", "[" * 100_000])
def test_text_that_only_looks_like_json_is_taken_as_text(raw: str) -> None:
    said = problem(driver_of(Everything), environment={"OPENSHELL_DRIVER_CONFIG_NESTED": raw})

    assert said.startswith("nested: ")


def test_a_key_that_is_text_keeps_text_that_looks_like_json() -> None:
    class Texts(DriverConfig):
        plain: str
        secret: Secret
        maybe: Secret | None
        listed: tuple[str, ...]

    account = '{"type": "service_account"}'
    prefix = "OPENSHELL_DRIVER_CONFIG_"
    environment = {
        f"{prefix}{key}": account if key != "LISTED" else '["[1]"]'
        for key in ("PLAIN", "SECRET", "MAYBE", "LISTED")
    }

    found = load(driver_of(Texts), Sources(environment=environment)).config

    text = Secret(account)
    assert found == Texts(plain=account, secret=text, maybe=text, listed=("[1]",))


class Quoting(DriverConfig):
    """Does what authors do: quotes what it does not like."""

    plain: str = ""
    escaped: str = ""
    asserted: str = ""
    looked_up: str = ""
    tokens: dict[str, Secret] | None = None
    whole: dict[str, Any] | None = None

    @field_validator("plain")
    @classmethod
    def _plain(cls, value: str) -> str:
        if value:
            raise ValueError(f"{value} is no good, {value.strip()} neither")
        return value

    @field_validator("escaped")
    @classmethod
    def _escaped(cls, value: str) -> str:
        raise ValueError(f"cannot use {value!r}")

    @field_validator("asserted")
    @classmethod
    def _asserted(cls, value: str) -> str:
        if value:
            raise AssertionError(f"{value} == ''")
        return value

    @field_validator("looked_up")
    @classmethod
    def _looked_up(cls, value: str) -> str:
        return {"": ""}[value]

    @field_validator("tokens")
    @classmethod
    def _tokens(cls, value: dict[str, Secret] | None) -> dict[str, Secret] | None:
        if value:
            raise ValueError(", ".join(token.reveal() for token in value.values()))
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.whole:
            raise ValueError(f"{self.whole} does not suit")
        return self


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("plain", f" {CANARY} ", "plain:  ***  is no good, *** neither"),
        ("escaped", f"{CANARY}\n'\"\\", "escaped: cannot use '***'"),
        ("asserted", CANARY, "asserted: Assertion failed, *** == ''"),
        ("tokens", {"a": CANARY, "b": f"{CANARY}2"}, "tokens: ***, ***"),
        ("whole", {"a": [CANARY]}, "configuration: {'a': ['***']} does not suit"),
    ],
)
def test_what_a_validator_quotes_of_the_value_is_taken_out(
    key: str, value: object, said: str, tmp_path: Path
) -> None:
    assert problem(driver_of(Quoting), default_config=write(tmp_path, {key: value})) == said


def test_a_validator_that_fails_otherwise_is_described_without_its_text(tmp_path: Path) -> None:
    said = problem(driver_of(Quoting), default_config=write(tmp_path, {"looked_up": CANARY}))

    assert "KeyError at test_settings_values.py:" in said


def test_a_circle_in_yaml_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"whole: &a {{b: *a, c: {CANARY}}}")

    assert "does not suit" in problem(driver_of(Quoting), default_config=path)


# Secrets on the command line


class Holder(DriverConfig):
    token: Secret


class Wrapped(DriverConfig):
    plain: Secret | None = None
    always: Secret = Secret("")
    mapped: dict[str, Secret] | None = None
    listed: list[Secret] | None = None
    deep: dict[str, list[Secret | int]] | None = None
    constrained: Annotated[Secret, Field(description="x")] = Secret("")
    inside: Holder | None = None
    many: dict[str, Holder] | None = None
    foreign: SecretStr | None = None
    region: str = ""
    secrets_dir: Path = Path("/")
    SecretsMode: Literal["Secret"] | None = None


@pytest.mark.parametrize(
    "key",
    [
        *("plain", "always", "mapped", "listed", "deep"),
        *("constrained", "inside", "many", "foreign"),
    ],
)
@pytest.mark.parametrize("value", [CANARY, f'{{"token": "{CANARY}"}}', f'["{CANARY}"]'])
def test_a_secret_cannot_come_by_flag_however_deep_it_lies(key: str, value: str) -> None:
    said = problem(driver_of(Wrapped), config_flags={key: value})

    assert said == f"{key}: a secret cannot be a flag, every process could read it"


@pytest.mark.parametrize(
    ("key", "value"), [("region", "here"), ("secrets_dir", "/x"), ("SecretsMode", "Secret")]
)
def test_a_key_is_no_secret_because_of_its_name(key: str, value: str) -> None:
    sources = Sources(environment={}, config_flags={key: value})

    assert str(getattr(load(driver_of(Wrapped), sources).config, key)) == value


def test_a_secret_may_come_by_environment() -> None:
    environment = {
        "OPENSHELL_DRIVER_CONFIG_PLAIN": CANARY,
        "OPENSHELL_DRIVER_CONFIG_MAPPED": json.dumps({"a": CANARY}),
    }

    config = load(driver_of(Wrapped), Sources(environment=environment)).config

    assert config.plain.reveal() == config.mapped["a"].reveal() == CANARY
    assert CANARY not in repr(config)


# Any text, anywhere

HOSTILE: Final = st.text().map(lambda text: f"{CANARY}{text}")
NESTED: Final = st.recursive(
    HOSTILE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)


@given(
    st.sampled_from(sorted(Everything.model_fields)),
    st.dictionaries(st.sampled_from(["kind", "depth", "a"]), NESTED) | NESTED,
)
def test_no_text_of_a_file_is_ever_in_an_error(key: str, value: Any) -> None:
    check_no_leak(driver_of(Everything), {key: value}, {})


@given(st.sampled_from(sorted(BAD)), NESTED)
def test_no_text_of_the_server_section_is_ever_in_an_error(name: str, value: Any) -> None:
    check_no_leak(Plain, {"server": {name: value}}, {})


@given(st.sampled_from(sorted(Everything.model_fields)), HOSTILE | NESTED.map(json.dumps))
def test_no_text_of_a_variable_is_ever_in_an_error(key: str, value: str) -> None:
    variable = f"OPENSHELL_DRIVER_CONFIG_{key.upper()}"
    check_no_leak(driver_of(Everything), {}, {variable: value})


def check_no_leak(
    driver: type[CredentialsDriver[Any]], document: object, environment: Mapping[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sources = Sources(environment=environment, default_config=write(Path(folder), document))
        try:
            load(driver, sources)
        except ConfigError as error:
            assert "canary" not in str(error)  # noqa: PT017  # most of these load, some do not
