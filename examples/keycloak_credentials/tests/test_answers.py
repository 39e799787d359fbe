"""The table from an issuer's answers to the gateway's statuses, in full."""

from __future__ import annotations

import json

import pytest
from openshell_credentials_keycloak._answers import BY_CODE, Answer, refusal

from openshell_drivers import DriverError, FailedPrecondition, PermissionDenied, Unavailable

TABLE: list[tuple[int, str | None, type[DriverError]]] = [
    (400, "invalid_request", FailedPrecondition),
    (400, "invalid_client", FailedPrecondition),
    (401, "invalid_client", FailedPrecondition),
    (400, "invalid_grant", FailedPrecondition),
    (400, "unauthorized_client", PermissionDenied),
    (401, "unauthorized_client", FailedPrecondition),  # Keycloak's word for a wrong secret
    (403, "unauthorized_client", PermissionDenied),
    (400, "unsupported_grant_type", FailedPrecondition),
    (400, "invalid_scope", FailedPrecondition),
    (400, "invalid_target", FailedPrecondition),
    (400, "access_denied", PermissionDenied),
    (403, "access_denied", PermissionDenied),
    (403, "invalid_client", FailedPrecondition),
    (400, "temporarily_unavailable", Unavailable),
    (400, "server_error", Unavailable),
    (200, "invalid_client", FailedPrecondition),
    (400, None, FailedPrecondition),
    (401, None, FailedPrecondition),
    (403, None, PermissionDenied),
    (404, None, FailedPrecondition),
    (405, None, FailedPrecondition),
    (408, None, Unavailable),
    (425, None, Unavailable),
    (429, None, Unavailable),
    (429, "invalid_client", Unavailable),
    (301, None, FailedPrecondition),
    (302, "invalid_client", FailedPrecondition),
    (307, None, FailedPrecondition),
    (500, None, Unavailable),
    (500, "invalid_client", Unavailable),
    (502, None, Unavailable),
    (503, "temporarily_unavailable", Unavailable),
    (204, None, Unavailable),
    (999, None, Unavailable),
]


def answer(status: int, code: object) -> Answer:
    body = {"error": code, "error_description": "canary-description"} if code else {}
    return Answer(status, json.dumps(body).encode())


@pytest.mark.parametrize(("status", "code", "kind"), TABLE)
def test_answer_means_a_status(status: int, code: str | None, kind: type[DriverError]) -> None:
    fault = refusal(answer(status, code))

    assert fault.kind is kind
    assert str(status) in fault.what
    assert code is None or code in fault.what


def test_table_has_every_known_code() -> None:
    assert {code for _, code, _ in TABLE if code} == set(BY_CODE)


@pytest.mark.parametrize(
    "code",
    ["canary-code", "invalid_client canary", 7, ["invalid_client"], {"canary": 1}, "x" * 999],
)
def test_unknown_code_is_not_repeated(code: object) -> None:
    fault = refusal(answer(400, code))

    assert fault.code is None
    assert fault.what == "the issuer answered 400"


@pytest.mark.parametrize("body", [b"", b"\xff", b"canary", b"[]", b"[" * 60_000, b"null"])
def test_body_that_is_no_object_says_nothing(body: bytes) -> None:
    assert refusal(Answer(401, body)).what == "the issuer answered 401"


@pytest.mark.parametrize(
    ("status", "code", "refused"),
    [
        (401, None, True),
        (401, "invalid_client", True),
        (400, "invalid_client", True),
        (401, "unauthorized_client", True),
        (400, "unauthorized_client", False),
        (400, "invalid_grant", False),
        (400, None, False),
        (403, None, False),
    ],
)
def test_only_a_refused_client_is_worth_another_look_at_the_secret(
    status: int, code: str | None, refused: bool
) -> None:
    assert refusal(answer(status, code)).client_refused is refused


def test_answer_does_not_show_its_body() -> None:
    assert "canary" not in repr(Answer(200, b"canary"))
