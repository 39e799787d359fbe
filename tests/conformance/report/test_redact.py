"""No secret gets past the redactor, in whatever form, and nothing else is taken for one."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from openshell_drivers.conformance.report.redact import MARK, Redactor

SECRET = 'Cnry+4f/e1"b9\\c02 d7ü8a?~~>>?'
FORMS: dict[str, Callable[[bytes], str]] = {
    "as it is": lambda raw: raw.decode(),
    "base64": lambda raw: base64.b64encode(raw).decode(),
    "base64 without padding": lambda raw: base64.b64encode(raw).decode().rstrip("="),
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).decode(),
    "hex": lambda raw: raw.hex(),
    "upper-case hex": lambda raw: raw.hex().upper(),
    "in an URL": lambda raw: quote(raw, safe=""),
    "in a path": quote,
    "in a form": quote_plus,
    "in JSON": lambda raw: json.dumps(raw.decode())[1:-1],
    "in JSON as UTF-8": lambda raw: json.dumps(raw.decode(), ensure_ascii=False)[1:-1],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_taken_out_in_every_form(form: str) -> None:
    shown = FORMS[form](SECRET.encode())
    assert {"+", "/"} <= {*FORMS["base64"](SECRET.encode())}  # which base64url writes otherwise
    redactor = Redactor(["another-secret-of-ours", SECRET])

    assert redactor.text(f"before {shown} after") == f"before {MARK} after"
    assert redactor.find(f"before {shown} after".encode()) == [1]


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("after", ["", ":", ":p", ":pa"])
def test_a_secret_is_found_inside_something_that_was_encoded(before: str, after: str) -> None:
    encoded = base64.b64encode((before + SECRET + after).encode())
    redactor = Redactor([SECRET])

    assert redactor.find(b"Authorization: Basic " + encoded) == [0]
    assert MARK in redactor.text(encoded.decode())


def test_any_twelve_bytes_of_a_secret_give_it_away() -> None:
    secret = "kJ8xQ2mZ7wVt4nRc9pLy"
    redactor = Redactor([secret])
    for start in range(len(secret) - 11):
        for before in range(8):  # whatever the place in the data
            assert redactor.find(b"." * before + secret[start : start + 12].encode() + b"..") == [0]
    assert redactor.find(secret[:11].encode() + b"." + secret[-11:].encode()) == []


def test_a_cut_secret_is_taken_out_too() -> None:
    secret = "kJ8xQ2mZ7wVt4nRc9pLy"

    assert Redactor([secret]).text(f"token={secret[:15]}…") == f"token={MARK}…"


@pytest.mark.parametrize("secret", ["s", "pw", "hunter2", "elevenchars", "exactly12chr"])
def test_a_short_secret_is_taken_out(secret: str) -> None:
    redactor = Redactor([secret])

    assert redactor.text(f"<{secret}><{secret}>") == f"<{MARK}><{MARK}>"
    assert redactor.find(f"<{secret}>".encode()) == [0]


@pytest.mark.parametrize("secret", ["a" * 40, "ab" * 30, " " * 12, "0" * 6 + "1" * 6])
def test_a_monotonous_secret_is_found_as_a_whole(secret: str) -> None:
    redactor = Redactor([secret])

    assert redactor.find(b"." + secret.encode() + b".") == [0]
    assert redactor.text(f".{secret}.") == f".{MARK}."


def test_an_empty_secret_is_nowhere() -> None:
    redactor = Redactor(["", "kJ8xQ2mZ7wVt4nRc9pLy"])

    assert redactor.text("text") == "text"
    assert redactor.find(b"kJ8xQ2mZ7wVt4nRc9pLy") == [1]


def test_each_line_of_a_key_is_a_secret_but_not_its_frame() -> None:
    lines = [base64.b64encode(random.Random(n).randbytes(48)).decode() for n in range(4)]
    key = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----"])
    redactor = Redactor([key])

    for line in lines:
        assert redactor.text(f"log: {line}") == f"log: {MARK}"
    assert redactor.find(b"not found: -----BEGIN PRIVATE KEY-----") == []


def test_the_head_of_one_token_is_not_the_other_token() -> None:
    head = (
        base64.urlsafe_b64encode(b'{"alg":"RS256","typ":"JWT","kid":"key-of-2026"}')
        .decode()
        .rstrip("=")
    )
    claims = (
        base64.urlsafe_b64encode(b'{"iss":"https://issuer.example","sub":"a"}').decode().rstrip("=")
    )
    signature = base64.urlsafe_b64encode(random.Random(7).randbytes(64)).decode().rstrip("=")
    redactor = Redactor([f"{head}.{claims}.{signature}"])

    assert redactor.find(f"{head}.{claims}.other-signature".encode()) == []
    assert redactor.find(f"..{signature[5:30]}..".encode()) == [0]
    assert redactor.text(f"Bearer {head}.{claims}.{signature}") == f"Bearer {MARK}"


def test_a_very_long_secret_is_found_by_its_ends_and_as_a_whole() -> None:
    secret = random.Random(3).randbytes(32_768).hex()
    redactor = Redactor([secret])

    assert redactor.find(secret[100:140].encode()) == [0]
    assert redactor.find(secret[-140:-100].encode()) == [0]
    assert redactor.text(f"<{secret}>") == f"<{MARK}>"


def test_secrets_beside_and_inside_each_other_leave_nothing() -> None:
    inner = "kJ8xQ2mZ7wVt4nRc9pLy"
    outer = f"prefix-of-it-{inner}-suffix-of-it"
    redactor = Redactor([inner, outer])

    assert redactor.text(f"{outer}{inner}") in (f"{MARK}{MARK}", MARK)
    assert redactor.find(outer.encode()) == [0, 1]


def test_text_of_any_kind_comes_through() -> None:
    text = "é 𝄞 \x00 \ud800 \n" * 50

    assert Redactor([SECRET]).text(text) == text


def test_a_character_that_shares_a_byte_with_the_secret_is_taken_whole() -> None:
    redactor = Redactor(["ükJ8xQ2mZ7wVt4nRcü"])

    # As UTF-8, ļ ends as ü does, and ñ begins as ü does.
    assert redactor.text("-ļkJ8xQ2mZ7wVt4nRcñ-") == f"-{MARK}-"


def test_nothing_beside_a_secret_is_taken_with_it() -> None:
    secret = "kJ8xQ2mZ7wVt4nRc9pLy"

    assert Redactor([secret]).text(f"pLy{secret}kJ8") == f"pLy{MARK}kJ8"


def test_a_secret_may_be_told_later() -> None:
    redactor = Redactor([SECRET])

    assert redactor.add("kJ8xQ2mZ7wVt4nRc9pLy") == 1
    assert redactor.find(b"kJ8xQ2mZ7wVt4nRc9pLy") == [1]


def test_ordinary_logs_hold_no_secret() -> None:
    noise = random.Random(11)
    redactor = Redactor([f"Cnry{noise.randbytes(12).hex()}" for _ in range(200)])
    line = "2026-11-22T06:00:03Z INFO call method=GetSandbox subject=cf-%s code=OK Cnry ms=1.2\n"
    data = "".join(line % noise.randbytes(8).hex() for _ in range(2_000))

    assert redactor.find(data.encode()) == []
    assert redactor.text(data) == data


@pytest.mark.parametrize("filler", [b"log line of a driver ", b"a", b"Cnry", b"Cnry0123"])
def test_two_hundred_secrets_are_looked_for_in_ten_megabytes(filler: bytes) -> None:
    noise = random.Random(5)
    secrets = [f"Cnry{noise.randbytes(12).hex()}" for _ in range(199)] + ["a" * 64]
    redactor = Redactor(secrets)
    data = filler * (10_000_000 // len(filler)) + secrets[42].encode()

    # One search per secret and window would run into the time limit of all tests.
    assert 42 in redactor.find(data)
