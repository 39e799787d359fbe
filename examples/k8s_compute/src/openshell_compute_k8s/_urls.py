"""Where things are on an API server."""

from __future__ import annotations

from typing import Final

GROUP: Final = "agents.x-k8s.io"
VERSIONS: Final = ("v1beta1", "v1alpha1")
"""The versions spoken, the better one first."""
TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
NODES: Final = "/api/v1/nodes"


def core(plural: str, namespace: str = "", name: str = "") -> str:
    """A resource of the core group; in all namespaces if none is named."""
    return _path("/api/v1", plural, namespace, name)


def group(group_version: str, plural: str, namespace: str = "", name: str = "") -> str:
    """A resource of another group."""
    return _path(f"/apis/{group_version}", plural, namespace, name)


def namespace(name: str) -> str:
    """A namespace itself."""
    return f"/api/v1/namespaces/{name}"


def _path(root: str, plural: str, namespace: str, name: str) -> str:
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{middle}/{plural}" + (f"/{name}" if name else "")
