"""Exceptions described by type and place, whatever text they carry."""

from __future__ import annotations

import pytest

from openshell_drivers._faults import describe

CANARY = "canary-7d1f"


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        return raised


@pytest.mark.parametrize(
    "error",
    [
        ValueError(CANARY),
        KeyError(CANARY),
        OSError(CANARY, 1),
        OSError(2, CANARY, CANARY),
        ExceptionGroup(CANARY, [ValueError(CANARY), OSError(CANARY, CANARY)]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_text_of_an_exception_is_shown(error: BaseException) -> None:
    assert CANARY not in describe(caught(error))


def test_type_place_and_cause_are_named() -> None:
    def fail() -> None:
        try:
            raise OSError(111, CANARY)
        except OSError as cause:
            raise ValueError(CANARY) from cause

    with pytest.raises(ValueError, match=CANARY) as info:
        fail()

    text = describe(info.value)
    assert text.startswith("ValueError at test_faults.py:")
    assert "in fail" in text
    assert "from ConnectionRefusedError(errno 111)" in text


def test_a_cause_that_leads_back_to_itself_ends() -> None:
    first, second = ValueError(), TypeError()
    first.__cause__, second.__cause__ = second, first

    assert describe(first).count("ValueError") <= 5
