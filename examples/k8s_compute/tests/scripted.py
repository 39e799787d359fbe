"""An API server that answers by a script: what a real one says at moments that nobody chooses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openshell_compute_k8s import KubernetesConfig, KubernetesDriver

from openshell_drivers import CreateScope, SandboxSpec

Answer = dict[str, Any]
"""What is answered; a ``code`` in it is the HTTP status, too."""

NAMESPACE: Final = "GET /api/v1/namespaces/ns"
SANDBOXES: Final = "/apis/agents.x-k8s.io/v1beta1/namespaces/ns/sandboxes"
_VERSIONS: Final = {"versions": [{"version": "v1beta1"}]}
MADE: Final = {"metadata": {"name": "w--one", "namespace": "ns", "uid": "s"}}
"""The resource of sandbox ``one``."""
_UNKNOWN: Final = {"code": 404, "reason": "NotFound", "details": {}}


@dataclass(frozen=True)
class Asked:
    """A request."""

    line: str
    """The method and the path."""
    body: Any


class Script:
    """What is answered to which request, and what was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[str, list[Answer]] = {}
        self.on("GET /apis/agents.x-k8s.io", _VERSIONS)

    def on(self, line: str, *answers: Answer) -> None:
        """Answer a method and path so: in turn, and the last one again and again."""
        self._answers[line] = list(answers)

    def lines(self) -> list[str]:
        """Give the method and path of each request, but for the question for versions."""
        return [each.line for each in self.asked if each.line != "GET /apis/agents.x-k8s.io"]

    def bodies(self, line: str) -> list[Any]:
        """Give what was sent with such requests."""
        return [each.body for each in self.asked if each.line == line]

    def answer(self, asked: Asked) -> Answer:
        """Note a request and give its answer."""
        self.asked.append(asked)
        answers = self._answers.get(asked.line, [_UNKNOWN])
        return answers.pop(0) if len(answers) > 1 else answers[0]


async def create(driver: KubernetesDriver, **request: Any) -> str:
    """Have sandbox ``one`` of workspace ``w`` created, whose resource is ``w--one``."""
    spec = SandboxSpec(id="one", name="one", workspace="w", **request)
    return await driver.create_sandbox(spec, CreateScope("one", lambda event: None, set()))


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[str]:
    """Serve a script, and give the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = head.lower().split("\r\n")
        size = next((int(each.split(":")[1]) for each in fields if "content-length" in each), 0)
        sent = await reader.readexactly(size)
        method, target = head.split()[:2]
        line = f"{method} {target.partition('?')[0]}"
        answer = script.answer(Asked(line, json.loads(sent) if sent else None))
        body = json.dumps(answer).encode()
        status = f"HTTP/1.1 {answer.get('code', 200)} X\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{status}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def driver_of(
    script: Script, folder: Path, **changes: Any
) -> AsyncIterator[KubernetesDriver]:
    """Give a driver at such a server, in namespace ``ns``, that observes nothing."""
    async with serving(script) as url:
        one = {"name": "one"}
        document = {
            "clusters": [{**one, "cluster": {"server": url}}],
            "users": [{**one, "user": {"token": "t"}}],
            "contexts": [{**one, "context": {"cluster": "one", "user": "one"}}],
            "current-context": "one",
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(document))
        settings: dict[str, Any] = {"kubeconfig": path, "namespace": "ns", **changes}
        driver = KubernetesDriver(KubernetesConfig(**settings))
        async with driver.lifespan():
            yield driver
