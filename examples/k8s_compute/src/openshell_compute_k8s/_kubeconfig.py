"""How a cluster is reached: a pod's own account or a kubeconfig, as lightkube reads them.

Imports lightkube, so it is imported late.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import httpx2 as httpx
import yaml
from lightkube.config.client_adapter import ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError as KubeconfigError

from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import FailedPrecondition

UNREADABLE: Final = (KubeconfigError, KeyError, OSError, ValueError, TypeError)
"""What lightkube raises for a configuration that cannot be used, and for a plug-in that fails."""


def read(config: KubernetesConfig) -> tuple[str, dict[str, Any]]:
    """Read the namespace, and what an HTTP client needs; ``token_file`` is a path or nothing.

    Asks the cluster nothing. Blocks for a moment. Raises `FailedPrecondition` for what cannot be
    used, without a word of what was read.
    """
    try:
        single = _found(config).get(context_name=config.context or None)
        if single is not None:
            return single.namespace or "default", _wanted(single, config.request_timeout)
    except (yaml.YAMLError, AttributeError, *UNREADABLE):
        pass
    # Out here what was read, which may hold credentials, is forgotten.
    where = "in $KUBECONFIG, in ~/.kube/config, nor by a pod's service account"
    if config.kubeconfig is not None:
        where = "in the file that kubeconfig names"
    context = ", or it lacks the context" if config.context else ""
    raise FailedPrecondition(f"there is no usable configuration of a cluster {where}{context}")


def _found(config: KubernetesConfig) -> KubeConfig:
    if config.kubeconfig is None:
        return KubeConfig.from_env()
    return KubeConfig.from_file(config.kubeconfig)


def _wanted(single: SingleConfig, timeout: float) -> dict[str, Any]:
    params = ConnectionParams(timeout=httpx.Timeout(timeout))
    wanted: dict[str, Any] = params.httpx_params(single)
    wanted["token_file"] = single.user and single.user.token_file
    wanted["headers"] = _impersonating(single)
    if wanted["token_file"]:
        # lightkube reads it again only after a 401; `TokenFile` follows each rotation.
        wanted["auth"] = None
    return wanted


def _impersonating(single: SingleConfig) -> list[tuple[str, str]]:
    """Read whom a kubeconfig's user acts as, which lightkube does not look at."""
    if single.fname is None:
        return []
    document = yaml.safe_load(Path(single.fname).read_text()) or {}
    for each in document.get("users", []):
        if each.get("name") == single.context.user:
            user = each.get("user") or {}
            groups = [("Impersonate-Group", str(group)) for group in user.get("as-groups") or ()]
            one = [
                (header, str(user[key]))
                for key, header in (("as", "Impersonate-User"), ("as-uid", "Impersonate-Uid"))
                if user.get(key)
            ]
            if user.get("as-user-extra"):
                raise ValueError("not supported")
            return [*one, *groups]
    return []
