"""What a namespace that the driver makes holds, written down: pure functions of the configuration.

Each gives the path of an object and what is applied there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from openshell_compute_k8s._names import workspace_labels
from openshell_compute_k8s._urls import core, group
from openshell_compute_k8s.config import KubernetesConfig

Thing = tuple[str, dict[str, Any]]

_NETWORK: Final = "networking.k8s.io/v1"
_POLICY: Final = "openshell-sandboxes"


def furniture(config: KubernetesConfig, home: str, name: str, workspace: str) -> Iterator[Thing]:
    """Give the service account of sandboxes, and who may reach them: the gateway at `home`."""
    account = config.pod.service_account
    if account and account != "default":
        metadata = _metadata(config, account, name, workspace)
        yield core("serviceaccounts", name, account), _service_account(metadata)
    if config.workspaces.gateway_pods:
        metadata = _metadata(config, _POLICY, name, workspace)
        path = group(_NETWORK, "networkpolicies", name, _POLICY)
        yield path, _network_policy(config, home, metadata)


def secrets_to_copy(config: KubernetesConfig) -> list[str]:
    """Name the Secrets that pods need."""
    pod = config.pod
    return sorted(
        {*config.workspaces.copy_secrets, *pod.image_pull_secrets, *pod.client_tls.secrets}
    )


def copy_of(
    secret: Mapping[str, Any], config: KubernetesConfig, name: str, workspace: str
) -> Thing:
    """Give the copy of a Secret: its type and its values, and nothing else of it."""
    own = secret["metadata"]["name"]
    kept = {key: secret[key] for key in ("type", "data") if key in secret}
    metadata = _metadata(config, own, name, workspace)
    return (
        core("secrets", name, own),
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **kept},
    )


def _metadata(config: KubernetesConfig, own: str, name: str, workspace: str) -> dict[str, Any]:
    labels = dict(workspace_labels(config, workspace))
    return {"name": own, "namespace": name, "labels": labels}


def _service_account(metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata,
        "automountServiceAccountToken": False,
    }


def _network_policy(
    config: KubernetesConfig, home: str, metadata: dict[str, Any]
) -> dict[str, Any]:
    rules = config.workspaces
    gateway = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home}},
        "podSelector": {"matchLabels": dict(rules.gateway_pods)},
    }
    ports = [{"protocol": "TCP", "port": rules.ssh_port}]
    return {
        "apiVersion": _NETWORK,
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [gateway], "ports": ports}],
        },
    }
