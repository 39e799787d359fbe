"""An OpenShell compute driver that runs sandboxes on Kubernetes, as agent-sandbox resources."""

from __future__ import annotations

from openshell_compute_k8s.config import KubernetesConfig as KubernetesConfig
from openshell_compute_k8s.config import WorkspacesConfig as WorkspacesConfig
from openshell_compute_k8s.driver import KubernetesDriver as KubernetesDriver
from openshell_compute_k8s.pod_config import PodConfig as PodConfig

__all__ = ["KubernetesConfig", "KubernetesDriver", "PodConfig", "WorkspacesConfig"]
