"""`Platform`: what `Memory` pretends to run sandboxes on. Everything here blocks, as `State` does.

The state is all there is of it: a sandbox that is starting becomes ready when its time has come,
whoever looks, and several drivers on one file have the same sandboxes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from openshell_drivers import ObservedSandbox, SandboxSpec, SandboxState, Secret, environment
from openshell_drivers.reference._state import State

SANDBOX: Final = "sandbox"
WORKSPACE: Final = "workspace"
CREDENTIAL: Final = "credential"
_FOREIGN: Final = "foreign"
_OWN: Final = ("own", "key")
_TOKEN_FILE: Final = "/run/openshell/sandbox-token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a sandbox's software is given. Never its token."""

    environment: Mapping[str, str]
    command: tuple[str, ...]
    tty: bool

    @classmethod
    def of(cls, spec: SandboxSpec) -> Workload:
        """Compose it. Raises `InvalidArgument` for what no process can have."""
        own = environment.identity(spec)
        if spec.sandbox_token is not None:
            own[environment.SANDBOX_TOKEN_FILE] = _TOKEN_FILE
        main = json.loads(own[environment.MAIN_PROCESS_SPEC])
        return cls(
            environment=environment.compose(spec, own),
            command=tuple(main["command"]),
            tty=main["tty"],
        )

    def again(self) -> Workload:
        """Take out what holds for the create only (COMP01-IN-04)."""
        main = json.loads(self.environment[environment.MAIN_PROCESS_SPEC])
        main.pop("await_main_process_attachment", None)
        text = json.dumps(main, separators=(",", ":"))
        return replace(self, environment={**self.environment, environment.MAIN_PROCESS_SPEC: text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One sandbox."""

    id: str
    name: str
    workspace: str
    workload: Workload
    due: float
    """When it is ready, or has failed: seconds since the epoch."""
    failure: str = ""
    """The reason to fail with instead of becoming ready."""
    phase: Literal["running", "stopped", "exited"] = "running"
    instance: int = 1

    @classmethod
    def parse(cls, text: str) -> Record:
        """Read what `text` has written."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "workload": Workload(**fields["workload"])})

    def text(self) -> str:
        """Write it down."""
        return json.dumps(asdict(self))

    @property
    def wait(self) -> float:
        """Seconds until it is ready or has failed; 0 if nothing is to come."""
        return max(0.0, self.due - time.time()) if self.phase == "running" else 0.0

    def again(self, seconds: float) -> Record:
        """Start it, if it is not running: another instance, ready in some seconds."""
        if self.phase == "running" and not (self.failure and not self.wait):
            return self
        return replace(
            self,
            phase="running",
            instance=self.instance + 1,
            due=time.time() + seconds,
            workload=self.workload.again(),
        )

    def observed(self) -> ObservedSandbox:
        """Say it as a driver does."""
        return ObservedSandbox(
            id=self.id,
            name=self.name,
            workspace=self.workspace,
            state=self._state(),
            instance_id=f"{self.id}.{self.instance}",
        )

    def _state(self) -> SandboxState:
        match self.phase:
            case "stopped":
                return SandboxState.stopped()
            case "exited":
                return SandboxState.exited("the main process has ended")
        if self.wait:
            return SandboxState.starting()
        return SandboxState.failed(self.failure) if self.failure else SandboxState.ready()


class Platform:
    """Sandboxes, workspaces and stored credentials in one state."""

    def __init__(self, state: State) -> None:
        self.state = state
        state.add(*_OWN, secrets.token_hex(32))
        self._key = bytes.fromhex(state.get(*_OWN) or "")

    def sandboxes(self) -> dict[str, Record]:
        """Give all by id."""
        return {key: Record.parse(text) for key, text in self.state.all(SANDBOX).items()}

    def find(self, sandbox_id: str) -> Record | None:
        """Give one."""
        text = self.state.get(SANDBOX, sandbox_id)
        return None if text is None else Record.parse(text)

    def add(self, record: Record) -> bool:
        """Make one; False if the id is taken."""
        return self.state.add(SANDBOX, record.id, record.text())

    def change(self, sandbox_id: str, step: Callable[[Record], Record]) -> Record | None:
        """Replace one by what becomes of it; None if it is not there."""
        text = self.state.change(SANDBOX, sandbox_id, lambda text: step(Record.parse(text)).text())
        return None if text is None else Record.parse(text)

    def remove(self, sandbox_id: str) -> bool:
        """Remove one; False if it is not there."""
        return self.state.drop(SANDBOX, sandbox_id)

    def credential_of(self, sandbox_id: str) -> Secret:
        """Make what a sandbox proves itself with."""
        proof = hmac.new(self._key, sandbox_id.encode(), hashlib.sha256).hexdigest()
        return Secret(f"{sandbox_id}:{proof}")

    def add_foreign(self) -> str:
        """Have somebody else make a sandbox here, which is no driver's; its id."""
        made = f"foreign-{secrets.token_hex(4)}"
        self.state.put(_FOREIGN, made, "")
        return made

    def resources(self) -> list[str]:
        """Name all that drivers have made."""
        kinds = (SANDBOX, WORKSPACE, CREDENTIAL)
        return [f"{kind}/{key}" for kind in kinds for key in self.state.all(kind)]
