"""Tests that the cluster does what the Kubernetes driver's tests rely on it for."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers.kube import Access, ApiError, Cluster, ensure_kubernetes, go
from tests.peers.kube.plugin import make_namespace
from tests.peers.kube.serving import ensure_served, is_served, stop_serving
from tests.peers.processes import PeerFailed, PeerMissing, group_alive, wait_until

ROOT = Path(__file__).resolve().parents[2]
FOREGROUND = {"propagationPolicy": "Foreground"}
TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
REVIEW = "authentication.kubernetes.io/"


@dataclasses.dataclass(frozen=True)
class Place:
    """A namespace of a cluster, and what the tests do in it."""

    access: Access
    namespace: str

    def path(self, kind: str, name: str = "", version: str = "v1beta1") -> str:
        group = f"/apis/agents.x-k8s.io/{version}" if kind == "sandboxes" else "/api/v1"
        return f"{group}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def sandbox(
        self,
        name: str,
        image: str = "peer/plain",
        annotations: Mapping[str, str] | None = None,
        version: str = "v1beta1",
        **spec: object,
    ) -> dict[str, Any]:
        pod = {"restartPolicy": "Never", "containers": [{"name": "agent", "image": image}]}
        template = {"metadata": {"annotations": dict(annotations or {})}, "spec": pod}
        body = {
            "apiVersion": f"agents.x-k8s.io/{version}",
            "kind": "Sandbox",
            "metadata": {"name": name},
            "spec": {"podTemplate": template, **spec},
        }
        return self.access.api("POST", self.path("sandboxes", version=version), body)

    def get(self, kind: str, name: str, version: str = "v1beta1") -> dict[str, Any] | None:
        """The object, None where it does not exist."""
        try:
            return self.access.api("GET", self.path(kind, name, version))
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def status(self, kind: str, name: str) -> dict[str, Any]:
        return dict((self.get(kind, name) or {}).get("status", {}))

    def condition(self, name: str, kind: str = "Ready") -> tuple[str, str] | None:
        """Status and reason of the sandbox's condition."""
        found = self.status("sandboxes", name).get("conditions", ())
        return next(((c["status"], c["reason"]) for c in found if c["type"] == kind), None)

    def ready(self, name: str) -> bool:
        return self.condition(name) == ("True", "DependenciesReady")

    def container(self, name: str) -> dict[str, Any]:
        """The state of the pod's first container."""
        statuses = self.status("pods", name).get("containerStatuses") or [{}]
        return dict(statuses[0].get("state", {}))

    def reasons(self, name: str) -> set[str]:
        """The reasons of the pod's events."""
        asked = {"fieldSelector": f"involvedObject.name={name},involvedObject.kind=Pod"}
        return {
            e["reason"] for e in self.access.api("GET", self.path("events"), query=asked)["items"]
        }


@pytest.fixture
def place(kube: Access, namespace: str) -> Place:
    return Place(kube, namespace)


def soon(condition: Callable[[], bool], timeout: float = 30) -> None:
    assert wait_until(condition, timeout, every=0.02)


@pytest.mark.kube
class TestSandboxes:
    def test_sandbox_becomes_a_pod_and_ready(self, place: Place) -> None:
        place.sandbox("one")
        soon(lambda: place.ready("one"))
        status = place.status("pods", "one")
        assert status["phase"] == "Running"
        assert place.status("sandboxes", "one")["podIPs"] == [status["podIP"]]
        kubelet = {"Scheduled", "Pulling", "Pulled", "Created", "Started"}
        soon(lambda: kubelet <= place.reasons("one"))

    def test_old_version_is_converted_both_ways(self, place: Place) -> None:
        place.sandbox("old", version="v1alpha1", replicas=1)
        soon(lambda: place.ready("old"))
        new = place.get("sandboxes", "old")
        assert new is not None
        assert new["spec"]["operatingMode"] == "Running"
        path = place.path("sandboxes", "old", "v1alpha1")
        place.access.api("PATCH", path, {"spec": {"replicas": 0}})
        soon(lambda: place.get("pods", "old") is None)
        new = place.get("sandboxes", "old")
        assert new is not None
        assert new["spec"]["operatingMode"] == "Suspended"

    def test_suspended_sandbox_has_no_pod_and_gets_another(self, place: Place) -> None:
        place.sandbox("nap")
        soon(lambda: place.ready("nap"))
        path = place.path("sandboxes", "nap")
        place.access.api("PATCH", path, {"spec": {"operatingMode": "Suspended"}})
        soon(lambda: place.condition("nap", "Suspended") == ("True", "PodTerminated"))
        assert place.get("pods", "nap") is None
        place.access.api("PATCH", path, {"spec": {"operatingMode": "Running"}})
        soon(lambda: place.ready("nap"))

    def test_foreground_deletion_takes_the_pod_first(self, place: Place) -> None:
        place.sandbox("end", annotations={"kwok.test/linger": "1s"})
        soon(lambda: place.ready("end"))
        place.access.api("DELETE", place.path("sandboxes", "end"), FOREGROUND)
        left = place.get("sandboxes", "end")
        assert left is not None
        assert left["metadata"]["finalizers"] == ["foregroundDeletion"]
        assert place.get("pods", "end") is not None
        soon(lambda: place.get("sandboxes", "end") is None)
        assert place.get("pods", "end") is None

    def test_claim_is_given_a_volume_and_takes_it_along(self, place: Place) -> None:
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        template = {"metadata": {"name": "work"}, "spec": claim}
        place.sandbox("disk", volumeClaimTemplates=[template])
        soon(lambda: place.ready("disk"))
        assert place.status("persistentvolumeclaims", "work-disk")["phase"] == "Bound"
        place.access.api("DELETE", place.path("sandboxes", "disk"), FOREGROUND)
        soon(lambda: place.get("persistentvolumeclaims", "work-disk") is None)

    def test_quota_refuses_the_pod(self, place: Place) -> None:
        quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
        place.access.api("POST", place.path("resourcequotas"), quota)
        soon(lambda: "hard" in place.status("resourcequotas", "none"))
        place.sandbox("much")
        soon(lambda: place.condition("much") == ("False", "ReconcilerError"))


@pytest.mark.kube
class TestPods:
    def test_image_that_cannot_be_pulled(self, place: Place) -> None:
        place.sandbox("un", "peer/unpullable")
        waits = "ImagePullBackOff"
        soon(lambda: place.container("un").get("waiting", {}).get("reason") == waits)
        assert place.status("pods", "un")["phase"] == "Pending"
        soon(lambda: {"Failed", "BackOff"} <= place.reasons("un"))
        assert place.condition("un") == ("False", "DependenciesNotReady")

    def test_process_that_ends_at_once(self, place: Place) -> None:
        place.sandbox("crash", "peer/crash")
        place.sandbox("done", annotations={"kwok.test/exit": "0"})
        soon(lambda: place.condition("crash", "Finished") == ("True", "PodFailed"))
        soon(lambda: place.condition("done", "Finished") == ("True", "PodSucceeded"))
        assert place.container("crash")["terminated"]["exitCode"] == 1

    def test_process_that_ends_when_told(self, place: Place) -> None:
        place.sandbox("later")
        soon(lambda: place.ready("later"))
        told = {"kwok.test/exit": "137", "kwok.test/reason": "OOMKilled"}
        path = place.path("pods", "later")
        place.access.api("PATCH", path, {"metadata": {"annotations": told}})
        soon(lambda: place.condition("later") == ("False", "PodFailed"))
        ended = place.container("later")["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")

    def test_slow_pod_is_seen_to_be_made(self, place: Place) -> None:
        place.sandbox("slow", annotations={"kwok.test/slow": "1s"})
        waits = {"waiting": {"reason": "ContainerCreating"}}
        soon(lambda: place.container("slow") == waits)
        soon(lambda: place.ready("slow"))

    def test_gpus_run_out(self, place: Place) -> None:
        def wants(count: str) -> dict[str, Any]:
            limits = {"limits": {"nvidia.com/gpu": count}}
            return {"containers": [{"name": "agent", "image": "peer/gpu", "resources": limits}]}

        place.sandbox("many", podTemplate={"spec": wants("5")})
        soon(lambda: place.condition("many", "PodScheduled") == ("False", "Unschedulable"))
        place.sandbox("few", podTemplate={"spec": wants("1")})
        soon(lambda: place.ready("few"))
        assert place.status("sandboxes", "few")["nodeName"] == "node-gpu"


@pytest.mark.kube
class TestAccess:
    def test_token_is_bound_to_its_pod(self, place: Place) -> None:
        place.sandbox("who")
        soon(lambda: place.ready("who"))
        token = place.access.service_account_token(
            place.namespace, "default", ["gateway"], pod="who"
        )
        spec = {"token": token, "audiences": ["gateway"]}
        reviewed = place.access.api("POST", TOKEN_REVIEWS, {"spec": spec})["status"]
        assert reviewed["authenticated"]
        pod = place.get("pods", "who")
        assert pod is not None
        assert reviewed["user"]["extra"][f"{REVIEW}pod-name"] == ["who"]
        assert reviewed["user"]["extra"][f"{REVIEW}pod-uid"] == [pod["metadata"]["uid"]]
        other = {"token": token, "audiences": ["another"]}
        reviewed = place.access.api("POST", TOKEN_REVIEWS, {"spec": other})["status"]
        assert not reviewed.get("authenticated")

    def test_kubeconfigs_have_the_rights_of_their_user(self, place: Place) -> None:
        user = f"system:serviceaccount:{place.namespace}:default"
        ask = ("auth", "can-i", "create", "pods", "-n", place.namespace)
        assert place.access.kubectl(*ask).strip() == "yes"
        token = place.access.service_account_token(place.namespace, "default")
        for path in (place.access.kubeconfig_for(user), place.access.kubeconfig_for(token=token)):
            assert path.stat().st_mode & 0o077 == 0
            shown = place.access.kubectl("--kubeconfig", str(path), "auth", "whoami", "-o", "json")
            assert json.loads(shown)["status"]["userInfo"]["username"] == user
            with pytest.raises(PeerFailed, match="no"):
                place.access.kubectl("--kubeconfig", str(path), *ask)

    def test_refusal_says_why(self, place: Place) -> None:
        with pytest.raises(ApiError, match="404 NotFound") as refused:
            place.access.api("GET", place.path("pods", "none"))
        assert (refused.value.status, refused.value.reason) == (404, "NotFound")


@pytest.mark.kube
class TestDisturbances:
    def test_data_outlive_the_api_server(self, own_kube: Cluster) -> None:
        place = Place(own_kube, make_namespace(own_kube))
        place.sandbox("kept")
        soon(lambda: place.ready("kept"))
        for kill in (True, False):
            own_kube.stop_api(kill=kill)
            with pytest.raises(httpx.ConnectError):
                place.get("sandboxes", "kept")
            own_kube.start_api()
            assert place.ready("kept")
        place.sandbox("new")
        soon(lambda: place.ready("new"))

    def test_history_is_gone_after_a_compaction(self, own_kube: Cluster) -> None:
        place = Place(own_kube, make_namespace(own_kube))
        place.sandbox("seen")
        soon(lambda: place.ready("seen"))
        seen = own_kube.api("GET", place.path("sandboxes"))["metadata"]["resourceVersion"]
        assert own_kube.watch(place.path("sandboxes"), seen, timeout=1) == []
        own_kube.compact_etcd()
        (answer,) = own_kube.watch(place.path("sandboxes"), seen, timeout=1)
        assert (answer["type"], answer["object"]["code"]) == ("ERROR", 410)
        place.sandbox("after")
        soon(lambda: place.ready("after"))

    def test_frozen_api_server_answers_when_it_thaws(self, own_kube: Cluster) -> None:
        own_kube.freeze_api()
        try:
            with pytest.raises(httpx.TimeoutException):
                own_kube.api("GET", "/version", timeout=0.3)
        finally:
            own_kube.thaw_api()
        assert own_kube.api("GET", "/version")["gitVersion"].startswith("v1.")

    def test_paused_nodes_leave_pods_pending(self, own_kube: Cluster) -> None:
        place = Place(own_kube, make_namespace(own_kube))
        own_kube.pause_nodes()
        place.sandbox("held")
        soon(lambda: place.condition("held", "PodScheduled") == ("True", "PodScheduled"))
        assert place.status("pods", "held")["phase"] == "Pending"
        own_kube.resume_nodes()
        soon(lambda: place.ready("held"))


@pytest.mark.kube
class TestLives:
    def test_cluster_ends_when_its_owner_is_killed(self) -> None:
        code = (
            "import json, time\n"
            "from tests.peers.kube import Cluster\n"
            "with Cluster() as cluster:\n"
            "    told = {'pids': list(cluster.pids.values()), 'folder': str(cluster.folder)}\n"
            "    print(json.dumps(told), flush=True)\n"
            "    time.sleep(600)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, text=True
        ) as owner:
            assert owner.stdout is not None
            told = json.loads(owner.stdout.readline())
            assert len(told["pids"]) == 6
            assert all(group_alive(pid) for pid in told["pids"])
            owner.kill()
        soon(lambda: not any(group_alive(pid) for pid in told["pids"]), timeout=10)
        shutil.rmtree(told["folder"])

    def test_served_cluster_is_one_for_all_and_ends_with_its_owner(self, tmp_path: Path) -> None:
        state = tmp_path / "state"
        with subprocess.Popen(["sleep", "600"]) as owner:
            try:
                with ThreadPoolExecutor(2) as pool:
                    asked = [pool.submit(ensure_served, state, owner.pid) for _ in range(2)]
                    first, second = (each.result() for each in asked)
                assert first.server == second.server
                assert first.api("GET", "/version")["major"] == "1"
                assert is_served(state)
                assert first.ca_file.exists()
                first.disconnect()
            finally:
                owner.kill()
        soon(lambda: not is_served(state))
        assert not stop_serving(state)
        assert not first.folder.exists()


@pytest.mark.kube
def test_failed_start_says_why(own_kube: Cluster) -> None:
    second = Cluster()
    try:
        with pytest.raises(PeerFailed, match="the API server's start: not in 0 s; the logs end"):
            second.start(timeout=0.2)
        assert second.pids == {}
    finally:
        second.close()
    assert not second.folder.exists()
    with pytest.raises(PeerFailed, match="running already"):
        own_kube.start()


def test_kubernetes_that_cannot_be_had_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSHELL_DRIVERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(go, "USUAL_GO", tmp_path / "go")
    monkeypatch.delenv("OPENSHELL_DRIVERS_INSTALL", raising=False)
    with pytest.raises(PeerMissing, match="is missing; OPENSHELL_DRIVERS_INSTALL=1"):
        ensure_kubernetes()
    assert [left.name for left in (tmp_path / "cache").iterdir()] == ["kubernetes.lock"]
