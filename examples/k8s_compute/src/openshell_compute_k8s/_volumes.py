"""What is mounted into a sandbox, and the init containers that fill it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from openshell_compute_k8s import _launch_paths as launch
from openshell_compute_k8s._amounts import written
from openshell_compute_k8s._security import WorkloadUser, helper_context
from openshell_compute_k8s.options import SandboxOptions
from openshell_compute_k8s.pod_config import PodConfig
from openshell_compute_k8s.pod_parts import ClientTlsConfig, SaTokenConfig, SupervisorConfig

WORKSPACE: Final = "workspace"
"""The volume, and the claim template, of which the controller makes the volume."""
WORKSPACE_INIT: Final = "workspace-init"
SUPERVISOR: Final = "openshell-supervisor-bin"
SUPERVISOR_INIT: Final = "openshell-supervisor-install"
BINARY: Final = "openshell-sandbox"

_ONLY_ROOT: Final = 0o400
_EVERYBODY: Final = 0o444
_SEEDED: Final = "/workspace-pvc"

# $1 is the folder in the image, $2 the workload's user and group. The mark comes last, so what was
# interrupted is done again. The archive has to end well on both sides of the pipe. Ownership is
# that of links, since what they lead to may not be there.
_SEED: Final = f"""
set -eu
cd {_SEEDED}
[ ! -e .workspace-initialized ] || exit 0
rm -f .workspace-read
if [ -d "$1" ]; then
  {{ tar -C "$1" -cf - . && : > .workspace-read; }} | tar -xpf -
  [ -e .workspace-read ]
  rm -f .workspace-read
fi
chown -hR "$2" .
: > .workspace-initialized
""".replace("$", "$$")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One volume: its source, unless the controller brings it, where it goes, what fills it."""

    name: str
    source: dict[str, Any] | None = None
    mounts: list[dict[str, Any]] = field(default_factory=list)
    init: dict[str, Any] | None = None

    def volume(self) -> dict[str, Any]:
        """Write it for ``volumes``."""
        return {"name": self.name, **(self.source or {})}


def own(
    config: PodConfig, *, image: str, object_name: str, user: WorkloadUser
) -> Iterator[Mounted]:
    """Make the volumes that every sandbox has. `image` seeds the workspace."""
    yield _supervisor(config.supervisor)
    if config.sa_token.audience:
        yield _token(config.sa_token)
    yield from _tls(config.client_tls)
    yield _secret(
        "openshell-launch",
        launch.SUPERVISOR_DIR,
        launch.supervisor_secret(object_name),
        keys=(launch.SUPERVISOR_KEY,),
        optional=True,
    )
    yield _secret(
        "openshell-launch-public",
        launch.PUBLIC_DIR,
        launch.public_secret(object_name),
        keys=(launch.PUBLIC_KEY,),
        mode=_EVERYBODY,
        optional=True,
    )
    if config.workspace.volume != "none":
        yield _workspace(config, image, user)


def asked(options: SandboxOptions) -> Iterator[Mounted]:
    """Make the volumes of the request."""
    for volume in options.volumes:
        claim = volume.persistent_volume_claim
        source = {"claimName": claim.claim_name, "readOnly": claim.read_only}
        mounts = [
            {
                "name": mount.name,
                "mountPath": mount.mount_path,
                "readOnly": mount.read_only,
                **({"subPath": mount.sub_path} if mount.sub_path else {}),
            }
            for mount in options.mounts
            if mount.name == volume.name
        ]
        yield Mounted(volume.name, {"persistentVolumeClaim": source}, mounts)


def _read_only(name: str, path: str) -> list[dict[str, Any]]:
    return [{"name": name, "mountPath": path, "readOnly": True}]


def _supervisor(config: SupervisorConfig) -> Mounted:
    mounts = _read_only(SUPERVISOR, config.mount_path)
    if config.delivery == "image-volume":
        source = {"reference": config.image, **_pull("pullPolicy", config.pull_policy)}
        return Mounted(SUPERVISOR, {"image": source}, mounts)
    init = {
        "name": SUPERVISOR_INIT,
        "image": config.image,
        **_pull("imagePullPolicy", config.pull_policy),
        "command": [config.binary, "copy-self", supervisor_path(config)],
        "securityContext": helper_context(),
        "volumeMounts": [{"name": SUPERVISOR, "mountPath": config.mount_path}],
    }
    return Mounted(SUPERVISOR, {"emptyDir": {}}, mounts, init)


def supervisor_path(config: SupervisorConfig) -> str:
    """Say where the sandbox finds its supervisor."""
    name = config.binary if config.delivery == "image-volume" else f"/{BINARY}"
    return config.mount_path + name


def _token(config: SaTokenConfig) -> Mounted:
    token = {
        "audience": config.audience,
        "expirationSeconds": config.ttl_seconds,
        "path": config.path.rpartition("/")[2],
    }
    source = {"sources": [{"serviceAccountToken": token}], "defaultMode": _ONLY_ROOT}
    name = "openshell-sa-token"
    return Mounted(name, {"projected": source}, _read_only(name, config.folder))


def _tls(config: ClientTlsConfig) -> Iterator[Mounted]:
    if config.layout == "single":
        yield _secret("openshell-client-tls", config.folders[0], config.secret)
    if config.layout == "split":
        yield _secret("openshell-tls-ca", config.folders[0], config.ca_secret, keys=("ca.crt",))
    if config.client_secret:
        yield _secret("openshell-tls-client", config.folders[1], config.client_secret)


def _secret(
    name: str,
    path: str,
    secret: str,
    *,
    keys: tuple[str, ...] = (),
    mode: int = _ONLY_ROOT,
    optional: bool = False,
) -> Mounted:
    source: dict[str, Any] = {"secretName": secret, "defaultMode": mode}
    if keys:
        source["items"] = [{"key": key, "path": key} for key in keys]
    if optional:
        source["optional"] = True
    return Mounted(name, {"secret": source}, _read_only(name, path))


def _workspace(config: PodConfig, image: str, user: WorkloadUser) -> Mounted:
    workspace = config.workspace
    limit = {"sizeLimit": written("storage", workspace.size)} if workspace.size else {}
    return Mounted(
        WORKSPACE,
        None if workspace.volume == "claim" else {"emptyDir": limit},
        [{"name": WORKSPACE, "mountPath": workspace.mount_path}],
        _seed(config, image, user) if workspace.seed else None,
    )


def _seed(config: PodConfig, image: str, user: WorkloadUser) -> dict[str, Any]:
    return {
        "name": WORKSPACE_INIT,
        "image": image,
        **_pull("imagePullPolicy", config.image_pull_policy),
        "command": ["sh", "-c", _SEED, "seed"],
        "args": [config.workspace.mount_path, f"{user.uid}:{user.gid}"],
        "securityContext": helper_context("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"),
        "volumeMounts": [{"name": WORKSPACE, "mountPath": _SEEDED}],
    }


def _pull(key: str, policy: str) -> dict[str, str]:
    return {key: policy} if policy else {}
