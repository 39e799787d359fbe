"""The configuration of every sandbox's pod. Holds no secret, only names of Kubernetes Secrets.

Defaults are those of the gateway's own Kubernetes driver, with the exceptions that are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Annotated, Any, Final, Self

from pydantic import Field, field_validator, model_validator

from openshell_compute_k8s._launch_paths import (
    LAUNCH_FILE,
    LAUNCH_PUBLIC_FILE,
    PUBLIC_DIR,
    SUPERVISOR_DIR,
)
from openshell_compute_k8s._paths import overlaps
from openshell_compute_k8s._rules import (
    AbsolutePath,
    Annotations,
    DnsName,
    Environment,
    EnvValue,
    Frozen,
    Items,
    Labels,
    MaybeName,
    Url,
    broken,
)
from openshell_compute_k8s.pod_parts import (
    ClientTlsConfig,
    HostAlias,
    PullPolicy,
    ResourcesConfig,
    SaTokenConfig,
    SecretKeyRef,
    SecurityConfig,
    SupervisorConfig,
    Toleration,
    WorkspaceConfig,
)
from openshell_drivers import environment as env
from openshell_drivers.config import DriverConfig

HANDSHAKE_SECRET: Final = "OPENSHELL_SSH_HANDSHAKE_SECRET"
"""A secret that supervisors of the kagenti line share with their gateway."""

SANDBOX_UID: Final = "OPENSHELL_SANDBOX_UID"
"""The workload's user, in digits."""
SANDBOX_GID: Final = "OPENSHELL_SANDBOX_GID"
"""Its group."""

_COMPUTED: Final = frozenset(
    {
        env.ENDPOINT,
        env.K8S_SA_TOKEN_FILE,
        env.MAIN_PROCESS_SPEC,
        env.SANDBOX,
        env.SANDBOX_COMMAND,
        env.SANDBOX_ID,
        env.SANDBOX_TOKEN_FILE,
        env.SSH_SOCKET_PATH,
        env.TLS_CA,
        env.TLS_CERT,
        env.TLS_KEY,
        env.USER_ENVIRONMENT,
        LAUNCH_FILE,
        LAUNCH_PUBLIC_FILE,
        SANDBOX_GID,
        SANDBOX_UID,
        "OPENSHELL_SANDBOX_TOKEN",
    }
)


class PodConfig(DriverConfig):
    """What every sandbox's pod is like."""

    supervisor: SupervisorConfig = SupervisorConfig()
    endpoint: Url = ""
    """The gateway's URL as sandboxes reach it. Without it no sandbox connects."""
    ssh_socket_path: AbsolutePath = "/run/openshell/ssh.sock"
    """The Unix socket for SSH in the sandbox."""
    sandbox_command: EnvValue = "sleep infinity"
    """What supervisors of the kagenti line run, whose gateway sends no command. Newer ones do not
    read it. Empty to leave it out."""
    log_level: Annotated[str, Field(pattern=r"^[!-~]*$")] = ""
    """The supervisor's, for a request that names none."""
    telemetry: bool = False
    """Let supervisors send usage data to NVIDIA. Unlike in the gateway's own driver, off until
    somebody wants it."""
    environment: Environment = Field(default_factory=Frozen)
    """More variables, as ``ANTHROPIC_BASE_URL``; over those of the user."""
    environment_from_secrets: Items[SecretKeyRef] = Field(default_factory=Frozen)
    """More variables whose values the kubelet takes from Secrets."""

    image_pull_policy: PullPolicy = ""
    image_pull_secrets: tuple[DnsName, ...] = ()
    service_account: DnsName = "openshell-sandbox"
    """Must exist, and needs no rights. Its token for the API server is never mounted."""
    sa_token: SaTokenConfig = SaTokenConfig()
    client_tls: ClientTlsConfig = ClientTlsConfig()
    security: SecurityConfig = SecurityConfig()
    workspace: WorkspaceConfig = WorkspaceConfig()

    resources: ResourcesConfig = ResourcesConfig()
    """For requests that do not say; a request may ask for more."""
    init_resources: ResourcesConfig = ResourcesConfig()
    """Of the init containers; needed where a quota wants amounts of every container."""
    runtime_class: MaybeName = ""
    """For requests that name none."""
    priority_class: MaybeName = ""
    """For requests that name none."""
    node_selector: Labels = Field(default_factory=Frozen)
    """Where sandboxes may run; a request may narrow it."""
    tolerations: tuple[Toleration, ...] = ()
    annotations: Annotations = Field(default_factory=Frozen)
    """Of every pod; over those of the user."""
    host_aliases: tuple[HostAlias, ...] = ()
    ndots: Annotated[int, Field(ge=0, le=15)] | None = 1
    """For resolv.conf. With 1, names with a dot are looked up as they are first: the supervisor's
    resolver gives up if a search domain's server answers with an error. None leaves it alone."""
    termination_grace_seconds: Annotated[int, Field(ge=1, le=600)] = 30
    """From SIGTERM to SIGKILL, at a stop and at a delete. Less than ``stop_timeout``."""

    @field_validator("environment")
    @classmethod
    def _no_secret_in_plain(cls, environment: Mapping[str, str]) -> Mapping[str, str]:
        if HANDSHAKE_SECRET in environment:
            raise broken(f"{HANDSHAKE_SECRET} must be in environment_from_secrets")
        return environment

    @field_validator("environment", "environment_from_secrets")
    @classmethod
    def _not_what_is_computed(cls, environment: Mapping[str, Any]) -> Mapping[str, Any]:
        if not _COMPUTED.isdisjoint(environment):
            raise broken("must not hold a variable that the driver itself sets")
        return environment

    @model_validator(mode="after")
    def _each_variable_once(self) -> Self:
        if not self.environment.keys().isdisjoint(self.environment_from_secrets):
            raise broken("environment and environment_from_secrets must not share a name")
        return self

    @model_validator(mode="after")
    def _paths_are_apart(self) -> Self:
        paths = [*self.own_paths]
        if self.workspace.volume != "none":
            paths.append(self.workspace.mount_path)
        if any(overlaps(one, other) for one, other in combinations(paths, 2)):
            raise broken("no path of the sandbox's own may be, hold or lie in another")
        return self

    @property
    def own_paths(self) -> tuple[str, ...]:
        """What the supervisor needs undisturbed, without the workspace."""
        return (
            self.supervisor.mount_path,
            self.ssh_socket_path,
            *((self.sa_token.folder,) if self.sa_token.audience else ()),
            *self.client_tls.folders,
            SUPERVISOR_DIR,
            PUBLIC_DIR,
        )
