"""The manifests build, a real API server takes them, and the containers in them run."""

from __future__ import annotations

import json
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from examples.k8s_compute.tests import containers
from examples.k8s_compute.tests.containers import Pod
from examples.k8s_compute.tests.deployment import (
    ACCOUNT,
    COMPUTE,
    CREDENTIALS,
    DEPLOY,
    GATEWAY,
    Object,
    Tenant,
    applied,
    built,
    container,
    copied,
    deployed,
    found,
    plain_environment,
    pod_spec,
    renamed,
)
from tests.peers.kube import Access, ApiError
from tests.peers.processes import tail

pytestmark = pytest.mark.kube

FOLDERS: Final = sorted(each.parent for each in DEPLOY.rglob("kustomization.yaml"))
KINDS: Final = {each: yaml.safe_load((each / "kustomization.yaml").read_text()) for each in FOLDERS}
# OpenShift's own kind is known to no API server here.
OPENSHIFT: Final = DEPLOY / "openshift" / "cluster"
WHOLE: Final = [
    each for each in FOLDERS if KINDS[each]["kind"] == "Kustomization" and each != OPENSHIFT
]
TENANTS: Final = sorted(each for each in (DEPLOY / "tenants").iterdir())
RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}
SIDECARS: Final = {COMPUTE: "compute", CREDENTIALS: "credentials"}


def name_of(folder: Path) -> str:
    return str(folder.relative_to(DEPLOY))


def test_every_folder_is_reached() -> None:
    """A component can only be built as a part, so each has to be a part of something."""
    used = {
        (folder / each).resolve()
        for folder in FOLDERS
        for each in (*KINDS[folder].get("components", ()), *KINDS[folder].get("resources", ()))
    }
    assert {each for each in FOLDERS if each not in used} == {
        DEPLOY / "cluster",
        DEPLOY / "managed",
        DEPLOY / "operator",
        OPENSHIFT,
        *TENANTS,
    }


@pytest.mark.parametrize("folder", WHOLE, ids=name_of)
def test_the_api_server_takes_it(
    kube: Access, namespace: str, tmp_path: Path, folder: Path
) -> None:
    tree = copied(tmp_path)
    if folder.is_relative_to(DEPLOY / "tenants"):
        template = folder.relative_to(DEPLOY / "tenants").parts[0]
        renamed(tree / "tenants" / template, template, f"t{namespace[5:]}")
        objects = built(tree / name_of(folder))
    else:
        wrapped = {"resources": [f"../{name_of(folder)}"], "namespace": namespace}
        (tree / "wrapped").mkdir()
        (tree / "wrapped" / "kustomization.yaml").write_text(yaml.safe_dump(wrapped))
        objects = built(tree / "wrapped")
    # A namespace has to be there for what is in it, even if that is only tried.
    spaces = [each for each in objects if each["kind"] == "Namespace"]
    if spaces:
        applied(kube, spaces)
    text = applied(kube, objects, "--dry-run=server")
    assert len(text.splitlines()) == len(objects)
    for each in spaces:
        kube.remove(f"/api/v1/namespaces/{each['metadata']['name']}")


def gateways(folder: Path) -> Object:
    return pod_spec(built(folder))


@pytest.fixture
def restricted(kube: Access, namespace: str) -> str:
    kube.api("PATCH", f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": RESTRICTED}})
    account = {"metadata": {"name": ACCOUNT}}
    kube.api("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    return namespace


def tried(kube: Access, namespace: str, spec: Object) -> None:
    """Have the API server look at a pod. The StatefulSet brings a volume of its own."""
    data = {"name": "data", "emptyDir": {}}
    kube.api(
        "POST",
        f"/api/v1/namespaces/{namespace}/pods",
        {"metadata": {"name": "tried"}, "spec": {**spec, "volumes": [*spec["volumes"], data]}},
        query={"dryRun": "All", "fieldValidation": "Strict"},
    )


@pytest.mark.parametrize("folder", TENANTS, ids=name_of)
def test_the_gateways_pod_is_restricted(kube: Access, restricted: str, folder: Path) -> None:
    tried(kube, restricted, gateways(folder))


@pytest.mark.parametrize("name", [COMPUTE, CREDENTIALS, GATEWAY])
def test_without_its_limits_it_would_not_be(kube: Access, restricted: str, name: str) -> None:
    spec = gateways(DEPLOY / "tenants" / "team1")
    del container(spec, name)["securityContext"]["capabilities"]
    with pytest.raises(ApiError, match="violates PodSecurity") as refused:
        tried(kube, restricted, spec)
    assert name in str(refused.value)


@pytest.mark.parametrize("folder", TENANTS, ids=name_of)
def test_only_the_compute_driver_has_the_accounts_token(folder: Path) -> None:
    objects = built(folder)
    spec = pod_spec(objects)
    assert spec["automountServiceAccountToken"] is False
    assert found(objects, "ServiceAccount", ACCOUNT)["automountServiceAccountToken"] is False
    tokens = {
        volume["name"]
        for volume in spec["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
        if "serviceAccountToken" in source
    }
    holders = {
        each["name"]
        for each in (*spec["initContainers"], *spec["containers"])
        for mount in each["volumeMounts"]
        if mount["name"] in tokens
    }
    assert holders == {COMPUTE}


@pytest.mark.parametrize("folder", TENANTS, ids=name_of)
def test_each_driver_is_a_native_sidecar_with_a_socket_of_its_own(folder: Path) -> None:
    spec = gateways(folder)
    for each in spec["initContainers"]:
        assert each["restartPolicy"] == "Always"
        assert {"startupProbe", "readinessProbe", "resources"} <= each.keys()
        kind = SIDECARS[each["name"]]
        volumes = {mount["name"] for mount in each["volumeMounts"]}
        sockets = {f"{other}-socket" for other in SIDECARS.values()}
        assert volumes & sockets == {f"{kind}-socket"}
    for each in (*spec["initContainers"], *spec["containers"]):
        assert each["securityContext"]["readOnlyRootFilesystem"] is True
        assert each["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("folder", TENANTS, ids=name_of)
def test_the_gateway_is_told_where_the_drivers_listen(folder: Path) -> None:
    objects = built(folder)
    spec = pod_spec(objects)
    sockets = {
        key: value
        for each in spec["initContainers"]
        for key, value in plain_environment(each).items()
        if key.endswith("_DRIVER_SOCKET")
    }
    text = found(objects, "ConfigMap", "openshell-gateway")["data"]["gateway.toml"]
    drivers: Any = tomllib.loads(text)["openshell"].get("drivers")
    if drivers is None:  # the kagenti line
        told = plain_environment(container(spec, GATEWAY))
        assert told["OPENSHELL_DRIVERS"] == "external"
        assert sockets.items() <= told.items()
    else:
        assert drivers["k8s"]["socket_path"] == sockets["OPENSHELL_COMPUTE_DRIVER_SOCKET"]


# The containers, run.


@pytest.fixture(params=["team1", "team2"], ids=["same-uid", "shared-group"])
def tenant(kube: Access, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    if not containers.can_run():
        pytest.skip("no mounts can be made here")
    # team2 has no credentials driver; here it has one, to see it as a user of its own.
    with deployed(kube, tmp_path, request.param, credentials=request.param == "team2") as made:
        yield made


@pytest.fixture
def pod(tenant: Tenant, short_dir: Path) -> Pod:
    def configured(name: str) -> dict[str, str]:
        files: dict[str, str] = found(tenant.objects, "ConfigMap", name)["data"]
        return files

    files = {
        "compute-config": configured("openshell-compute"),
        "gateway-config": configured("openshell-gateway"),
    }
    files["api-token"] = {
        "token": tenant.token,
        "namespace": tenant.name,
        "ca.crt": tenant.kube.ca_file.read_text(),
    }
    files["credentials-config"] = configured("openshell-credentials")
    files["credentials-secrets"] = {"github-secret": "canary"}
    spec = pod_spec(tenant.objects)
    host, port = tenant.kube.server.removeprefix("https://").split(":")
    added = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    # An image has no trio, which is here for other tests: the HTTP client imports it where it is,
    # and it cannot be imported without a folder for temporary files.
    (short_dir / "without").mkdir()
    (short_dir / "without" / "trio.py").write_text("raise ImportError")
    added["PYTHONPATH"] = str(short_dir / "without")
    spec["volumes"].append({"name": "data", "emptyDir": {}})
    return Pod(spec, short_dir, files, added)


def ends(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(15)


def test_probes_follow_the_compute_driver_and_the_gateway_reaches_it(
    pod: Pod, tmp_path: Path
) -> None:
    before = pod.probe(COMPUTE, "readinessProbe")
    assert before.returncode == 1
    assert "no socket yet" in before.stderr
    log = tmp_path / "log"
    with log.open("wb") as output:
        driver = subprocess.Popen(pod.command(COMPUTE), stdout=output, stderr=output)
    try:
        for kind in ("startupProbe", "readinessProbe"):
            probe = pod.probe(COMPUTE, kind)
            assert probe.returncode == 0, probe.stderr + tail(log)
        socket = plain_environment(container(pod.spec, COMPUTE))["OPENSHELL_COMPUTE_DRIVER_SOCKET"]
        user = ["openshell-drivers", "gateway", "--socket", socket, "--state", "/tmp/state"]
        for command in ("create", "stop", "start", "delete"):
            done = subprocess.run(
                pod.command(GATEWAY, [*user, command, "one"]),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr + tail(log)
        foreign = pod.probe(
            COMPUTE, "readinessProbe", runAsUser=4000, runAsGroup=4000, fsGroup=4000
        )
        assert foreign.returncode == 1
    finally:
        assert ends(driver) == 0, tail(log)
    after = pod.probe(COMPUTE, "readinessProbe")
    assert after.returncode == 1
    levels = [json.loads(line)["level"] for line in log.read_text().splitlines()]
    assert set(levels) == {"info"}, log.read_text()


def test_probes_follow_the_credentials_driver(pod: Pod, tmp_path: Path) -> None:
    assert pod.probe(CREDENTIALS, "readinessProbe").returncode == 1
    log = tmp_path / "log"
    with log.open("wb") as output:
        driver = subprocess.Popen(pod.command(CREDENTIALS), stdout=output, stderr=output)
    try:
        for kind in ("startupProbe", "readinessProbe"):
            probe = pod.probe(CREDENTIALS, kind)
            assert probe.returncode == 0, probe.stderr + tail(log)
        socket = plain_environment(container(pod.spec, CREDENTIALS))[
            "OPENSHELL_CREDENTIALS_DRIVER_SOCKET"
        ]
        command = ["openshell-drivers", "call", "--socket", socket, "list"]
        listed = subprocess.check_output(pod.command(GATEWAY, command), text=True, timeout=30)
        assert "github" in listed
    finally:
        assert ends(driver) == 0, tail(log)
    assert pod.probe(CREDENTIALS, "readinessProbe").returncode == 1
