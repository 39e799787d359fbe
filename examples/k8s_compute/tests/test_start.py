"""A driver starts without its cluster, and without what it needs to reach one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from openshell_compute_k8s import KubernetesConfig, KubernetesDriver

from openshell_drivers import SandboxRef, Unavailable
from openshell_drivers.client import connect
from openshell_drivers.server import running

HEAVY = ("lightkube", "httpx2", "msgspec", "yaml", "grpc")


def kubeconfig(folder: Path, server: str, **user: Any) -> Path:
    """Say how to reach a cluster that is not there."""
    one = {"name": "one"}
    document = {
        "clusters": [{**one, "cluster": {"server": server}}],
        "users": [{**one, "user": {"token": "canary-token", **user}}],
        "contexts": [{**one, "context": {"cluster": "one", "user": "one"}}],
        "current-context": "one",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return path


def test_importing_the_driver_imports_no_client() -> None:
    script = (
        "import sys, openshell_compute_k8s\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("server", ["https://192.0.2.1:6443", "https://127.0.0.1:1"])
async def test_capabilities_need_no_cluster_and_nothing_is_said_to_be_gone(
    short_dir: Path, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = KubernetesConfig(kubeconfig=kubeconfig(short_dir, server), connect_timeout=1.0)
    began = time.monotonic()
    socket = short_dir / "run" / "s"
    async with running(KubernetesDriver(config), socket=socket), connect(socket) as caller:
        capabilities = await caller.compute.get_capabilities()
        assert capabilities.driver_name == "k8s"
        assert capabilities.supports_sandbox_authentication
        assert time.monotonic() - began < 5
        with pytest.raises(Unavailable):
            await caller.compute.list_sandboxes()
        with pytest.raises(Unavailable):
            await caller.compute.get_sandbox(SandboxRef(id="one"))
        with pytest.raises(Unavailable) as refused:
            await caller.compute.delete_sandbox(SandboxRef(id="one"))
        assert "canary" not in str(refused.value)
    assert "canary" not in caplog.text


@pytest.mark.parametrize("user", [{"as-user-extra": {"a": ["b"]}}, {"exec": 7}])
def test_a_kubeconfig_that_cannot_be_followed_ends_the_process_with_a_word(
    short_dir: Path, user: dict[str, Any]
) -> None:
    path = kubeconfig(short_dir, "https://127.0.0.1:1", **user)
    done = subprocess.run(
        [sys.executable, "-m", "openshell_compute_k8s", "--socket", "s", "--kubeconfig", str(path)],
        cwd=short_dir,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert "there is no usable configuration of a cluster" in done.stderr + done.stdout
    assert "canary" not in done.stderr + done.stdout


def test_the_configuration_is_held_to_its_rules() -> None:
    for wrong in (
        {"default_image": "two words"},
        {"gateway_id": "not a label/value"},
        {"workspaces": {"mode": "operator"}, "gateway_id": "a"},
        {"request_timeout": 0},
        {"unknown": 1},
    ):
        with pytest.raises(ValueError, match="validation error"):
            KubernetesConfig(**wrong)
