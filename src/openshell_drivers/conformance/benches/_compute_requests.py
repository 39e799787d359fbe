"""`ComputeRequests`: what a gateway of each line puts into its compute requests."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Final

from google.protobuf import json_format

from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.conformance._outcomes import Blocked, NotTestable
from openshell_drivers.conformance.benches._base import Bench

_DEFAULT_COMMAND: Final = ("/bin/sleep", "3600")
_PUBLIC_KEY: Final = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
    "-----END PUBLIC KEY-----\n"
)
_POLICY: Final = b"\x08\x01"  # a SandboxPolicy with nothing but version 1


class ComputeRequests(Bench):
    """Sandboxes as the line sends them, and the secrets that its gateway mints."""

    @property
    def line(self) -> str:
        """F, U or N."""
        return self.preset.line

    def fresh_id(self) -> str:
        """An id that no sandbox has."""
        return str(uuid.uuid4())

    def fresh_name(self) -> str:
        """A name that no sandbox has, of this run by its looks, within the profile's limit."""
        return f"{self.world.run}-{self.world.number()}"

    def sandbox(
        self,
        *,
        id: str | None = None,  # noqa: A002
        name: str | None = None,
        workspace: int | str = 0,
        template: dict[str, Any] | None = None,
    ) -> wire.DriverSandbox:
        """A sandbox as a gateway of the line sends it: the profile's template, completed.

        `workspace` is a number into the profile's list, or a text. `template` is another spec.
        Change the message before it is sent as the check needs it.
        """
        spaces = self.profile.compute.workspaces
        message = wire.DriverSandbox(
            id=self.fresh_id() if id is None else id,
            name=self.fresh_name() if name is None else name,
            workspace=workspace if isinstance(workspace, str) else spaces[workspace],
        )
        wished = self.profile.compute.template if template is None else template
        try:
            json_format.ParseDict(wished, message.spec)
        except json_format.ParseError as error:
            raise Blocked(f"the profile's template is no DriverSandboxSpec: {error}") from None
        message.spec.template.SetInParent()
        if not message.spec.command:
            message.spec.command.extend(_DEFAULT_COMMAND)
        if self.line != "F":
            message.status.SetInParent()
        if self.line == "N":
            message.spec.workload_identity.SetInParent()
            message.spec.policy = message.spec.policy or _POLICY
        return message

    def variant(self, kind: str) -> wire.DriverSandbox:
        """A sandbox of the profile's ``unpullable``, ``refused`` or ``lengthy`` template."""
        template = getattr(self.profile.compute, kind)
        if template is None:
            raise NotTestable(f"compute.{kind} is not in the profile")
        base = {**self.profile.compute.template, **template}
        return self.sandbox(template=base)

    async def mint(self, spec: wire.DriverSandboxSpec) -> None:
        """Put in the secrets that the line's gateway mints at create, where there are none."""
        if self.preset.mints_tokens and not spec.sandbox_token:
            spec.sandbox_token = await self.token("sandbox token")
        if self.preset.sends_launch and not spec.launch_authentication:
            spec.launch_authentication = await self.launch_document()

    async def token(self, label: str) -> str:
        """A secret that is the same for all of the instance's checks under the preset."""

        async def make() -> str:
            return self.secret(label)

        return await self.known(label, make)

    async def launch_document(self, **more: Any) -> bytes:
        """What a 0.1.x gateway sends as ``launch_authentication``."""
        gateway, sandbox = "launch gateway token", "launch sandbox token"
        return self.launch_of(await self.token(gateway), await self.token(sandbox), **more)

    def launch_of(self, gateway_token: str, sandbox_token: str, **more: Any) -> bytes:
        """The same with tokens of the check's own.

        Most drivers read it as upstream does, which is strict: a generation is text, a rotation
        begins with 1, and a key comes as the numbers of its bytes.
        """
        supervisor = {
            "session_id": self.fresh_id(),
            "runtime_generation": self.fresh_id(),
            "session_rotation": 1,
            "auth_epoch": 1,
            "gateway_token": gateway_token,
            "gateway_expires_at": int(time.time()) + 3600,
            "sandbox_token": sandbox_token,
            "sandbox_expires_at": int(time.time()) + 3600,
        }
        document = {
            "supervisor": supervisor,
            "gateway_id": "conformance",
            "verification_keys": [{"key_id": "k1", "public_key_pem": list(_PUBLIC_KEY.encode())}],
            **more,
        }
        return json.dumps(document, separators=(",", ":")).encode()
