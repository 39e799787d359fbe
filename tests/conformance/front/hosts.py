"""`Host`: somebody's folder, where pytest and ``openshell-drivers`` run as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

SCRIPT: Final = Path(sys.executable).with_name("openshell-drivers")
PATIENCE: Final = 150
#: Verdict, exit status, results by unit.
Judged: TypeAlias = tuple[str, int, dict[str, str]]
#: Few and quick.
FEW: Final = "COMP-GET-01,COMP-GET-02,COMP-GET-03"

#: A driver on bare gRPC that finds whatever it is asked for.
LIES: Final = """\
#!{python}
import sys, threading
from concurrent import futures
import grpc
from openshell_drivers._wire import compute_driver_pb2 as wire

ANSWERS = {{
    "GetCapabilities": wire.GetCapabilitiesResponse(driver_name="lies", driver_version="1"),
    "GetSandbox": wire.GetSandboxResponse(sandbox=wire.DriverSandbox(id="x", name="x")),
}}

class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        _, service, method = call.method.split("/")
        if service != "openshell.compute.v1.ComputeDriver" or method not in ANSWERS:
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: ANSWERS[method].SerializeToString()
        )

server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers([Handler()])
server.add_insecure_port("unix:" + sys.argv[-1])
server.start()
threading.Event().wait()
"""

#: Two drivers on the SDK in one file.
TWO: Final = """\
from openshell_drivers.reference.memory import Memory

class One(Memory):
    name = "one"

class Two(Memory):
    name = "two"
"""

#: A driver whose sandboxes outlive their removal.
STICKY: Final = """\
from openshell_drivers.reference.memory import Memory

class Sticky(Memory):
    async def delete_sandbox(self, ref):
        pass
"""

WAIVER: Final = """\
[[waiver]]
check = "COMP-GET-01"
issue = "https://example.org/issues/7"
owner = "@team"
reason = "one that passes"
created = {today}
expires = {later}
"""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All of it."""
        return self.out + self.err


class Host:
    """A folder, and what is found out in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.state = folder.parent / f"{folder.name}-state"
        self._number = 0

    def file(self, name: str, text: str, *, mode: int = 0o644) -> Path:
        """Add a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def lies(self) -> Path:
        """Add the program that does not conform."""
        return self.file("lies", LIES.format(python=sys.executable), mode=0o755)

    @property
    def ledgers(self) -> list[Path]:
        """Of runs that are under way, or left something behind."""
        return sorted((self.state / "openshell-drivers" / "ledgers").glob("*"))

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables of a command."""
        foreign = ("OPENSHELL", "PYTEST", "COV_")
        clean = {key: text for key, text in os.environ.items() if not key.startswith(foreign)}
        return {**clean, "XDG_STATE_HOME": str(self.state), "COLUMNS": "200", **(more or {})}

    def begin(
        self, *command: object, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            list(map(str, command)),
            cwd=self.folder,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: object, env: Mapping[str, str] | None = None) -> Done:
        """Run a command to its end."""
        with self.begin(*command, env=env) as process:
            out, err = process.communicate(timeout=PATIENCE)
        return Done(process.returncode, out, err)

    def command(self, *arguments: object, env: Mapping[str, str] | None = None) -> Done:
        """Run ``openshell-drivers``."""
        return self.run(SCRIPT, *arguments, env=env)

    def verify(self, *arguments: object, env: Mapping[str, str] | None = None) -> Done:
        """Run ``openshell-drivers verify`` with few checks, unless others are named."""
        return self.command("verify", *arguments, *_few("--check", arguments), env=env)

    def pytest(self, *arguments: object, env: Mapping[str, str] | None = None) -> Done:
        """Run pytest as users do, with every plugin that is installed."""
        few = _few("--openshell-check", arguments)
        return self.run(sys.executable, "-P", "-m", "pytest", *arguments, *few, env=env)

    def report(self) -> Path:
        """A folder for reports that no other run has."""
        self._number += 1
        return self.folder.parent / f"{self.folder.name}-report-{self._number}"


def _few(option: str, arguments: tuple[object, ...]) -> list[str]:
    given = any(str(each).startswith(("--check", "--openshell-check")) for each in arguments)
    return (
        [] if given else [f"{option}={FEW}", f"{option.replace('check', 'preset')}=0.1.2,fork-mvp"]
    )


def judged(report: Path) -> Judged:
    """A report's verdict, exit status and results."""
    document: dict[str, Any] = json.loads((report / "report.json").read_text())
    results = {f"{r['check']}[{r['preset']}]": r["outcome"] for r in document["results"]}
    return document["verdict"], document["exit_status"], results
