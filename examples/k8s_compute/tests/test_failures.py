"""What the API server refuses reaches a user as what can be done about it, and without values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openshell_compute_k8s._failures import answer, answer_create, quota_text, read_refusal

CANARY = "canary-value"


def refusal(code: int, message: str = "", reason: str = "", **details: Any) -> Any:
    """An answer of the API server."""
    body = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return read_refusal(code, json.dumps({**body, "details": details}).encode(), None)


QUOTA = (
    'sandboxes "a" is forbidden: exceeded quota: few, requested: count/sandboxes=1,'
    " used: count/sandboxes=1, limited: count/sandboxes=1"
)


@pytest.mark.parametrize(
    ("found", "code", "text"),
    [
        (refusal(409, reason="AlreadyExists"), "ALREADY_EXISTS", "exists already"),
        (refusal(409, reason="Conflict"), "ABORTED", "changed meanwhile"),
        (
            refusal(409, CANARY, "Conflict", kind="resourcequotas", name="few"),
            "ABORTED",
            "the namespace's quota is changed all the time",
        ),
        (refusal(403, QUOTA), "FAILED_PRECONDITION", "exceeded quota: few, requested: count/s"),
        (
            refusal(403, f'User "{CANARY}" cannot create resource "sandboxes" in API group "a"'),
            "FAILED_PRECONDITION",
            "may not create sandboxes (RBAC)",
        ),
        (refusal(403, CANARY), "FAILED_PRECONDITION", "the API server forbids it"),
        (
            refusal(422, f"ValidatingAdmissionPolicy 'few' with binding 'b' denied: {CANARY}"),
            "FAILED_PRECONDITION",
            "admission policy few denies it",
        ),
        (refusal(403, f"admission webhook denied: {CANARY}"), "FAILED_PRECONDITION", "webhook"),
        (
            refusal(403, f'violates PodSecurity "restricted:latest": {CANARY}'),
            "FAILED_PRECONDITION",
            'violates PodSecurity "restricted:latest"',
        ),
        (refusal(403, "because it is being terminated"), "FAILED_PRECONDITION", "being deleted"),
        (refusal(404, kind="namespaces"), "FAILED_PRECONDITION", "not there"),
        (refusal(413, CANARY), "FAILED_PRECONDITION", "too large"),
        (
            refusal(
                422,
                f"Invalid value: {CANARY}",
                causes=[{"field": "spec.a[0].b", "reason": "FieldValueInvalid", "message": CANARY}],
            ),
            "FAILED_PRECONDITION",
            "spec.a[0].b (FieldValueInvalid)",
        ),
        (
            refusal(422, CANARY, causes=[{"field": f"map[{CANARY} x]"}]),
            "FAILED_PRECONDITION",
            "refuses it as invalid",
        ),
        (refusal(429), "RESOURCE_EXHAUSTED", "overloaded"),
        (refusal(500, CANARY), "UNAVAILABLE", "answered 500"),
        (refusal(504), "DEADLINE_EXCEEDED", "answered 504"),
        (refusal(401), "UNAVAILABLE", "credential"),
    ],
)
def test_a_create_that_is_refused(found: Any, code: str, text: str) -> None:
    error = answer_create(found, "sandbox", "ns")
    assert (error.code, text in error.message) == (code, True), error.message
    assert CANARY not in error.message
    assert CANARY not in str(found)
    assert CANARY not in repr(found)


def test_other_calls_keep_what_is_forbidden_apart_from_what_is_missing() -> None:
    assert answer(refusal(403), "read").code == "PERMISSION_DENIED"
    assert answer(refusal(404), "read").code == "NOT_FOUND"
    assert answer(refusal(418, CANARY), "read").code == "INTERNAL"


def test_a_quota_that_was_changed_meanwhile_is_no_change_of_the_object() -> None:
    counted = refusal(409, reason="Conflict", kind="resourcequotas", name="few")
    changed = refusal(409, reason="Conflict", kind="sandboxes.agents.x-k8s.io", name="few")
    there = refusal(409, reason="AlreadyExists", kind="resourcequotas", name="few")
    forbidden = refusal(403, QUOTA, "Forbidden", kind="resourcequotas", name="few")
    each = (counted, changed, there, forbidden, refusal(409, reason="Conflict"))
    assert [one.quota_conflict for one in each] == [True, False, False, False, False]
    assert [one.conflict for one in each] == [False, True, False, False, True]


def test_a_body_that_is_not_the_api_servers_has_no_text() -> None:
    found = read_refusal(502, f"<html>{CANARY}</html>".encode(), "7")
    assert (found.status.message, found.retry_after) == ("", 7.0)


def test_a_quotas_figures_are_cut_out_and_nothing_else() -> None:
    assert quota_text(f"x {QUOTA}; env {CANARY}") == QUOTA.partition("forbidden: ")[2]
    assert quota_text(f"no quota here, {CANARY}") == ""
