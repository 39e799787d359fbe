"""What the API server refuses, as what a gateway and its user can act on.

Of an answer's text only what is known to hold no value of a request is passed on: the quota's name
and figures, field paths, and what an admission plug-in says of a pod's security.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from openshell_compute_k8s._objects import Details, Status
from openshell_drivers import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    DriverError,
    FailedPrecondition,
    Internal,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)

_AMOUNTS: Final = r"[A-Za-z0-9./=_-]{1,120}(?:,[A-Za-z0-9./=_-]{1,120}){0,20}"
_QUOTA: Final = re.compile(
    rf"exceeded quota: [a-z0-9.-]{{1,253}}(?:, (?:requested|used|limited): {_AMOUNTS})*"
)
_POD_SECURITY: Final = re.compile(r'violates PodSecurity "[a-z0-9:.-]{1,60}"')
_POLICY: Final = re.compile(r"ValidatingAdmissionPolicy '([a-z0-9.-]{1,253})'")
_MISSING: Final = re.compile(
    r'(?:serviceaccount|RuntimeClass|runtimeclass\.node\.k8s\.io) "[a-z0-9.-]{1,253}" not found'
    r"|no PriorityClass with name [a-z0-9.-]{1,253} was found"
)
_CANNOT: Final = re.compile(r'cannot ([a-z]{1,20}) resource "([a-z./-]{1,100})"')
_MISSHAPEN: Final = "failed to create typed patch object"
_NAMESPACE_ENDS: Final = "because it is being terminated"
_WORD: Final = re.compile(r"[A-Za-z]{1,64}")
_FIELD: Final = re.compile(r"[A-Za-z0-9_.\[\]/-]{1,200}")
_MOST_FIELDS: Final = 3


class ApiRefusal(Exception):
    """The API server has answered, and not as asked. Its text is not shown by itself."""

    def __init__(self, code: int, status: Status, retry_after: float | None = None) -> None:
        super().__init__(f"the API server answered {code}")
        self.code = code
        self.status = status
        self.retry_after = retry_after

    @property
    def already_exists(self) -> bool:
        """Whether an object of this name is there."""
        return self.code == 409 and self.status.reason == "AlreadyExists"

    @property
    def conflict(self) -> bool:
        """Whether the object is not as the request supposed it to be."""
        return self.code == 409 and not self.already_exists and not self.quota_conflict

    @property
    def quota_conflict(self) -> bool:
        """Whether a quota was counted anew while the request waited at it. Nothing was let in: with
        many creates at once, or several API servers, that is ordinary."""
        details = self.status.details
        counted = details is not None and details.kind == "resourcequotas"
        return self.code == 409 and self.status.reason == "Conflict" and counted

    @property
    def ending_namespace(self) -> bool:
        """Whether the namespace is being deleted."""
        return self.code == 403 and _NAMESPACE_ENDS in self.status.message

    @property
    def misshapen(self) -> bool:
        """Whether what was applied has no such field, or a value of another type: a server-side
        apply answers 500 to that, always."""
        return self.code == 500 and _MISSHAPEN in self.status.message

    @property
    def gone(self) -> bool:
        """Whether it is the named object itself that is not there: not its kind, nor an answer of
        something on the way."""
        details = self.status.details
        return self.code == 404 and details is not None and bool(details.name)

    @property
    def missing_namespace(self) -> bool:
        """Whether it is the namespace that is not there."""
        details = self.status.details
        return self.code == 404 and details is not None and details.kind == "namespaces"


def read_refusal(code: int, body: bytes, retry_after: str | None) -> ApiRefusal:
    """Read an answer that is not a success; one that is not the API server's own has no text."""
    try:
        status = msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, msgspec.ValidationError):
        status = Status(code=code)
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return ApiRefusal(code, status, seconds)


def quota_text(message: str) -> str:
    """Give what a message says of a quota: its name, what was asked, what there is; or nothing."""
    found = _QUOTA.search(message)
    return found[0] if found else ""


def known_text(message: str) -> str:
    """Give what a controller's message says that a user can act on, and nothing else of it."""
    if quota := quota_text(message):
        return quota
    for pattern in (_POD_SECURITY, _MISSING):
        if found := pattern.search(message):
            return found[0]
    return ""


def answer(refusal: ApiRefusal, doing: str) -> DriverError:
    """Give the error for a call, `doing` what it did: "read the claim"."""
    kinds: dict[int, type[DriverError]] = {
        401: Unavailable,
        403: PermissionDenied,
        404: NotFound,
        408: DeadlineExceeded,
        409: AlreadyExists if refusal.already_exists else Aborted,
        429: ResourceExhausted,
        504: DeadlineExceeded,
    }
    kind = kinds.get(refusal.code, Unavailable if refusal.code >= 500 else Internal)
    return kind(f"could not {doing}: {_why(refusal)}")


def answer_create(refusal: ApiRefusal, what: str, namespace: str) -> DriverError:
    """Give the error for a create. What somebody must mend is `FailedPrecondition`: of other codes
    a gateway does not pass the message on (COMP-CREATE-06)."""
    if refusal.already_exists:
        return AlreadyExists(f"the {what} exists already")
    if refusal.code in {400, 403, 404, 413, 422} or refusal.misshapen:
        return FailedPrecondition(f"namespace {namespace} takes no {what}: {_why(refusal)}")
    return answer(refusal, f"create the {what}")


def _why(refusal: ApiRefusal) -> str:
    message = refusal.status.message
    if refusal.misshapen:
        return "it has a field that Kubernetes does not know, or a value of the wrong type"
    if refusal.quota_conflict:
        return "the namespace's quota is changed all the time"
    if refusal.code < 500 and (policy := _POLICY.search(message)):
        return f"the cluster's admission policy {policy[1]} denies it"
    if refusal.code == 403:
        return _forbidden(refusal, message)
    if refusal.code in {400, 422}:
        return f"the API server refuses {_fields(refusal.status.details)}"
    known = {
        401: "the API server does not accept the driver's credential",
        404: "it is not there",
        409: "it was changed meanwhile",
        413: "it is too large",
        429: "the API server is overloaded",
    }
    return known.get(refusal.code, f"the API server answered {refusal.code}")


def _forbidden(refusal: ApiRefusal, message: str) -> str:
    if quota := quota_text(message):
        return quota
    if found := _POD_SECURITY.search(message):
        return f"it {found[0]}"
    if refusal.ending_namespace:
        return "it is being deleted"
    if "admission webhook" in message:
        return "an admission webhook of the cluster denies it"
    if found := _CANNOT.search(message):
        return f"the driver's account may not {found[1]} {found[2]} (RBAC)"
    if "attempting to grant RBAC permissions" in message:
        return "the driver's account may not bind the role (RBAC)"
    return "the API server forbids it"


def _fields(details: Details | None) -> str:
    fields = [
        f"{each.field} ({each.reason if _WORD.fullmatch(each.reason) else 'invalid'})"
        for each in (details.causes if details else [])
        if _FIELD.fullmatch(each.field)
    ]
    if not fields:
        return "it as invalid"
    more = f" and {len(fields) - _MOST_FIELDS} more" if len(fields) > _MOST_FIELDS else ""
    return ", ".join(fields[:_MOST_FIELDS]) + more
