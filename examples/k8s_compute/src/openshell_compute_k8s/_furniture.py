"""What a namespace that the driver makes holds, written down: pure functions of the configuration.

Each gives the path of an object and what is applied there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from openshell_compute_k8s._names import workspace_labels
from openshell_compute_k8s._urls import core, group
from openshell_compute_k8s.config import KubernetesConfig, WorkspacesConfig

Thing = tuple[str, dict[str, Any]]

_NETWORK: Final = "networking.k8s.io/v1"
_RIGHTS: Final = "rbac.authorization.k8s.io"
_OWN: Final = "openshell-sandboxes"
_DEFAULT: Final = "default"
"""The account that every namespace has."""

_NAMES: Final[Mapping[str, Any]] = {
    "to": [
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}},
    ],
    "ports": [
        {"protocol": protocol, "port": port} for port in (53, 5353) for protocol in ("UDP", "TCP")
    ],
}
"""The cluster's name server; OpenShift's listens at 5353."""
_PRIVATE: Final = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
)
_PRIVATE_6: Final = ("fc00::/7", "fe80::/10")
_WEB: Final[Mapping[str, Any]] = {
    "to": [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": [*_PRIVATE]}},
        {"ipBlock": {"cidr": "::/0", "except": [*_PRIVATE_6]}},
    ],
    "ports": [{"protocol": "TCP", "port": port} for port in (80, 443)],
}
"""Neither the cluster and its neighbours nor the cloud's metadata service."""


def furniture(config: KubernetesConfig, home: str, name: str, workspace: str) -> Iterator[Thing]:
    """Give the service account of sandboxes, its roles, and the fence around them: the gateway is
    at `home`."""
    account = config.pod.service_account or _DEFAULT
    if account != _DEFAULT:
        metadata = _metadata(config, account, name, workspace)
        yield core("serviceaccounts", name, account), _service_account(metadata)
    for role in config.workspaces.account_roles:
        own = f"{_OWN}:{role}"  # and not one that somebody else has bound the role by
        metadata = _metadata(config, own, name, workspace)
        path = group(f"{_RIGHTS}/v1", "rolebindings", name, own)
        yield path, _role_binding(metadata, role, account)
    if config.workspaces.gateway_pods:
        metadata = _metadata(config, _OWN, name, workspace)
        path = group(_NETWORK, "networkpolicies", name, _OWN)
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


def _role_binding(metadata: dict[str, Any], role: str, account: str) -> dict[str, Any]:
    subject = {"kind": "ServiceAccount", "name": account, "namespace": metadata["namespace"]}
    return {
        "apiVersion": f"{_RIGHTS}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": _RIGHTS, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }


def _network_policy(
    config: KubernetesConfig, home: str, metadata: dict[str, Any]
) -> dict[str, Any]:
    rules = config.workspaces
    gateway = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home}},
        "podSelector": {"matchLabels": dict(rules.gateway_pods)},
    }
    ssh = [{"protocol": "TCP", "port": rules.ssh_port}]
    api = [{"protocol": "TCP", "port": rules.gateway_port}]
    return {
        "apiVersion": _NETWORK,
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [gateway], "ports": ssh}],
            "egress": [{"to": [gateway], "ports": api}, _NAMES, *_egress(rules)],
        },
    }


def _egress(rules: WorkspacesConfig) -> list[Mapping[str, Any]]:
    if rules.egress == "any":
        return [{}]
    if rules.egress == "web":
        return [_WEB]
    return [rule.model_dump(exclude_defaults=True) for rule in rules.egress]
