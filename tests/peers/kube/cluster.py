"""Starts, stops and disturbs a cluster of its own, on loopback and in a temporary folder.

Measured on two cores: start 6 s, end 0.1 s, restart of the API server 2 s (4 s where it is
to end in an orderly way), compaction 3 s; 700 MB, more as sandboxes come.
"""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.peers.kube import components
from tests.peers.kube.access import Access, ApiError
from tests.peers.kube.dist import ensure_kubernetes, kubernetes_folder
from tests.peers.kube.programs import Programs
from tests.peers.processes import LOOPBACK, PeerFailed, wait_until

START_TIMEOUT = 120.0
_PATIENCE = 20.0
_API = "kube-apiserver"
_NODES = "kwok"
_SANDBOXES = "/apis/agents.x-k8s.io"
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Cluster(Access):
    """One Kubernetes; a context manager that starts and ends it.

    When this process ends in any way, SIGKILL included, so do all of the cluster's.
    """

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="kube-"))
        self._layout = components.Layout(folder, kubernetes_folder())
        super().__init__(
            self._layout.server, self._layout.admin_token, folder, self._layout.binaries
        )
        self._programs = Programs(folder)
        self._paused = False

    @property
    def pids(self) -> Mapping[str, int]:
        """The process, and process group, of each program that was started and not ended."""
        return self._programs.pids

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start, and return when a sandbox of either version becomes ready in it.

        PeerMissing where there is no Kubernetes, PeerFailed where it does not come up.
        """
        if self.pids:
            raise PeerFailed("this cluster is running already")
        ensure_kubernetes()
        components.write_files(self._layout)
        components.write_scheduler_configuration(self._layout, self.kubeconfig)
        try:
            self._programs.start(components.etcd_command(self._layout))
            self._start_api(timeout)
            self._make_objects(timeout)
            self._start_controllers()
            self._try_sandbox(timeout)
        except BaseException:
            self._programs.kill_all()
            raise

    def close(self) -> None:
        """End the cluster for good and remove its folder."""
        self.disconnect()
        self._programs.kill_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop_api(self, *, kill: bool = False) -> None:
        """End the API server, in an orderly way (2 s) or by SIGKILL; its data stay."""
        self.disconnect()
        if kill:
            self._programs.kill(_API)
        else:
            self._programs.terminate(_API)

    def start_api(self, timeout: float = START_TIMEOUT) -> None:
        """Start the API server on its port with its data, and return when it is ready.

        The controllers are restarted: by themselves they might come back only after half a minute,
        and one that was starting when the server went away has ended.
        """
        self._stop_controllers()
        self._start_api(timeout)
        self._await_sandboxes(timeout)
        self._start_controllers()

    def freeze_api(self) -> None:
        """Stop the API server where it is: connections stay, and nothing is answered."""
        self._programs.signal(_API, signal.SIGSTOP)

    def thaw_api(self) -> None:
        """Let the frozen API server go on."""
        self._programs.signal(_API, signal.SIGCONT)

    def pause_nodes(self) -> None:
        """Stop what plays the nodes: new pods stay Pending, and deleted ones stay there."""
        self._paused = True
        self._programs.signal(_NODES, signal.SIGSTOP)

    def resume_nodes(self) -> None:
        """Let the nodes go on, with what has gathered meanwhile."""
        self._paused = False
        self._programs.signal(_NODES, signal.SIGCONT)

    def compact_etcd(self, timeout: float = START_TIMEOUT) -> None:
        """Forget all history: a watch from any version seen before is answered with 410.

        etcd is restarted, and so is the API server where it runs, for it remembers as well.
        """
        running = _API in self.pids
        if running:
            self.stop_api(kill=True)
            self._stop_controllers()
        with httpx.Client(base_url=self._layout.etcd, trust_env=False, timeout=60) as etcd:
            # A version seen before may be the newest one there is, which is never forgotten.
            written = [
                etcd.post("/v3/kv/put", json={"key": "cGVlcnM=", "value": "cGVlcnM="})
                for _ in range(10)
            ]
            revision = written[-1].raise_for_status().json()["header"]["revision"]
            asked = {"revision": revision, "physical": True}
            etcd.post("/v3/kv/compaction", json=asked).raise_for_status()
            etcd.post("/v3/maintenance/defragment", json={}).raise_for_status()
        self._programs.terminate("etcd")
        self._programs.start(components.etcd_command(self._layout))
        self._programs.wait_for("etcd's restart", self._etcd_ready, timeout)
        if running:
            self.start_api(timeout)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _make_objects(self, timeout: float) -> None:
        # The CRD comes before the garbage collector, which looks for new kinds only now and then.
        crd = components.sandbox_crd(self._layout)
        self.api("POST", _CRDS, crd)
        for node in components.nodes():
            self.api("POST", "/api/v1/nodes", node)
        self.api("POST", "/apis/storage.k8s.io/v1/storageclasses", components.storage_class())
        self._await_sandboxes(timeout)

    def _await_sandboxes(self, timeout: float) -> None:
        # Until then the garbage collector would do without them for half a minute, and the
        # agent-sandbox controller for ten seconds.
        self._programs.wait_for("sandboxes as a kind", self._sandboxes_discovered, timeout)

    def _sandboxes_discovered(self) -> bool:
        if not self._answers(f"{_SANDBOXES}/v1beta1/sandboxes"):
            return False
        found = self.api("GET", "/apis", accept=_DISCOVERY)["items"]
        groups = {group["metadata"]["name"]: group["versions"] for group in found}
        versions = groups.get(_SANDBOXES.rpartition("/")[2], ())
        return len(versions) == 2 and all(version["resources"] for version in versions)

    def _start_api(self, timeout: float) -> None:
        self._programs.start(components.api_command(self._layout))
        self._programs.wait_for("the API server's start", self._api_ready, timeout)

    def _start_controllers(self) -> None:
        for command in self._controllers().values():
            self._programs.start(command)
        if self._paused:
            self.pause_nodes()

    def _stop_controllers(self) -> None:
        self._programs.kill(*self._controllers())

    def _controllers(self) -> dict[str, list[str]]:
        return components.controller_commands(self._layout, self.kubeconfig)

    def _try_sandbox(self, timeout: float) -> None:
        """See one sandbox through all of the programs, written in one version, read in another."""
        namespace, name = "peer-warm-up", "first"
        self.api("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        container = {"name": "agent", "image": "peer/first"}
        sandbox = {
            "apiVersion": "agents.x-k8s.io/v1beta1",
            "kind": "Sandbox",
            "metadata": {"name": name},
            "spec": {"podTemplate": {"spec": {"containers": [container]}}},
        }
        # Conversions that fail before the webhook listens are tried again only much later.
        self._programs.wait_for("the conversion webhook", self._webhook_listens, timeout)
        self.api("POST", f"{_SANDBOXES}/v1beta1/namespaces/{namespace}/sandboxes", sandbox)
        path = f"{_SANDBOXES}/v1alpha1/namespaces/{namespace}/sandboxes/{name}"
        if not wait_until(lambda: self._sandbox_ready(path), _PATIENCE):
            self._stop_controllers()  # one of them has missed its start
            self._start_controllers()
        self._programs.wait_for("the first sandbox", lambda: self._sandbox_ready(path), timeout)
        self.api("DELETE", f"/api/v1/namespaces/{namespace}")

    def _webhook_listens(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self._layout.webhook_port), timeout=1):
                return True
        except OSError:
            return False

    def _sandbox_ready(self, path: str) -> bool:
        try:
            status: dict[str, Any] = self.api("GET", path).get("status", {})
        except ApiError:
            return False  # its webhook is not there yet
        ready = [c for c in status.get("conditions", ()) if c["type"] == "Ready"]
        return bool(ready) and ready[0]["status"] == "True"

    def _api_ready(self) -> bool:
        return self._answers("/readyz")

    def _answers(self, path: str) -> bool:
        try:
            self.api("GET", path, timeout=5)
        except (ApiError, httpx.TransportError):
            return False
        return True

    def _etcd_ready(self) -> bool:
        try:
            health = httpx.get(f"{self._layout.etcd}/health", trust_env=False, timeout=5)
        except httpx.TransportError:
            return False
        return health.status_code == 200
