"""The errors and the status names they stand for."""

from __future__ import annotations

import grpc
import pytest

from openshell_drivers import errors
from openshell_drivers.errors import DriverError, error_for

KINDS = [kind for kind in vars(errors).values() if DriverError in getattr(kind, "__bases__", ())]


@pytest.mark.parametrize("kind", KINDS)
def test_error_comes_back_from_its_code(kind: type[DriverError]) -> None:
    error = error_for(kind.code, "what and which")

    assert type(error) is kind
    assert error.message == "what and which"
    assert error.code == kind.code


@pytest.mark.parametrize("kind", KINDS)
def test_code_is_a_status_of_grpc(kind: type[DriverError]) -> None:
    assert kind.code in grpc.StatusCode.__members__
    assert kind.code != "OK"


def test_class_is_named_like_its_status() -> None:
    for kind in KINDS:
        assert kind.__name__.lower() == kind.code.replace("_", "").lower()
        assert getattr(errors, kind.__name__) is kind


@pytest.mark.parametrize("code", ["CANCELLED", "UNKNOWN", "OUT_OF_RANGE", "made up"])
def test_code_without_a_class_is_kept_in_the_root(code: str) -> None:
    error = error_for(code, "m")

    assert type(error) is DriverError
    assert error.code == code
    assert DriverError.code == "UNKNOWN"


def test_building_an_error_does_not_change_its_class() -> None:
    error_for("NOT_FOUND", "x").code = "else"

    assert errors.NotFound.code == "NOT_FOUND"


def test_error_without_a_message_has_an_empty_one() -> None:
    assert errors.NotFound().message == ""


def test_passing_are_those_that_may_pass() -> None:
    passing = {kind.code for kind in KINDS if kind.passing}

    assert passing == {"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "RESOURCE_EXHAUSTED"}
