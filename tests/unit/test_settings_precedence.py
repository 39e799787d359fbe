"""Flag > environment > file > default, for the server's settings and for a driver's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from openshell_drivers import (
    ConfigError,
    Credential,
    CredentialInfo,
    CredentialRef,
    CredentialsDriver,
    CredentialSlot,
    CredentialStore,
    DriverConfig,
    Secret,
    StoredCredential,
)
from openshell_drivers._dialled import dialled_socket
from openshell_drivers.settings import ServerSettings, Sources, load


class Plain(CredentialsDriver):
    name = "plain"

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        raise NotImplementedError

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        return []


class Store(CredentialStore):
    name = "store"

    async def store_credential(self, slot: CredentialSlot, value: Secret) -> None:
        raise NotImplementedError

    async def resolve_stored_credential(self, slot: CredentialSlot) -> StoredCredential:
        raise NotImplementedError

    async def delete_credential(self, slot: CredentialSlot) -> None:
        raise NotImplementedError


class Both(Plain, Store):
    name = "both"


class Keys(DriverConfig):
    region: str = "nowhere"
    retries: int = 3
    names: tuple[str, ...] = ()


class Configured(CredentialsDriver[Keys]):
    name = "configured"

    async def resolve_credential(self, ref: CredentialRef) -> Credential:
        raise NotImplementedError

    async def list_credentials(self) -> Sequence[CredentialInfo]:
        return []


#: For each setting: as a flag, as a variable, in the file; what each must become.
SAID: Final[Mapping[str, tuple[tuple[Any, Any], tuple[Any, Any], tuple[Any, Any]]]] = {
    "socket": (("/a", Path("/a")), ("/b", Path("/b")), ("/c", Path("/c"))),
    "log_level": (("debug", "debug"), ("WARNING", "warning"), ("Error", "error")),
    "log_format": (("text", "text"), ("JSON", "json"), ("text", "text")),
    "socket_group": (("11", "11"), ("12", "12"), (13, "13")),
    "allowed_uids": (
        ("1,2", frozenset({1, 2})),
        ("3", frozenset({3})),
        ([4, "5"], frozenset({4, 5})),
    ),
    "start_timeout": (("1", 1.0), ("2.5", 2.5), (3, 3.0)),
    "call_timeout": (("1", 1.0), ("2.5", 2.5), ("3", 3.0)),
    "drain_timeout": (("1e1", 10.0), ("2.5", 2.5), (0.5, 0.5)),
    "require_handshake": (("true", True), ("no", False), (True, True)),
    "reflection": (("true", True), ("0", False), ("yes", True)),
}


def write(folder: Path, document: Mapping[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(document))
    return path


def test_every_server_setting_is_in_this_matrix() -> None:
    assert set(SAID) == {field.name for field in fields(ServerSettings)}


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("places", list(product([True, False], repeat=3)), ids=str)
def test_a_server_setting_is_taken_from_the_strongest_place(
    name: str, places: tuple[bool, bool, bool], tmp_path: Path
) -> None:
    flag, variable, in_file = SAID[name]
    by_flag, by_variable, by_file = places
    sources = Sources(
        flags={name: flag[0]} if by_flag else {},
        environment={f"OPENSHELL_DRIVER_{name.upper()}": variable[0]} if by_variable else {},
        default_config=write(tmp_path, {"server": {name: in_file[0]}} if by_file else {}),
    )

    found = getattr(load(Plain, sources).server, name)

    said = [value for (_, value), there in zip(SAID[name], places, strict=True) if there]
    assert found == (said[0] if said else getattr(ServerSettings(), name))


@pytest.mark.parametrize("places", list(product([True, False], repeat=3)), ids=str)
def test_a_key_of_the_driver_is_taken_from_the_strongest_place(
    places: tuple[bool, bool, bool], tmp_path: Path
) -> None:
    by_flag, by_variable, by_file = places
    sources = Sources(
        config_flags={"retries": "11"} if by_flag else {},
        environment={"OPENSHELL_DRIVER_CONFIG_RETRIES": "12"} if by_variable else {},
        default_config=write(tmp_path, {"retries": 13} if by_file else {}),
    )

    config = load(Configured, sources).config

    said = [value for value, there in zip((11, 12, 13), places, strict=True) if there]
    assert config.retries == (said[0] if said else 3)
    assert config.region == "nowhere"


def test_keys_from_different_places_come_together(tmp_path: Path) -> None:
    sources = Sources(
        config_flags={"region": "here"},
        environment={"OPENSHELL_DRIVER_CONFIG_NAMES": '["a", "b"]'},
        default_config=write(tmp_path, {"retries": 7, "names": ["c"]}),
    )

    assert load(Configured, sources).config == Keys(region="here", retries=7, names=("a", "b"))


def test_the_file_named_by_flag_beats_the_variable_which_beats_the_default(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_text(json.dumps({"retries": number}))
    flags = {"config": str(paths[0])}
    environment = {"OPENSHELL_DRIVER_CONFIG": str(paths[1])}

    def retries(flags: Mapping[str, str], environment: Mapping[str, str]) -> Any:
        sources = Sources(flags=flags, environment=environment, default_config=paths[2])
        return load(Configured, sources).config.retries

    assert retries(flags, environment) == 0
    assert retries({}, environment) == 1
    assert retries({}, {}) == 2


def test_the_default_socket_is_the_weakest(tmp_path: Path) -> None:
    default = Path("/default")
    with_file = Sources(
        environment={},
        default_socket=default,
        default_config=write(tmp_path, {"server": {"socket": "/file"}}),
    )

    assert load(Plain, Sources(environment={}, default_socket=default)).server.socket == default
    assert load(Plain, with_file).server.socket == Path("/file")


def test_an_empty_variable_or_flag_says_nothing() -> None:
    sources = Sources(
        flags={"log_level": "", "config": ""},
        environment={
            "OPENSHELL_DRIVER_LOG_LEVEL": "",
            "OPENSHELL_DRIVER_CONFIG": "",
            "OPENSHELL_CREDENTIALS_DRIVER_SOCKET": "",
            "OPENSHELL_DRIVER_SOCKET": "/here",
        },
    )

    server = load(Plain, sources).server

    assert (server.log_level, server.socket) == ("info", Path("/here"))


CREDENTIALS = "OPENSHELL_CREDENTIALS_DRIVER_SOCKET"
STORE = "OPENSHELL_CREDENTIAL_DRIVER_SOCKET"


@pytest.mark.parametrize(
    ("driver", "variable", "heard"),
    [
        (Plain, CREDENTIALS, True),
        (Plain, STORE, False),
        (Store, STORE, True),
        (Store, CREDENTIALS, False),
        (Both, CREDENTIALS, True),
        (Both, STORE, True),
    ],
)
def test_a_gateways_socket_variable_counts_for_its_own_service_only(
    driver: type[Plain | Store], variable: str, *, heard: bool
) -> None:
    environment = {variable: "/gateway", "OPENSHELL_DRIVER_SOCKET": "/own"}

    found = load(driver, Sources(environment=environment)).server.socket

    assert found == Path("/gateway" if heard else "/own")


def test_two_gateway_variables_that_differ_are_an_error_unless_a_flag_decides() -> None:
    environment = {CREDENTIALS: "/canary-one", STORE: "/canary-two"}

    with pytest.raises(ConfigError) as caught:
        load(Both, Sources(environment=environment))
    decided = load(Both, Sources(environment=environment, flags={"socket": "/flag"}))

    assert CREDENTIALS in str(caught.value)
    assert STORE in str(caught.value)
    assert "canary" not in str(caught.value)
    assert decided.server.socket == Path("/flag")


def test_two_gateway_variables_that_agree_are_one() -> None:
    environment = {CREDENTIALS: "/same", STORE: "/same"}

    assert load(Both, Sources(environment=environment)).server.socket == Path("/same")


def test_a_driver_without_keys_has_no_configuration() -> None:
    assert load(Plain, Sources(environment={})).config is None


def test_the_environment_is_this_process_s_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENSHELL_DRIVER_LOG_LEVEL", "error")

    assert load(Plain, Sources()).server.log_level == "error"


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith("OPENSHELL_"):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("variable", ["OPENSHELL_DRIVER_SOCKET", CREDENTIALS, STORE])
def test_a_client_dials_the_only_socket_that_a_variable_names(
    variable: str, no_variables: pytest.MonkeyPatch
) -> None:
    no_variables.setenv(variable, "/one")

    assert dialled_socket(None) == "/one"
    assert dialled_socket("/flag") == "/flag"


def test_a_client_does_not_guess_which_socket_is_meant(no_variables: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--socket is missing.* none is set"):
        dialled_socket(None)

    no_variables.setenv(CREDENTIALS, "/canary-one")
    no_variables.setenv(STORE, "/canary-two")
    with pytest.raises(ConfigError, match="several differ") as caught:
        dialled_socket(None)
    assert "canary" not in str(caught.value)
    assert dialled_socket("/flag") == "/flag"
