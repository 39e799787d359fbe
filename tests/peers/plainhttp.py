"""Sends one HTTP request and returns the whole answer: what the peers and their tests need."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


def request(
    method: str,
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    content: object = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    timeout: float = 10,
) -> Reply:
    """Send a form, a JSON document or nothing, past any proxy, following no redirect."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=tls)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=timeout)
    )
    body, kind = _encode(form, content)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target or "/", body, {**kind, **(headers or {})})
        answer = connection.getresponse()
        received = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, received, answer.read())
    finally:
        connection.close()


def _encode(
    form: Mapping[str, str] | None, content: object
) -> tuple[bytes | None, Mapping[str, str]]:
    if form is not None:
        return urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    if content is not None:
        return json.dumps(content).encode(), {"Content-Type": "application/json"}
    return None, {}
