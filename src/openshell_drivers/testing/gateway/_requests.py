"""What a gateway puts into the sandbox that it sends, beyond what the user wished."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from openshell_drivers._codec import compute as codec
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.compute import SandboxSpec, SandboxStatus, WorkloadIdentity
from openshell_drivers.secrets import Secret
from openshell_drivers.testing.gateway._errors import UserError
from openshell_drivers.testing.gateway._preset import Preset

_SHELL: Final = ("/bin/bash", "-l")
_POLICY: Final = b"\x08\x01"  # a SandboxPolicy with nothing but version 1
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_TOKEN_SECONDS: Final = 3600
_ED25519: Final = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo before the key


def completed(wish: SandboxSpec, preset: Preset, default_image: str) -> SandboxSpec:
    """Fill in what the user left open, and refuse what no driver gets to see (contract 3.4)."""
    _judge(wish, preset)
    template = wish.template
    if not template.image:
        template = replace(template, image=default_image)
    spec = replace(wish, id=wish.id or str(uuid.uuid4()), template=template)
    if not spec.command:
        spec = replace(spec, command=_SHELL, tty=True)
    if preset.sends_launch:
        identity = spec.workload_identity or WorkloadIdentity()
        spec = replace(spec, policy=spec.policy or _POLICY, workload_identity=identity)
    return replace(spec, sandbox_token=None, launch_authentication=None)


def _judge(wish: SandboxSpec, preset: Preset) -> None:
    longest = preset.longest_name
    if not (0 < len(wish.name) <= longest and _NAME.fullmatch(wish.name)) or (
        preset.line != "F" and "--" in wish.name
    ):
        _refuse(f"name must be a DNS label of at most {longest} characters, without '--'")
    if preset.line == "F":
        return
    _judge_map("environment", wish.environment, longest_value=8192)
    _judge_map("template environment", wish.template.environment, longest_value=8192)
    _judge_map("labels", wish.template.labels, longest_value=1024)
    if len(wish.template.image) > 1024 or len(wish.template.agent_socket_path) > 1024:
        _refuse("a text of the template is longer than 1024 characters")
    if wish.gpu is not None and wish.gpu.count == 0:
        _refuse("gpu count must not be 0")


def _judge_map(what: str, table: Mapping[str, str], *, longest_value: int) -> None:
    if len(table) > 128:
        _refuse(f"{what} has more than 128 entries")
    if any(not key or len(key) > 256 for key in table):
        _refuse(f"{what} has an empty key or one longer than 256 characters")
    if any(len(value) > longest_value for value in table.values()):
        _refuse(f"{what} has a value longer than {longest_value} characters")


def _refuse(message: str) -> None:
    raise UserError("INVALID_ARGUMENT", message)


def sandbox_message(
    spec: SandboxSpec, preset: Preset, status: SandboxStatus | None = None
) -> wire.DriverSandbox:
    """Write the sandbox of a validate or create.

    The upstream lines send their own idea of its status along; a driver ignores it (COMP-IN-01).
    """
    message = codec.encode_sandbox(spec)
    if preset.line != "F":
        message.status.SetInParent()
        for each in () if status is None else status.conditions:
            message.status.conditions.add(
                type=each.type, status=each.status, reason=each.reason, message=each.message
            )
    return message


def mint_token() -> Secret:
    """Make something of the shape of a JWT, different each time, that opens nothing."""
    now = int(time.time())
    claims = {"iat": now, "exp": now + _TOKEN_SECONDS, "jti": secrets.token_hex(16)}
    head = _part(json.dumps({"alg": "EdDSA", "typ": "JWT"}).encode())
    return Secret(f"{head}.{_part(json.dumps(claims).encode())}.{_part(secrets.token_bytes(64))}")


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def launch_document(gateway_token: Secret, sandbox_token: Secret, generation: str) -> Secret:
    """Write ``launch_authentication``: who the supervisor is, and keys to check others with.

    As gateways write it: a key's text is the numbers of its bytes.
    """
    expires = int(time.time()) + _TOKEN_SECONDS
    key = base64.b64encode(_ED25519 + secrets.token_bytes(32)).decode()
    pem = f"-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n"
    document = {
        "supervisor": {
            "session_id": str(uuid.uuid4()),
            "runtime_generation": generation,
            "session_rotation": 1,
            "auth_epoch": 1,
            "gateway_token": gateway_token.reveal(),
            "gateway_expires_at": expires,
            "sandbox_token": sandbox_token.reveal(),
            "sandbox_expires_at": expires,
        },
        "gateway_id": "gateway-model",
        "verification_keys": [{"key_id": secrets.token_hex(8), "public_key_pem": [*pem.encode()]}],
    }
    return Secret(json.dumps(document, separators=(",", ":")))
