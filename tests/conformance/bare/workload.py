"""`Workloads`: what a sandbox's processes are given (COMP-IN-03, COMP-IN-08, COMP-IN-09)."""

from __future__ import annotations

import json
from typing import Any, Final

_TOKEN: Final = ("OPENSHELL_SANDBOX_TOKEN", "OPENSHELL_SANDBOX_TOKEN_FILE")
_TOKEN_FILE: Final = "/run/openshell/sandbox-token"
_SHELL: Final = ["/bin/bash", "-l"]


class Workloads:
    """Reads a request. Nothing that it gives holds a token."""

    def of(self, sandbox: Any) -> dict[str, Any]:
        """All that the platform keeps for one sandbox."""
        spec = sandbox.spec
        return {
            "environment": self.environment(sandbox),
            "command": self.command(spec),
            "tty": self.tty(spec),
            "await_main_process_attachment": spec.await_main_process_attachment,
            "labels": self.labels(sandbox),
            "resources": {field.name: text for field, text in spec.template.resources.ListFields()},
        }

    def command(self, spec: Any) -> list[str]:
        """The argv as it came, or a shell."""
        return list(spec.command) or list(_SHELL)

    def tty(self, spec: Any) -> bool:
        return bool(spec.tty or not spec.command)

    def environment(self, sandbox: Any) -> dict[str, str]:
        """The template's, then the user's, then the driver's."""
        made = {**sandbox.spec.template.environment, **sandbox.spec.environment}
        for name in _TOKEN:
            made.pop(name, None)  # COMP-SEC-01
        made.update(self.own(sandbox))
        return made

    def own(self, sandbox: Any) -> dict[str, str]:
        """What nobody else may set."""
        spec = sandbox.spec
        main = {"version": 1, "command": self.command(spec), "tty": self.tty(spec)}
        made = {
            "OPENSHELL_SANDBOX_ID": sandbox.id,
            "OPENSHELL_SANDBOX": sandbox.name,
            "OPENSHELL_MAIN_PROCESS_SPEC": json.dumps(main),
        }
        if spec.sandbox_token:
            made["OPENSHELL_SANDBOX_TOKEN_FILE"] = _TOKEN_FILE
        return made

    def labels(self, sandbox: Any) -> dict[str, str]:
        """The template's, under those by which the driver knows its own."""
        return {
            **sandbox.spec.template.labels,
            "openshell.ai/managed-by": "openshell-bare",
            "openshell.ai/sandbox-id": sandbox.id,
            "openshell.ai/sandbox-name": sandbox.name,
            "openshell.ai/sandbox-workspace": sandbox.workspace,
        }
