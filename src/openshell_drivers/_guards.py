"""What every request for a sandbox is held to before a driver sees it.

Wrong in itself is `InvalidArgument`; well formed but not to be had from this driver is
`FailedPrecondition` (COMP-VAL-04). No message repeats a value, which may be a secret (COMP-VAL-08).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from openshell_drivers._abilities import Support
from openshell_drivers._sandboxes import (
    ComputeResources,
    GpuRequest,
    Json,
    SandboxSpec,
    SandboxTemplate,
    WorkloadIdentity,
)
from openshell_drivers.errors import FailedPrecondition, InvalidArgument
from openshell_drivers.quantities import cpu_millis, memory_bytes
from openshell_drivers.secrets import Secret

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LONGEST_NAME: Final = 253
_OWN_LABELS: Final = ("openshell.ai/", "internal.openshell.ai/")
_ROOT: Final = frozenset({"0", "root"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one driver honours."""

    support: Support
    default_image: str
    allow_driver_config: bool
    parse_driver_config: Callable[[Mapping[str, Json]], Any] | None


def require_id(sandbox_id: str) -> str:
    """Hold an id to what is safe in a path, a label and a name (COMP-CREATE-05, COMP-GET-06)."""
    if not sandbox_id:
        raise InvalidArgument("the sandbox id is missing")
    if not _ID.fullmatch(sandbox_id) or sandbox_id in {".", ".."}:
        raise InvalidArgument(
            "a sandbox id is 1 to 128 letters, digits, dots, dashes and underscores"
        )
    return sandbox_id


def require_name(field: str, name: str) -> None:
    """Hold a name to what can be shown and kept."""
    if not name.strip():
        raise InvalidArgument(f"the {field} is missing")
    if len(name) > _LONGEST_NAME or not name.isprintable() or "/" in name or name in {".", ".."}:
        raise InvalidArgument(
            f"the {field} is too long, or has a slash or a control character, or is only dots"
        )


def require_launch_authentication(secret: Secret | None) -> None:
    """Hold it to being a JSON object; its keys are the driver's (COMP01-LAUNCH-03)."""
    if secret is None:
        return
    try:
        parsed = json.loads(secret.reveal())
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise InvalidArgument("launch_authentication is not a JSON object")


def admit(spec: SandboxSpec, rules: Rules) -> SandboxSpec:
    """Refuse what is wrong or not honoured, and give the rest in its normal form."""
    require_id(spec.id)
    require_name("sandbox name", spec.name)
    if spec.workspace:
        require_name("workspace", spec.workspace)
    _require_process(spec)
    require_launch_authentication(spec.launch_authentication)
    template = _with_user_namespaces(spec.template)
    _require_template(template)
    _require_gpu(spec.gpu)
    _honoured(template, spec, rules.support)
    _require_driver_config(template.driver_config, rules)
    return replace(spec, template=_normal(template, rules.default_image))


def _require_process(spec: SandboxSpec) -> None:
    for field, environment in (
        ("environment", spec.environment),
        ("template environment", spec.template.environment),
    ):
        for name, value in environment.items():
            if not name or "=" in name or not name.isprintable() or "\0" in value:
                raise InvalidArgument(f"the {field} has a name or a value that none can have")
    if any("\0" in word for word in spec.command):
        raise InvalidArgument("the command has a NUL character")
    _require_plain("log level", spec.log_level)


def _require_plain(field: str, text: str) -> None:
    if not text.isprintable():
        raise InvalidArgument(f"the {field} has a control character")


def _require_template(template: SandboxTemplate) -> None:
    _require_plain("image", template.image)
    _require_plain("agent socket path", template.agent_socket_path)
    for key, value in template.labels.items():
        _require_plain("label", key + value)
    if template.resources is not None:
        _require_resources(template.resources)


def _require_resources(resources: ComputeResources) -> None:
    """Read every quantity; a request above its limit can never be had (COMP-IN-04)."""
    for kind, read in (("cpu", cpu_millis), ("memory", memory_bytes)):
        amounts = []
        for bound in ("request", "limit"):
            name = f"{kind}_{bound}"
            text = getattr(resources, name)
            amounts.append(read(text, field=name) if text else None)
        request, limit = amounts
        if request is not None and limit is not None and request > limit:
            raise InvalidArgument(f"{kind}_request is above {kind}_limit")


def _require_gpu(gpu: GpuRequest | None) -> None:
    if gpu is None:
        return
    if gpu.count is not None and gpu.count < 1:
        raise InvalidArgument("a GPU count is at least 1")
    _require_plain("GPU device", gpu.device)


def _with_user_namespaces(template: SandboxTemplate) -> SandboxTemplate:
    """Read the key by which the 0.0.x line asks for user namespaces (COMP01-IN-03)."""
    if "host_users" not in template.platform_config:
        return template
    config = dict(template.platform_config)
    host_users = config.pop("host_users")
    if not isinstance(host_users, bool):
        raise InvalidArgument("platform_config.host_users is true or false")
    asked = template.user_namespaces
    return replace(
        template,
        platform_config=MappingProxyType(config),
        user_namespaces=not host_users if asked is None else asked,
    )


def _honoured(template: SandboxTemplate, spec: SandboxSpec, support: Support) -> None:
    refused = [
        *_refused_resources(template.resources or ComputeResources(), support),
        *_refused_gpu(spec.gpu, support),
        *(
            f"platform_config.{key[:64]}"
            for key in sorted(template.platform_config)
            if key not in support.platform_config
        ),
    ]
    if template.agent_socket_path and not support.agent_socket_path:
        refused.append("an agent socket path")
    if template.user_namespaces and not support.user_namespaces:
        refused.append("user namespaces")
    if refused:
        raise FailedPrecondition(f"this driver does not support {', '.join(refused)}")
    if support.workload_identity and _is_root(spec.workload_identity):
        raise FailedPrecondition("a sandbox does not run as root")


def _refused_resources(resources: ComputeResources, support: Support) -> list[str]:
    names = ("cpu_request", "cpu_limit", "memory_request", "memory_limit")
    return [name for name in names if getattr(resources, name) and not getattr(support, name)]


def _refused_gpu(gpu: GpuRequest | None, support: Support) -> list[str]:
    if gpu is None:
        return []
    if not (support.gpu or support.gpu_count or support.gpu_device):
        return ["GPUs"]
    refused = []
    if gpu.count is not None and gpu.count > 1 and not support.gpu_count:
        refused.append("more than one GPU")
    if gpu.device and not support.gpu_device:
        refused.append("a GPU by name")
    return refused


def _is_root(identity: WorkloadIdentity | None) -> bool:
    return identity is not None and bool({identity.user, identity.group} & _ROOT)


def _require_driver_config(config: Mapping[str, Json], rules: Rules) -> None:
    """Refuse it unless the operator allows it (COMP01-ADM-04), then hold it to its model."""
    if not config:
        return
    if not rules.allow_driver_config or rules.parse_driver_config is None:
        raise FailedPrecondition("driver_config is not allowed here")
    rules.parse_driver_config(config)


def _normal(template: SandboxTemplate, default_image: str) -> SandboxTemplate:
    """Fill in the image, and drop labels that only a driver may set (COMP-IN-09)."""
    image = template.image or default_image
    if not image:
        raise FailedPrecondition("an image is needed: this driver has no default")
    labels = {
        key: value for key, value in template.labels.items() if not key.startswith(_OWN_LABELS)
    }
    return replace(template, image=image, labels=MappingProxyType(labels))
