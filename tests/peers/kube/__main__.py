"""Fills the cache, or runs a cluster by hand: `python -m tests.peers.kube --help`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.peers.cache import cache_folder
from tests.peers.kube.access import Access
from tests.peers.kube.cluster import Cluster
from tests.peers.kube.dist import ensure_kubernetes
from tests.peers.kube.serving import ensure_served, is_served, serve, stop_serving
from tests.peers.processes import PeerFailed, PeerMissing

DEFAULT_NAMESPACE = "sandboxes"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command says; 1 where there is no Kubernetes or it fails, or none runs."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (PeerMissing, PeerFailed) as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.peers.kube", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="fill the cache").set_defaults(run=_fetch)
    run = commands.add_parser("run", help="serve until interrupted")
    run.add_argument("--kubeconfig", type=Path, help="where to put an administrator's kubeconfig")
    run.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="one to make (%(default)s)")
    run.set_defaults(run=_run)
    up = commands.add_parser("up", help="start one in the background")
    up.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="one to make (%(default)s)")
    up.set_defaults(run=_up)
    commands.add_parser("down", help="end the one in the background").set_defaults(run=_down)
    commands.add_parser("status", help="say whether it runs").set_defaults(run=_status)
    commands.add_parser("env", help="print what a shell needs of it").set_defaults(run=_env)
    served = commands.add_parser("serve")
    served.add_argument("folder", type=Path)
    served.add_argument("--owner", type=int)
    served.set_defaults(run=lambda options: serve(options.folder, options.owner))
    return parser


def _state() -> Path:
    """Where the cluster in the background is known from; it is the user's own."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "openshell-drivers-kube" if runtime else cache_folder() / "kube-state"


def _fetch(_: argparse.Namespace) -> None:
    began = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {what}", file=sys.stderr, flush=True)

    print(ensure_kubernetes(tell))


def _run(options: argparse.Namespace) -> None:
    _fetch(options)
    with tempfile.TemporaryDirectory(prefix="kube-run-") as folder:
        serve(Path(folder), None, lambda cluster: _introduce(cluster, options))
    if options.kubeconfig is not None:
        options.kubeconfig.unlink(missing_ok=True)
    print("stopped", flush=True)


def _introduce(cluster: Cluster, options: argparse.Namespace) -> None:
    kubeconfig = _prepare(cluster, options.namespace, options.kubeconfig)
    _explain(cluster, kubeconfig)
    print("Ctrl-C ends it.", flush=True)


def _prepare(access: Access, namespace: str, kubeconfig: Path | None) -> Path:
    """Make the namespace and a kubeconfig that works in it."""
    access.api("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    written = access.kubeconfig_for(namespace=namespace)
    if kubeconfig is None:
        return written
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_bytes(written.read_bytes())
    return kubeconfig.resolve()


def _explain(access: Access, kubeconfig: Path) -> None:
    print(f"A Kubernetes with agent-sandbox serves on {access.server}.")
    print("Point the driver, or any client, at it:")
    print(f"  export KUBECONFIG={kubeconfig}")
    print("for the driver also in this way:")
    print(f"  openshell-drivers run k8s --socket run/k8s.sock --set kubeconfig={kubeconfig}")
    print("and look on:")
    print(f"  {access.binaries / 'kubectl'} get sandboxes,pods --watch")


def _up(options: argparse.Namespace) -> None:
    folder = _state()
    if is_served(folder):
        print("it runs already", file=sys.stderr)
    else:
        _fetch(options)
        access = ensure_served(folder)
        _prepare(access, options.namespace, folder / "kubeconfig")
        _explain(access, folder / "kubeconfig")


def _down(_: argparse.Namespace) -> int:
    stopped = stop_serving(_state())
    (_state() / "kubeconfig").unlink(missing_ok=True)
    print("stopped" if stopped else "none runs")
    return 0


def _status(_: argparse.Namespace) -> int:
    folder = _state()
    if not is_served(folder):
        print("none runs")
        return 1
    print(f"runs on {Access.load(folder / 'access.json').server}")
    return 0


def _env(_: argparse.Namespace) -> int:
    folder = _state()
    if not is_served(folder):
        print("none runs; start one with scripts/kube up", file=sys.stderr)
        return 1
    binaries = Access.load(folder / "access.json").binaries
    print(f"export KUBECONFIG={folder / 'kubeconfig'}")
    print(f'export PATH="{binaries}:$PATH"')
    return 0


if __name__ == "__main__":
    sys.exit(main())
