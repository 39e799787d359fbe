"""Log lines: one per record, bounded, without exception text."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openshell_drivers._faults import describe
from openshell_drivers._logs import JsonFormatter, TextFormatter, printable

CANARY = "canary-9b1e-text"


def _record(message: object = "call", **extra: Any) -> logging.LogRecord:
    logger = logging.getLogger("openshell_drivers.rpc")
    return logger.makeRecord(
        logger.name, logging.INFO, "file.py", 1, message, (), None, extra=extra
    )


@given(st.text(alphabet=st.characters()))
def test_any_text_gives_one_line_of_json(text: str) -> None:
    line = JsonFormatter().format(_record(text, subject=text))

    assert len(line.splitlines()) == 1
    assert line.encode()
    assert json.loads(line)["subject"] == printable(text)


@given(st.text(alphabet=st.characters()))
def test_any_text_gives_one_line_of_text(text: str) -> None:
    line = TextFormatter().format(_record(text, subject=text))

    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("text", ["x" * 1_000_000, "\U0001f600" * 1_000_000, "\0" * 1_000_000])
def test_line_of_a_huge_value_is_short(text: str) -> None:
    assert len(JsonFormatter().format(_record(text, subject=text))) < 20_000


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_number_that_json_does_not_know_is_still_json(number: float) -> None:
    line = JsonFormatter().format(_record(ms=number))

    json.loads(line, parse_constant=pytest.fail)


def test_line_has_the_fields_in_their_order() -> None:
    line = json.loads(JsonFormatter().format(_record(subject="a", ms=1.5, ok=True, none=None)))

    assert list(line) == ["ts", "level", "logger", "msg", "subject", "ms", "ok", "none"]
    assert (line["level"], line["logger"], line["ms"]) == ("info", "openshell_drivers.rpc", 1.5)


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_exception_is_shown_by_type_and_place(formatter: logging.Formatter) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    try:
        _raise()
    except RuntimeError as error:
        record = _record("it failed")
        record.exc_info = (type(error), error, error.__traceback__)
        handler.emit(record)

    assert CANARY not in stream.getvalue()
    assert "RuntimeError at test_logs.py" in stream.getvalue()
    assert "ValueError" in stream.getvalue()


def _raise() -> None:
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        raise RuntimeError(CANARY) from error


def test_description_of_a_cycle_of_causes_ends() -> None:
    one, other = ValueError(CANARY), KeyError(CANARY)
    one.__cause__, other.__cause__ = other, one

    assert describe(one).count("ValueError") <= 3
    assert CANARY not in describe(one)


def test_description_of_a_group_names_what_is_in_it() -> None:
    group = ExceptionGroup(CANARY, [OSError(2, CANARY), ExceptionGroup(CANARY, [ValueError()])])

    assert describe(group) == (
        "ExceptionGroup(FileNotFoundError(errno 2), ExceptionGroup(ValueError))"
    )


def test_a_value_cannot_look_like_another_field_of_a_text_line() -> None:
    line = TextFormatter().format(_record("call", subject="x code=OK", code="NOT_FOUND"))

    assert line.endswith('call subject="x code=OK" code=NOT_FOUND')
