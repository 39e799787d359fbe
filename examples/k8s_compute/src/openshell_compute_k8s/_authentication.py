"""Whose service-account token it is: TokenReview, then the pod, then its sandbox."""

from __future__ import annotations

import re
from typing import Final

from openshell_compute_k8s._api import Api
from openshell_compute_k8s._failures import ApiRefusal, answer
from openshell_compute_k8s._names import identity_of
from openshell_compute_k8s._objects import ObjectT, Pod, Sandbox, TokenReview
from openshell_compute_k8s._seen import runtime_identity
from openshell_compute_k8s._urls import TOKEN_REVIEWS, core, group
from openshell_drivers import (
    AuthenticatedSandbox,
    FailedPrecondition,
    PermissionDenied,
    Secret,
    Unauthenticated,
)

_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LONGEST: Final = 16 * 1024
_ACCOUNT: Final = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):([a-z0-9.-]{1,253})")
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


async def pod_of_token(api: Api, credential: Secret, audience: str) -> tuple[str, str, str]:
    """Have the API server say whose token it is: the namespace, name and uid of a pod.

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
    names, uids = (status.user.extra.get(key, []) for key in (_POD_NAME, _POD_UID))
    if account is None or len(names) != 1 or len(uids) != 1:
        raise PermissionDenied("the credential belongs to no pod")
    return account[1], names[0], uids[0]


async def sandbox_of_pod(  # who asks, and which pod
    api: Api, api_version: str, gateway_label: str, namespace: str, name: str, uid: str
) -> tuple[AuthenticatedSandbox, str]:
    """Find the sandbox that a pod belongs to, and its workspace, as the API server has both now.

    Raises `PermissionDenied` unless the pod is this very one, is controlled by a sandbox, and that
    one is this gateway's.
    """
    pod = await _read(api, core("pods", namespace, name), Pod)
    owners = [each for each in pod.metadata.owner_references if each.controller]
    if pod.metadata.uid != uid or len(owners) != 1 or owners[0].kind != "Sandbox":
        raise PermissionDenied("the credential belongs to no sandbox")
    sandbox = await _read(api, group(api_version, "sandboxes", namespace, owners[0].name), Sandbox)
    identity, about = identity_of(sandbox.metadata), sandbox.metadata
    ours = not gateway_label or about.labels.get("openshell.ai/gateway-id") == gateway_label
    if about.uid != owners[0].uid or identity is None or not ours:
        raise PermissionDenied("the credential belongs to no sandbox of this gateway")
    found = AuthenticatedSandbox(
        sandbox_id=identity.id, runtime_identity=runtime_identity(namespace, about.uid)
    )
    return found, identity.workspace


async def _read(api: Api, path: str, kind: type[ObjectT]) -> ObjectT:
    try:
        return await api.get(path, kind)
    except ApiRefusal as refusal:
        if refusal.code == 404:
            raise PermissionDenied("the credential belongs to no sandbox") from None
        if refusal.code == 403:
            raise FailedPrecondition(
                "the driver may not read the pod or sandbox of a token (RBAC)"
            ) from None
        raise answer(refusal, "read the sandbox of a token") from None
