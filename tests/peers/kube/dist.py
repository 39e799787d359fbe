"""Builds the programs of a Kubernetes from source, into the cache, with the pins in `modules`.

Nobody offers them as a package, but the Go module proxy has their source: four small modules of
ours name the versions and the checksums of all that goes in. Go's own caches are used as they are.

Measured on two cores: 7 minutes with an empty build cache, of which the four programs of
Kubernetes take 4.5; with a full one 20-50 s. 450 MB stay in our cache, several GB in Go's own.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.peers.cache import cache_folder, locked, made_cache_folder, run
from tests.peers.kube.go import ensure_go, go_environment

KUBERNETES_VERSION = "1.36.3"
AGENT_SANDBOX_VERSION = "0.5.6"
SANDBOX_CRD = "agents.x-k8s.io_sandboxes.yaml"
_LAYOUT = 1  # goes up with each change to how the cache is filled, or to the pins
_MODULES = Path(__file__).parent / "modules"
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_VERSION = "k8s.io/component-base/version"
# Without these the server says v0.0.0, and clients that look at its version are led astray.
_KUBERNETES_STAMP = (
    f"-X {_VERSION}.gitVersion=v{KUBERNETES_VERSION}"
    f" -X {_VERSION}.gitMajor={_MAJOR} -X {_VERSION}.gitMinor={_MINOR}"
)


@dataclass(frozen=True)
class _Module:
    """A folder in `modules`, its programs by the name they get, and what it is stamped with."""

    name: str
    programs: tuple[tuple[str, str], ...]
    stamp: str = ""


_BUILDS = (
    _Module("etcd", (("etcd", "go.etcd.io/etcd/server/v3"),)),
    _Module("kwok", (("kwok", "sigs.k8s.io/kwok/cmd/kwok"),)),
    _Module(
        "agent-sandbox",
        (("agent-sandbox-controller", "sigs.k8s.io/agent-sandbox/cmd/agent-sandbox-controller"),),
    ),
    _Module(
        "kubernetes",
        tuple(
            (name, f"k8s.io/kubernetes/cmd/{name}")
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
        ),
        _KUBERNETES_STAMP,
    ),
)


def kubernetes_folder() -> Path:
    """Return where in the cache the programs are, or would be."""
    versions = f"{KUBERNETES_VERSION}-sandbox-{AGENT_SANDBOX_VERSION}"
    return cache_folder() / f"kubernetes-{versions}-{_LAYOUT}"


def ensure_kubernetes(tell: Callable[[str], None] = lambda _: None) -> Path:
    """Return the folder with the programs and the Sandbox CRD, building them where it is not there.

    PeerMissing where they cannot be built. `tell` hears what is going on.
    """
    target = kubernetes_folder()
    if target.is_dir():
        return target
    cache = made_cache_folder("Kubernetes")
    with locked(cache / "kubernetes.lock"):
        if not target.is_dir():
            _fill(target, tell)
    return target


def _fill(target: Path, tell: Callable[[str], None]) -> None:
    go = ensure_go()
    with tempfile.TemporaryDirectory(prefix=".kubernetes-", dir=target.parent) as name:
        out = Path(name) / "out"
        out.mkdir()
        for module in _BUILDS:
            for program, package in module.programs:
                tell(f"building {program}")
                _build(go, module, package, out / program)
        _copy_crd(go, out)
        out.rename(target)


def _build(go: Path, module: _Module, package: str, program: Path) -> None:
    stamp = ["-ldflags", f"-s -w {module.stamp}".rstrip()]
    command = [str(go), "build", *stamp, "-o", str(program), package]
    run(command, timeout=3600, env=go_environment(go), cwd=_MODULES / module.name)


def _copy_crd(go: Path, out: Path) -> None:
    command = [str(go), "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/agent-sandbox"]
    home = run(command, 300, env=go_environment(go), cwd=_MODULES / "agent-sandbox").strip()
    shutil.copyfile(Path(home) / "k8s" / "crds" / SANDBOX_CRD, out / SANDBOX_CRD)
