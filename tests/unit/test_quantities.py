"""Quantities: Kubernetes' grammar, exact numbers, one kind of refusal."""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openshell_drivers import InvalidArgument
from openshell_drivers.quantities import cpu_millis, memory_bytes

MOST: Final = 2**63 - 1
EXACT: Final = Context(prec=3000, Emax=10**6, Emin=-(10**6))
#: Written out, so that a slip in the module's way of making them shows.
FACTORS: Final = {
    "n": "0.000000001",
    "u": "0.000001",
    "m": "0.001",
    "": "1",
    "k": "1000",
    "K": "1000",
    "M": "1000000",
    "G": "1000000000",
    "T": "1000000000000",
    "P": "1000000000000000",
    "E": "1000000000000000000",
    "Ki": "1024",
    "Mi": "1048576",
    "Gi": "1073741824",
    "Ti": "1099511627776",
    "Pi": "1125899906842624",
    "Ei": "1152921504606846976",
}
REFUSALS: Final = {
    "limit is longer than 64 characters",
    "limit is not a Kubernetes quantity, such as 2, 500m or 1.5Gi",
    "limit is more than 64 bits can hold",
    "limit must be more than zero",
}
DIGITS: Final = st.text("0123456789", max_size=12)
NUMBERS: Final = st.one_of(
    DIGITS.filter(bool),
    st.tuples(DIGITS, DIGITS).filter(any).map(".".join),
)


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("500m", 500),
        ("1", 1000),
        ("1.5", 1500),
        (".5", 500),
        ("5.", 5000),
        ("+2", 2000),
        ("1e3", 1_000_000),
        ("1E3", 1_000_000),
        ("1e+1", 10_000),
        ("25E-1", 2500),
        ("100u", 1),
        ("1n", 1),
        ("0.0001", 1),
        ("1500u", 2),
        ("0.1", 100),
        ("2k", 2_000_000),
        ("1e-900", 1),
        (f"1e-{'9' * 60}", 1),
        ("9223372036854775.807", MOST),
    ],
)
def test_cpu_is_in_thousandths_of_a_core_rounded_up(text: str, millis: int) -> None:
    assert cpu_millis(text) == millis


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("128974848", 128_974_848),
        ("129e6", 129_000_000),
        ("129M", 129_000_000),
        ("128974848000m", 128_974_848),
        ("123Mi", 128_974_848),
        ("1.5Gi", 1_610_612_736),
        ("1k", 1000),
        ("1K", 1000),
        ("1E", 10**18),
        ("1e0", 1),
        ("1Ei", 2**60),
        (".5Ki", 512),
        ("1500m", 2),
        ("1m", 1),
        ("0.1Ki", 103),
        ("9223372036854775807", MOST),
        (f"0.{'0' * 40}1e44", 1000),
        (f"1{'0' * 40}e-38", 100),
        ("7.9Ei", -(-79 * 2**60 // 10)),
    ],
)
def test_memory_is_in_bytes_rounded_up(text: str, count: int) -> None:
    assert memory_bytes(text) == count


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "1 ", " 1", "1\n", "1 Gi", "\t1"),
        *(".", "+", "-", "+.", "m", "Ki", "E", "e3", ".Ki", "1..5", "1.2.3", "1,5"),
        *("1e", "1e+", "1e1.5", "1e3Ki", "1ee3", "1eE", "++1", "+-1", "1+", "0x10", "1_000"),
        *("1mi", "1ki", "1kI", "1KI", "1g", "1t", "1GiB", "1GB", "1Gii", "1iG", "1i", "1b", "1Mm"),
        *("inf", "Infinity", "nan", "1/2", "1%", "one"),
        *("٣", "１", "1٣", "²", "1e٣", "1м", "1\N{ZERO WIDTH SPACE}", "\0", "1\0"),
    ],
)
def test_what_is_not_a_quantity_is_refused(text: str) -> None:
    for read in (cpu_millis, memory_bytes):
        with pytest.raises(InvalidArgument, match="is not a Kubernetes quantity"):
            read(text)


@pytest.mark.parametrize("text", ["0", "-0", "0.0", ".0", "0m", "0Ei", "0e9", "-1", "-.5", "-1Ki"])
def test_zero_and_less_are_refused(text: str) -> None:
    for read in (cpu_millis, memory_bytes):
        with pytest.raises(InvalidArgument, match="must be more than zero"):
            read(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "8Ei", "9.3E", "1e19", f"1e{'9' * 60}"])
def test_what_does_not_fit_64_bits_is_refused(text: str) -> None:
    for read in (cpu_millis, memory_bytes):
        with pytest.raises(InvalidArgument, match="is more than 64 bits can hold"):
            read(text)


def test_cpu_must_fit_in_thousandths() -> None:
    with pytest.raises(InvalidArgument, match="is more than 64 bits can hold"):
        cpu_millis("9223372036854775.8071")


@pytest.mark.parametrize("text", ["1" * 65, "0" * 65, "9" * 10**6, "1" + "\U0001f600" * 10**5])
def test_a_text_beyond_any_sense_is_refused_unread(text: str) -> None:
    for read in (cpu_millis, memory_bytes):
        with pytest.raises(InvalidArgument, match="is longer than 64 characters"):
            read(text)


def reading(text: str) -> int | str:
    """The amount of memory, or why there is none."""
    try:
        return memory_bytes(text, field="limit")
    except InvalidArgument as error:
        return error.message


@given(st.text() | st.text("0123456789.+-eEinumkKMGTP", max_size=12))
@example("hunter2")
def test_any_text_is_a_number_in_range_or_refused_without_the_text(text: str) -> None:
    found = reading(text)

    assert found in REFUSALS if isinstance(found, str) else 0 < found <= MOST


def oracle(number: str, factor: Decimal) -> int:
    exact = EXACT.multiply(Decimal(number), factor)
    return int(exact.to_integral_value(ROUND_CEILING, EXACT))


def same(text: str, number: str, factor: Decimal) -> None:
    """Both readings are what decimal arithmetic says, or the refusal is."""
    for read, scale in ((memory_bytes, 1), (cpu_millis, 1000)):
        expected = oracle(number, EXACT.multiply(factor, Decimal(scale)))
        if 0 < expected <= MOST:
            assert read(text) == expected
        else:
            with pytest.raises(InvalidArgument):
                read(text)


@given(NUMBERS, st.sampled_from(sorted(FACTORS)), st.sampled_from(["", "+"]))
def test_a_number_with_a_suffix_is_exact(number: str, suffix: str, sign: str) -> None:
    same(f"{sign}{number}{suffix}", number, Decimal(FACTORS[suffix]))


@given(NUMBERS, st.sampled_from("eE"), st.integers(min_value=-1100, max_value=1100))
def test_a_number_with_an_exponent_is_exact(number: str, letter: str, exponent: int) -> None:
    same(f"{number}{letter}{exponent:+}", number, Decimal((0, (1,), exponent)))
