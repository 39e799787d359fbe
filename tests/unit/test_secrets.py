"""`Secret` shows itself only through `reveal()`."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from openshell_drivers import Credential, DriverConfig, Secret

TEXT = "canary-0d51-hidden"
MASK = "Secret(***)"


class Config(DriverConfig):
    password: Secret
    retries: int = 1


class Plain(BaseModel):
    """A model that an author made without `DriverConfig`."""

    model_config = ConfigDict(hide_input_in_errors=True)
    password: Secret = Secret(TEXT)


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(TEXT)),
        str(Secret(TEXT)),
        f"{Secret(TEXT)}",
        f"{Secret(TEXT)!r:>30}".strip(),
        f"{Secret(TEXT):>100}",
        format(Secret(TEXT), "s"),
        "%s" % Secret(TEXT),  # noqa: UP031  # the old way must not show it either
        "{}".format(Secret(TEXT)),  # noqa: UP032  # as above
        str([Secret(TEXT)])[1:-1],
        json.loads(json.dumps([Secret(TEXT)], default=str))[0],
    ],
)
def test_every_way_to_print_a_secret_gives_the_mask(shown: str) -> None:
    assert shown == MASK


def test_secret_in_a_dataclass_stays_hidden() -> None:
    credential = Credential(token=Secret(TEXT))

    assert TEXT not in repr(credential)
    assert TEXT not in str(asdict(credential))


def test_logging_a_secret_gives_the_mask(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").warning("got %s and %r", Secret(TEXT), Secret(TEXT))

    assert caplog.messages == [f"got {MASK} and {MASK}"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_secret_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError) as caught:
        pickle.dumps({"inside": Secret(TEXT)}, protocol)

    assert TEXT not in str(caught.value)


def test_copies_are_the_same_object() -> None:
    secret = Secret(TEXT)

    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_secret_has_no_dictionary_and_no_state() -> None:
    secret = Secret(TEXT)

    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError):
        secret.__getstate__()


def test_secret_is_made_of_text_only_and_does_not_name_what_it_got() -> None:
    with pytest.raises(TypeError) as caught:
        Secret(TEXT.encode())  # type: ignore[arg-type]  # what the test is about

    assert TEXT not in str(caught.value)


@given(st.text(alphabet=st.characters()), st.text(alphabet=st.characters()))
def test_secrets_compare_as_their_texts_do(one: str, other: str) -> None:
    assert (Secret(one) == Secret(other)) == (one == other)
    assert (Secret(one) != Secret(other)) == (one != other)
    assert Secret(one) == Secret(one)
    assert hash(Secret(one)) == hash(Secret(one))


@pytest.mark.parametrize("text", ["\ud800", "a\udcffb", "\udc80" * 3])
def test_text_with_surrogates_is_kept_and_compared(text: str) -> None:
    assert Secret(text).reveal() == text
    assert Secret(text) == Secret(text)
    assert Secret(text) != Secret("other")


def test_secret_is_not_equal_to_its_text() -> None:
    secret: object = Secret(TEXT)

    assert secret != TEXT
    assert secret != SecretStr(TEXT)


def test_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret(" ")


def test_model_takes_text_and_a_secret() -> None:
    assert Config(password=Secret(TEXT)).password.reveal() == TEXT
    assert Config.model_validate({"password": TEXT}).password.reveal() == TEXT
    assert Config.model_validate_json(json.dumps({"password": TEXT})).password.reveal() == TEXT


def test_model_dumps_the_mask() -> None:
    config = Config(password=Secret(TEXT))

    assert config.model_dump_json() == '{"password":"Secret(***)","retries":1}'
    assert config.model_dump(mode="json")["password"] == MASK
    assert TEXT not in str(config.model_dump())
    assert TEXT not in repr(config)
    assert TEXT not in str(config)


def test_schema_does_not_show_a_default() -> None:
    schema = Plain.model_json_schema()

    assert schema["properties"]["password"]["format"] == "password"
    assert TEXT not in json.dumps(schema)


@pytest.mark.parametrize(
    "values",
    [
        {"password": {"nested": TEXT}},
        {"password": [TEXT]},
        {"password": TEXT, "retries": TEXT},
        {"password": TEXT, "pasword": TEXT},
        {"password": None, "retries": TEXT},
    ],
)
def test_validation_error_does_not_show_what_was_given(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(values)

    assert TEXT not in str(caught.value)
    assert TEXT not in repr(caught.value)
