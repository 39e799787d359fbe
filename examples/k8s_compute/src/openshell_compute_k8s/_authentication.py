"""Whose service-account token it is: TokenReview, then the pod, then its sandbox.

Whoever may make pods in the namespace can write into one that a sandbox owns it. So the pod has to
be the one that the sandbox's controller makes: by its name, and by the account that it runs as.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from openshell_compute_k8s._api import Api
from openshell_compute_k8s._failures import ApiRefusal, answer
from openshell_compute_k8s._names import OURS, UNFINISHED, identity_of
from openshell_compute_k8s._objects import Metadata, Object, ObjectT, OwnerReference, TokenReview
from openshell_compute_k8s._seen import POD_NAME, runtime_identity
from openshell_compute_k8s._urls import GROUP, TOKEN_REVIEWS, core, group
from openshell_drivers import (
    AuthenticatedSandbox,
    FailedPrecondition,
    PermissionDenied,
    Secret,
    Unauthenticated,
    Unavailable,
)
from openshell_drivers.naming import GATEWAY_ID, MANAGED_BY, SANDBOX_ID

_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LONGEST: Final = 16 * 1024
_ACCOUNT: Final = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):([a-z0-9.-]{1,253})")
_BOUND_NAME: Final = "authentication.kubernetes.io/pod-name"
_BOUND_UID: Final = "authentication.kubernetes.io/pod-uid"
_ANY_VERSION: Final = re.compile(rf"{re.escape(GROUP)}/[a-z0-9]+")
_NO_ACCOUNT: Final = "default"
"""The account of pods that name none."""


@dataclass(frozen=True, slots=True)
class TokenPod:
    """The pod that a token is bound to, and the account that the token is of."""

    namespace: str
    account: str
    name: str
    uid: str


class _PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    service_account_name: str = ""


class _PodTemplate(msgspec.Struct, frozen=True):
    spec: _PodSpec = _PodSpec()


class _SandboxSpec(msgspec.Struct, frozen=True, rename="camel"):
    pod_template: _PodTemplate = _PodTemplate()


class _Sandbox(Object, frozen=True):
    """A ``Sandbox``, with the account that its pods run as."""

    spec: _SandboxSpec = _SandboxSpec()

    @property
    def account(self) -> str:
        return self.spec.pod_template.spec.service_account_name or _NO_ACCOUNT


async def pod_of_token(api: Api, credential: Secret, audience: str) -> TokenPod:
    """Have the API server say whose token it is.

    Raises `Unauthenticated` for a token that is not good for `audience`, `PermissionDenied` for one
    that is bound to no pod, `FailedPrecondition` if the driver may not ask.
    """
    if len(credential.reveal()) > _LONGEST or not _JWT.fullmatch(credential.reveal()):
        raise Unauthenticated("the credential is not a service-account token")
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": credential.reveal(), "audiences": [audience]},
    }
    try:
        review = await api.call("POST", TOKEN_REVIEWS, TokenReview, body=body, again=True)
    except ApiRefusal as refusal:
        if refusal.code == 403:
            raise FailedPrecondition("the driver may not create TokenReviews (RBAC)") from None
        raise answer(refusal, "review a token") from None
    status = review.status
    if not status.authenticated or audience not in status.audiences:
        raise Unauthenticated("the credential is not valid here")
    account = _ACCOUNT.fullmatch(status.user.username)
    names, uids = (status.user.extra.get(key, []) for key in (_BOUND_NAME, _BOUND_UID))
    if account is None or len(names) != 1 or len(uids) != 1:
        raise PermissionDenied("the credential belongs to no pod")
    return TokenPod(account[1], account[2], names[0], uids[0])


async def sandbox_of_pod(
    api: Api, api_version: str, gateway_label: str, bound: TokenPod
) -> tuple[AuthenticatedSandbox, str]:
    """Find the sandbox that a pod belongs to, and its workspace, as the API server has both now.

    Raises `PermissionDenied` unless the pod is this very one, is controlled by a sandbox, has the
    name and the account of that one's pods, and the sandbox is this gateway's and finished.
    `FailedPrecondition` if the driver may not read them: that says nothing of the credential.
    """
    pod = (await _read(api, core("pods", bound.namespace, bound.name), Object)).metadata
    owner = _controller(pod)
    if pod.uid != bound.uid or owner is None:
        raise PermissionDenied("the credential belongs to no sandbox")
    path = group(api_version, "sandboxes", bound.namespace, owner.name)
    sandbox = await _read(api, path, _Sandbox)
    about, identity = sandbox.metadata, identity_of(sandbox.metadata)
    if about.uid != owner.uid or identity is None or not _is_ours(about, gateway_label):
        raise PermissionDenied("the credential belongs to no sandbox of this gateway")
    if bound.name != (about.annotations.get(POD_NAME) or about.name):
        raise PermissionDenied("the credential belongs to a pod that is not the sandbox's own")
    if bound.account != sandbox.account:
        raise PermissionDenied("the credential is of another account than the sandbox's")
    found = AuthenticatedSandbox(
        sandbox_id=identity.id, runtime_identity=runtime_identity(bound.namespace, about.uid)
    )
    return found, identity.workspace


def _controller(pod: Metadata) -> OwnerReference | None:
    """The sandbox that controls a pod, in whichever version its controller speaks."""
    owners = [each for each in pod.owner_references if each.controller]
    if len(owners) != 1 or owners[0].kind != "Sandbox":
        return None
    return owners[0] if _ANY_VERSION.fullmatch(owners[0].api_version) else None


def _is_ours(about: Metadata, gateway_label: str) -> bool:
    """Whether `selector` selects it, and it is a sandbox by now."""
    labels = about.labels
    if labels.get(MANAGED_BY) != OURS or SANDBOX_ID not in labels or UNFINISHED in labels:
        return False
    return not gateway_label or labels.get(GATEWAY_ID) == gateway_label


async def _read(api: Api, path: str, kind: type[ObjectT]) -> ObjectT:
    try:
        return await api.get(path, kind)
    except ApiRefusal as refusal:
        if refusal.gone:
            raise PermissionDenied("the credential belongs to no sandbox") from None
        if refusal.code == 404:
            raise Unavailable("the API server does not serve sandboxes now") from None
        if refusal.code == 403:
            raise FailedPrecondition(
                "the driver may not read the pod or sandbox of a token (RBAC)"
            ) from None
        raise answer(refusal, "read the sandbox of a token") from None
