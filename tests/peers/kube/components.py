"""The programs of the cluster: with what arguments, and with what files beside them."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
import yaml

from tests.peers.kube import stages
from tests.peers.kube.access import AUDIT_LOG
from tests.peers.kube.dist import SANDBOX_CRD
from tests.peers.processes import LOOPBACK, lasting_port

ISSUER = "https://kubernetes.default.svc.cluster.local"
# What a namespace, a sandbox and its claim need. Without the node controllers a node is never
# thought dead, however long its kwok is stopped.
_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
    "pod-garbage-collector-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
)
_NODES = {
    "node-cpu": {"cpu": "64", "memory": "256Gi", "pods": "5000"},
    "node-gpu": {"cpu": "64", "memory": "256Gi", "pods": "5000", "nvidia.com/gpu": "4"},
}

# What service accounts ask for, without what they say or hear; the cluster's own programs are not
# service accounts here.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}


@dataclass(frozen=True)
class Layout:
    """Where a cluster has its files and on which ports it listens."""

    folder: Path
    binaries: Path
    admin_token: str = field(default_factory=lambda: f"canary-{secrets.token_urlsafe(24)}")
    api_port: int = field(default_factory=lasting_port)
    etcd_port: int = field(default_factory=lasting_port)
    etcd_peer_port: int = field(default_factory=lasting_port)
    webhook_port: int = field(default_factory=lasting_port)

    @property
    def server(self) -> str:
        """The address of the API server."""
        return f"https://{LOOPBACK}:{self.api_port}"

    @property
    def etcd(self) -> str:
        """The address of etcd."""
        return f"http://{LOOPBACK}:{self.etcd_port}"


def write_files(layout: Layout) -> None:
    """Write what the programs read: certificates, keys, tokens and configurations."""
    folder = layout.folder
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    hooks = folder / "webhook"
    hooks.mkdir()
    for certificate, key in (("server.pem", "server.key"), ("webhook/tls.crt", "webhook/tls.key")):
        issued = authority.issue_cert(LOOPBACK, "localhost", "kubernetes.default.svc")
        issued.cert_chain_pems[0].write_to_path(folder / certificate)
        _private(folder / key, issued.private_key_pem.bytes())
    # Any key will do to sign tokens with.
    _private(folder / "tokens.key", authority.issue_cert("tokens").private_key_pem.bytes())
    tokens = f'{layout.admin_token},peer-admin,peer-admin,"system:masters"\n'
    _private(folder / "tokens.csv", tokens.encode())
    (folder / "kwok.yaml").write_text(stages.configuration(), encoding="utf-8")
    (folder / "audit.json").write_text(json.dumps(_AUDIT_POLICY), encoding="utf-8")


def write_scheduler_configuration(layout: Layout, kubeconfig: Path) -> None:
    """Write the scheduler's configuration, which names the kubeconfig."""
    client = {"kubeconfig": str(kubeconfig), "qps": 2000, "burst": 4000}
    scheduler = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": client,
        "leaderElection": {"leaderElect": False},
        "podMaxBackoffSeconds": 2,
    }
    (layout.folder / "scheduler.json").write_text(json.dumps(scheduler), encoding="utf-8")


def etcd_command(layout: Layout) -> list[str]:
    """Return etcd's command: data survive its restart, though not the machine's."""
    peer = f"http://{LOOPBACK}:{layout.etcd_peer_port}"
    return [
        str(layout.binaries / "etcd"),
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={layout.etcd}",
        f"--advertise-client-urls={layout.etcd}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
    ]


def api_command(layout: Layout) -> list[str]:
    """Return the API server's command."""
    folder = layout.folder
    return [
        str(layout.binaries / "kube-apiserver"),
        f"--etcd-servers={layout.etcd}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={layout.api_port}",
        f"--tls-cert-file={folder / 'server.pem'}",
        f"--tls-private-key-file={folder / 'server.key'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={folder / 'tokens.key'}",
        f"--service-account-signing-key-file={folder / 'tokens.key'}",
        f"--audit-policy-file={folder / 'audit.json'}",
        f"--audit-log-path={folder / AUDIT_LOG}",
        "--audit-log-mode=blocking",
        "--service-cluster-ip-range=10.0.0.0/16",
        "--allow-privileged=true",
        # Loopback is no address for an endpoint, and nobody looks for the server by its service.
        "--endpoint-reconciler-type=none",
        # Its taint would stay: the controller that takes it away does not run.
        "--disable-admission-plugins=TaintNodesByCondition",
        # History goes only when a test says so.
        "--etcd-compaction-interval=0",
        "--enable-priority-and-fairness=false",
        "--max-requests-inflight=4000",
        "--max-mutating-requests-inflight=2000",
        # Or an orderly end waits for the watches, for up to a minute.
        "--shutdown-send-retry-after=true",
        "--profiling=false",
    ]


def controller_commands(layout: Layout, kubeconfig: Path) -> dict[str, list[str]]:
    """Return the commands of all programs that work through the API server, by their names."""
    commands = (
        _controller_manager(layout, kubeconfig),
        _scheduler(layout),
        _kwok(layout, kubeconfig),
        _sandbox_controller(layout, kubeconfig),
    )
    return {Path(command[0]).name: command for command in commands}


def _controller_manager(layout: Layout, kubeconfig: Path) -> list[str]:
    return [
        str(layout.binaries / "kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        f"--controllers={','.join(_CONTROLLERS)}",
        f"--root-ca-file={layout.folder / 'ca.pem'}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=2000",
        "--kube-api-burst=4000",
        "--concurrent-gc-syncs=40",
        "--profiling=false",
    ]


def _scheduler(layout: Layout) -> list[str]:
    return [
        str(layout.binaries / "kube-scheduler"),
        f"--config={layout.folder / 'scheduler.json'}",
        "--secure-port=0",
    ]


def _kwok(layout: Layout, kubeconfig: Path) -> list[str]:
    config = layout.folder / "kwok.yaml"
    return [str(layout.binaries / "kwok"), f"--kubeconfig={kubeconfig}", f"--config={config}"]


def _sandbox_controller(layout: Layout, kubeconfig: Path) -> list[str]:
    # Its webhook listens on all interfaces, which it cannot be talked out of.
    return [
        str(layout.binaries / "agent-sandbox-controller"),
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--metrics-bind-address=0",
        "--health-probe-bind-address=0",
        "--manage-webhook-certs=false",
        f"--webhook-cert-dir={layout.folder / 'webhook'}",
        f"--webhook-port={layout.webhook_port}",
        "--zap-log-level=error",
    ]


def sandbox_crd(layout: Layout) -> dict[str, Any]:
    """Return the Sandbox CRD as released, but with its conversion webhook on loopback."""
    text = (layout.binaries / SANDBOX_CRD).read_text(encoding="utf-8")
    crd: dict[str, Any] = yaml.safe_load(text)
    bundle = base64.b64encode((layout.folder / "ca.pem").read_bytes()).decode()
    url = f"https://{LOOPBACK}:{layout.webhook_port}/convert"
    client = {"url": url, "caBundle": bundle}
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": client}
    crd["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
    return crd


def nodes() -> list[dict[str, Any]]:
    """Return the nodes as they register: kwok makes them ready."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {
                "capacity": capacity,
                "allocatable": capacity,
                "addresses": [{"type": "InternalIP", "address": f"10.63.0.{number}"}],
            },
        }
        for number, (name, capacity) in enumerate(_NODES.items(), 1)
    ]


def storage_class() -> dict[str, Any]:
    """Return the default storage class, whose claims kwok gives volumes."""
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": stages.STORAGE_CLASS, "annotations": default},
        "provisioner": stages.PROVISIONER,
        "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Delete",
    }


def _private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
