"""The manifests as an operator uses them: built with kubectl, applied, and read back."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from openshell_compute_k8s import KubernetesConfig

from tests.peers.kube import Access, ensure_kubernetes
from tests.peers.processes import PeerFailed, wait_until

DEPLOY: Final = Path(__file__).parents[1] / "deploy"
ACCOUNT: Final = "openshell-gateway"
COMPUTE: Final = "compute-driver"
CREDENTIALS: Final = "credentials-driver"
GATEWAY: Final = "gateway"
AUDIENCE: Final = "openshell-gateway"
ONCE: Final = ("cluster", "managed", "operator", "openshift/cluster")
"""What a cluster's administrator applies, once."""
UNKNOWN: Final = "SecurityContextConstraints"
"""OpenShift's own kind, which no API server here knows."""
_VARIABLE: Final = "OPENSHELL_DRIVER_CONFIG_"
_TRIES: Final = 3

Object = dict[str, Any]


def built(folder: Path) -> list[Object]:
    """Build a kustomization."""
    kubectl = ensure_kubernetes() / "kubectl"
    done = subprocess.run(
        [str(kubectl), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise PeerFailed(done.stderr)
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def copied(folder: Path) -> Path:
    """Copy the manifests, to be changed as an operator does."""
    return Path(shutil.copytree(DEPLOY, folder / "deploy"))


def renamed(folder: Path, template: str, name: str) -> None:
    """Give a copied tenant another name."""
    for path in folder.rglob("*.yaml"):
        path.write_text(path.read_text().replace(template, name))


def found(objects: Iterable[Object], kind: str, name: str = "") -> Object:
    """Find the one object of a kind, or of a name that may have a hash behind it."""
    named = [each for each in objects if each["kind"] == kind]
    [one] = [each for each in named if not name or each["metadata"]["name"].startswith(name)]
    return one


def pod_spec(objects: Iterable[Object]) -> Object:
    """Give the gateway's pod."""
    spec: Object = found(objects, "StatefulSet")["spec"]["template"]["spec"]
    return spec


def pod_labels(objects: Iterable[Object]) -> dict[str, str]:
    """Give the labels of the gateway's pod."""
    labels: dict[str, str] = found(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    return labels


def pod_selectors(objects: Iterable[Object]) -> Iterator[dict[str, str]]:
    """Give the labels that pods are selected by: in services, sets, and network policies, that
    which the driver makes included. What selects all pods is left out."""
    for each in objects:
        if each["kind"] == "Service":
            yield each["spec"]["selector"]
        elif each["kind"] == "ConfigMap":
            driver = yaml.safe_load(each["data"].get("compute.yaml", "{}"))
            yield from filter(None, [driver.get("workspaces", {}).get("gateway_pods")])
        else:
            yield from filter(None, map(_matched, _selectors(each.get("spec", {}))))


def _selectors(part: Any) -> Iterator[Object]:
    """Find all selectors of pods, however deep."""
    if isinstance(part, list):
        for each in part:
            yield from _selectors(each)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key in {"selector", "podSelector"}:
                yield value
            yield from _selectors(value)


def _matched(selector: Object) -> dict[str, str]:
    assert selector.keys() <= {"matchLabels"}, "expressions are not looked at here"
    labels: dict[str, str] = selector.get("matchLabels", {})
    return labels


def container(spec: Object, name: str) -> Object:
    """Give a container of a pod, whatever its kind."""
    [one] = [
        each for each in (*spec["initContainers"], *spec["containers"]) if each["name"] == name
    ]
    return dict(one)


def plain_environment(of: Object) -> dict[str, str]:
    """Give the variables of a container that are written out."""
    return {each["name"]: each["value"] for each in of.get("env", ()) if "value" in each}


def applied(kube: Access, objects: Iterable[Object], *options: str) -> str:
    """Apply objects as the server sees them, with unknown fields as errors."""
    text = yaml.safe_dump_all(list(objects))
    return kube.kubectl(
        "apply", "--server-side", "--validate=strict", *options, "-f", "-", input=text
    )


@dataclass(frozen=True)
class Tenant:
    """One of the tenants in ``deploy/tenants``, under a name that is in use nowhere else."""

    kube: Access
    name: str
    objects: tuple[Object, ...]

    @property
    def token(self) -> str:
        """A token of the account that the driver has."""
        return self.kube.service_account_token(self.name, ACCOUNT)

    def config(self, **more: Any) -> KubernetesConfig:
        """Give the driver's configuration as the tenant's pod has it, and more."""
        files = found(self.objects, "ConfigMap", "openshell-compute")["data"]
        values = yaml.safe_load(files["compute.yaml"])
        for key, value in plain_environment(container(pod_spec(self.objects), COMPUTE)).items():
            if key.startswith(_VARIABLE):
                values[key.removeprefix(_VARIABLE).lower()] = yaml.safe_load(value)
        access = self.kube.kubeconfig_for(token=self.token, namespace=self.name)
        return KubernetesConfig.model_validate({**values, "kubeconfig": access, **more})


@contextmanager
def deployed(
    kube: Access,
    folder: Path,
    template: str,
    *,
    rules: list[Object] | None = None,
    credentials: bool = False,
) -> Iterator[Tenant]:
    """Apply all that a tenant wants of the cluster, and then the tenant, without its pod.

    With `rules`, its account has these rights and no others. With `credentials`, a tenant whose
    gateway has a folder of its own gets that driver, too.
    """
    tree, name = copied(folder), f"t{uuid.uuid4().hex[:8]}"
    renamed(tree / "tenants" / template, template, name)
    if credentials:
        _add_component(tree / "tenants" / template / "gateway", "../../../credentials")
    objects = tuple(built(tree / "tenants" / template))
    if rules is not None:
        found(objects, "Role")["rules"] = rules
        objects = tuple(each for each in objects if each["kind"] != "ClusterRoleBinding")
    _prepare(kube)
    try:
        # No image of it can be had here; its containers run in other tests.
        _applied_again(kube, [each for each in objects if each["kind"] != "StatefulSet"])
        _await_quotas(kube, objects)
        yield Tenant(kube, name, objects)
    finally:
        _delete(kube, objects)


def _add_component(folder: Path, component: str) -> None:
    path = folder / "kustomization.yaml"
    whole = yaml.safe_load(path.read_text())
    whole["components"].insert(0, component)
    path.write_text(yaml.safe_dump(whole))


@cache
def _prepare(kube: Access) -> None:
    """Apply what there is once for a cluster; before that, another worker may have done so."""
    objects = [each for name in ONCE for each in built(DEPLOY / name)]
    _applied_again(kube, [each for each in objects if each["kind"] != UNKNOWN])


def _applied_again(kube: Access, objects: list[Object]) -> None:
    """Apply; another worker may do the same at the same moment, or a namespace be new."""
    for left in reversed(range(_TRIES)):
        try:
            applied(kube, objects)
        except PeerFailed:
            if not left:
                raise
        else:
            return


def _await_quotas(kube: Access, objects: Iterable[Object]) -> None:
    """Wait until quotas are counted: until then nothing is let in."""
    paths = [
        f"/api/v1/namespaces/{each['metadata']['namespace']}/resourcequotas/{each['metadata']['name']}"
        for each in objects
        if each["kind"] == "ResourceQuota"
    ]
    if not wait_until(lambda: all(_is_counted(kube.api("GET", path)) for path in paths), 30):
        raise PeerFailed("a quota is not counted")


def _is_counted(quota: Object) -> bool:
    used: Object = quota.get("status", {}).get("used", {})
    return set(used) == set(quota["spec"]["hard"])


def _delete(kube: Access, objects: Iterable[Object]) -> None:
    for each in objects:
        if each["kind"] in {"Namespace", "ClusterRoleBinding"}:
            group = "/api/v1" if each["kind"] == "Namespace" else f"/apis/{each['apiVersion']}"
            kube.remove(f"{group}/{each['kind'].lower()}s/{each['metadata']['name']}")
