"""The variables of the sandbox's container: the user's below, the driver's above (COMP-IN-03)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from openshell_compute_k8s._launch_paths import (
    LAUNCH_FILE,
    LAUNCH_PUBLIC_FILE,
    PUBLIC_FILE,
    SUPERVISOR_FILE,
)
from openshell_compute_k8s._security import WorkloadUser
from openshell_compute_k8s.pod_config import SANDBOX_GID, SANDBOX_UID, PodConfig
from openshell_compute_k8s.pod_parts import ClientTlsConfig
from openshell_drivers import InvalidArgument, SandboxSpec
from openshell_drivers import environment as env

TELEMETRY_ENABLED: Final = "OPENSHELL_TELEMETRY_ENABLED"
RUNTIME_CAPABILITIES: Final = "OPENSHELL_NETWORK_RUNTIME_CAPABILITIES"
"""What a driver's network offers the supervisor: here nothing, whatever the image says."""

_LONGEST: Final = 128 * 1024
"""Bytes of one variable, its name and a NUL included, that Linux hands to a process."""
_AWAITS: Final = "await_main_process_attachment"


def variables(spec: SandboxSpec, config: PodConfig, user: WorkloadUser) -> list[dict[str, Any]]:
    """Make the container's ``env``, by name, with no secret's value in it.

    Raises `InvalidArgument` for a variable that is longer than Linux takes.
    """
    plain = env.compose(spec, {**config.environment, **_own(spec, config, user)})
    secrets = config.environment_from_secrets
    made = {name: _plain(name, value) for name, value in plain.items()}
    for name, ref in secrets.items():
        key = {"name": ref.secret, "key": ref.key}
        made[name] = {"name": name, "valueFrom": {"secretKeyRef": key}}
    return [made[name] for name in sorted(made)]


def for_restart(template: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a pod template without the wish to wait for the creating client, which holds for the
    create only (COMP01-IN-04)."""
    copied = deepcopy(dict(template))
    for container in copied["spec"]["containers"]:
        for variable in container.get("env", ()):
            if variable["name"] == env.MAIN_PROCESS_SPEC:
                process = json.loads(_unescaped(variable["value"]))
                process.pop(_AWAITS, None)
                variable["value"] = _escaped(json.dumps(process, separators=(",", ":")))
    return copied


def _own(spec: SandboxSpec, config: PodConfig, user: WorkloadUser) -> dict[str, str]:
    own = {
        env.ENDPOINT: config.endpoint,
        env.SSH_SOCKET_PATH: config.ssh_socket_path,
        env.SANDBOX_COMMAND: config.sandbox_command,
        env.LOG_LEVEL: config.log_level,
        env.USER_ENVIRONMENT: env.user_environment(spec),
        env.K8S_SA_TOKEN_FILE: config.sa_token.path if config.sa_token.audience else "",
        **_tls(config.client_tls),
        TELEMETRY_ENABLED: "true" if config.telemetry else "false",
        SANDBOX_UID: str(user.uid),
        SANDBOX_GID: str(user.gid),
        LAUNCH_FILE: SUPERVISOR_FILE,
        LAUNCH_PUBLIC_FILE: PUBLIC_FILE,
    }
    if own[env.USER_ENVIRONMENT] == "{}":
        del own[env.USER_ENVIRONMENT]
    said = {name: value for name, value in own.items() if value}
    return {RUNTIME_CAPABILITIES: "", **said, **env.identity(spec)}


def _tls(config: ClientTlsConfig) -> dict[str, str]:
    if not config.folders:
        return {}
    paths = {env.TLS_CA: f"{config.folders[0]}/ca.crt"}
    if config.layout == "single" or config.client_secret:
        paths[env.TLS_CERT] = f"{config.folders[-1]}/tls.crt"
        paths[env.TLS_KEY] = f"{config.folders[-1]}/tls.key"
    return paths


def _plain(name: str, value: str) -> dict[str, Any]:
    if len(name) + len(value.encode()) + 2 > _LONGEST:
        raise InvalidArgument("the environment, or one variable of it, is longer than 128 KiB")
    return {"name": name, "value": _escaped(value)}


def _escaped(value: str) -> str:
    """Keep the kubelet from replacing ``$(NAME)`` in what is the user's text."""
    return value.replace("$", "$$")


def _unescaped(value: str) -> str:
    return value.replace("$$", "$")
