"""The console script."""

from __future__ import annotations

from openshell_compute_k8s.driver import KubernetesDriver
from openshell_drivers.cli import driver_main


def main() -> None:
    """Serve until told to stop; exits non-zero on a configuration that cannot work."""
    driver_main(
        KubernetesDriver,
        socket="/run/drivers/compute.sock",
        config_flags={
            "namespace": "namespace",
            "kubeconfig": "kubeconfig",
            "gateway-id": "gateway_id",
            "default-image": "default_image",
        },
    )
