"""`Judge`: whether the driver would make a sandbox, by its request alone.

Validate and Create ask the same judge, so neither accepts what the other refuses (COMP-VAL-06). It
never asks the platform, so it is quick, and without effect (COMP-VAL-02, COMP-VAL-07). First what
is wrong in itself, INVALID_ARGUMENT, then what this driver does not do, FAILED_PRECONDITION.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.unknown_fields import UnknownFieldSet

from tests.conformance.bare.errors import FailedPrecondition, InvalidArgument
from tests.conformance.bare.quantities import is_cpu, is_memory

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_DOTS: Final = (".", "..")
_LONGEST_NAME: Final = 253
_LONGEST_IMAGE: Final = 1024
_KINDS: Final = {
    "runtime_class_name": "string_value",
    "annotations": "struct_value",
    "resources_raw": "struct_value",
    "volume_claim_templates": "struct_value",
    "host_users": "bool_value",
}
_GPU: Final = 9  # the fork sends a bool under this number, upstream a message
_VARINT: Final = 0


class Judge:
    """Every rule is a method; a rule that is broken is raised."""

    def judge(self, request: Any) -> Any:
        """Check a whole request and give its sandbox."""
        if not request.HasField("sandbox"):
            raise InvalidArgument("sandbox is missing")
        sandbox = request.sandbox
        self.judge_identity(sandbox)
        self.judge_form(sandbox.spec)
        self.judge_support(sandbox.spec)
        return sandbox

    def judge_identity(self, sandbox: Any) -> None:
        self.judge_id(sandbox.id)
        self.judge_name("name", sandbox.name)
        if sandbox.workspace:
            self.judge_name("workspace", sandbox.workspace)

    def judge_id(self, sandbox_id: str) -> None:
        """An id must be fit for a path and a label (COMP-CREATE-05)."""
        if not sandbox_id:
            raise InvalidArgument("sandbox id is empty")
        if sandbox_id in _DOTS or not _ID.fullmatch(sandbox_id):
            raise InvalidArgument("sandbox id is not 1 to 128 of A-Z a-z 0-9 . _ -")

    def judge_name(self, field: str, name: str) -> None:
        if not name.strip():
            raise InvalidArgument(f"{field} is empty")
        if len(name) > _LONGEST_NAME or not name.isprintable() or "/" in name or name in _DOTS:
            raise InvalidArgument(f"{field} is too long or has characters that no name has")

    def judge_form(self, spec: Any) -> None:
        """What no driver could do."""
        self.judge_image(spec.template.image)
        self.judge_quantities(spec.template.resources)
        self.judge_gpu_count(spec)
        self.judge_platform_kinds(spec.template.platform_config.fields)
        self.judge_environment(spec.template.environment)
        self.judge_environment(spec.environment)
        self.judge_command(spec.command)
        self.judge_launch(spec.launch_authentication)

    def judge_image(self, image: str) -> None:
        if len(image) > _LONGEST_IMAGE or not image.isprintable():
            raise InvalidArgument("image is too long or has control characters")

    def judge_quantities(self, resources: Any) -> None:
        for field in ("cpu_request", "cpu_limit", "memory_request", "memory_limit"):
            text = getattr(resources, field)
            fits = is_cpu if field.startswith("cpu") else is_memory
            if text and not fits(text):
                raise InvalidArgument(f"{field} is not a quantity above zero")

    def judge_gpu_count(self, spec: Any) -> None:
        gpu = spec.resource_requirements.gpu
        if gpu.HasField("count") and gpu.count == 0:
            raise InvalidArgument("gpu count is zero")

    def judge_platform_kinds(self, fields: Mapping[str, Any]) -> None:
        for key, kind in _KINDS.items():
            if key in fields and fields[key].WhichOneof("kind") != kind:
                raise InvalidArgument(f"platform_config.{key} has another type")

    def judge_environment(self, variables: Mapping[str, str]) -> None:
        for key, value in variables.items():
            if not key or "=" in key or "\0" in key + value:
                raise InvalidArgument("an environment variable cannot be set")

    def judge_command(self, command: Any) -> None:
        if any("\0" in each for each in command) or (len(command) and not command[0]):
            raise InvalidArgument("command cannot be run")

    def judge_launch(self, launch: bytes) -> None:
        """JSON or nothing; its keys are the supervisor's business (COMP01-LAUNCH-01, -03)."""
        if not launch:
            return
        try:
            found = json.loads(launch.decode())
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise InvalidArgument("launch_authentication is not a JSON object")

    def judge_support(self, spec: Any) -> None:
        """What this driver does not do."""
        self.judge_driver_config(spec.template)
        self.judge_platform_config(spec.template.platform_config.fields)
        self.judge_user_namespaces(spec.template)
        self.judge_agent_socket(spec.template)
        self.judge_gpu(spec)
        self.judge_workload_identity(spec.workload_identity)

    def judge_driver_config(self, template: Any) -> None:
        """The admission policy allows none (COMP01-ADM-04)."""
        if template.driver_config.fields:
            raise FailedPrecondition("driver_config is not allowed")

    def judge_platform_config(self, fields: Mapping[str, Any]) -> None:
        """Nothing of it is supported but what changes nothing (COMP-IN-05)."""
        for key in fields:
            if key != "host_users" or not fields[key].bool_value:
                raise FailedPrecondition("platform_config has a key that is not supported")

    def judge_user_namespaces(self, template: Any) -> None:
        if template.HasField("user_namespaces") and template.user_namespaces:
            raise FailedPrecondition("user namespaces are not supported")

    def judge_agent_socket(self, template: Any) -> None:
        if template.agent_socket_path:
            raise FailedPrecondition("agent_socket_path is not supported")

    def judge_gpu(self, spec: Any) -> None:
        """No GPU, in the words of every line (COMP-IN-07)."""
        if spec.resource_requirements.HasField("gpu") or spec.gpu_device or self.fork_gpu(spec):
            raise FailedPrecondition("GPUs are not supported")

    def fork_gpu(self, spec: Any) -> bool:
        """The fork's ``bool gpu``, which is an unknown field to the newer schema."""
        unknown = UnknownFieldSet(spec)
        fields = [unknown[index] for index in range(len(unknown))]
        last = [each for each in fields if each.field_number == _GPU][-1:]
        return any(each.wire_type == _VARINT and bool(each.data) for each in last)

    def judge_workload_identity(self, identity: Any) -> None:
        """Never root (COMP01-IN-02); empty means the image's own user."""
        for selector in (identity.user, identity.group):
            if self.is_root(selector):
                raise FailedPrecondition("workload_identity is root")

    def is_root(self, selector: str) -> bool:
        return selector == "root" or (selector.isdecimal() and int(selector) == 0)
