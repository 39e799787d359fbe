"""The way to the API server past the relay: with nothing but the standard library, so that a verb
takes a tenth of a second."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

Answer = dict[str, Any]
_PATIENCE: Final = 20.0


class ApiRefused(Exception):
    """The API server says no."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class SetupFailed(Exception):
    """Something did not come in time; the text says what."""


class Api:
    """Requests with what `setup` has written down."""

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / "direct.json").read_text())
        self._server = urlsplit(told["server"])
        self._headers = {"Authorization": f"Bearer {told['token']}"} if told["token"] else {}
        self._context: ssl.SSLContext | None = None
        if self._server.scheme == "https":
            self._context = ssl.create_default_context(cadata=told["ca"] or None)
            if told["insecure"]:
                self._context.check_hostname = False
                self._context.verify_mode = ssl.CERT_NONE
            if told["cert"]:
                self._context.load_cert_chain(told["cert"], told["key"])

    def do(
        self,
        method: str,
        path: str,
        body: Answer | None = None,
        query: dict[str, str] | None = None,
    ) -> Answer:
        """Ask once. Raises `ApiRefused`."""
        media = "application/merge-patch+json" if method == "PATCH" else "application/json"
        host, port = str(self._server.hostname), self._server.port
        if self._context is None:
            line = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
        else:
            line = http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=self._context)
        try:
            line.request(
                method,
                f"{path}?{urlencode(query)}" if query else path,
                None if body is None else json.dumps(body),
                {**self._headers, "Content-Type": media},
            )
            response = line.getresponse()
            text = response.read()
        finally:
            line.close()
        if response.status >= 300:
            said = text[:200].decode("utf-8", "replace")
            raise ApiRefused(response.status, f"{method} {path}: {response.status} {said}")
        answer: Answer = json.loads(text)
        return answer


def until(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait for something. Raises `SetupFailed`."""
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise SetupFailed(otherwise)
        time.sleep(0.02)
