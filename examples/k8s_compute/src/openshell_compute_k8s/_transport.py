"""`Transport`: one request to one API server, once, and what its silences and breaks mean.

On the HTTP client itself: lightkube's own watch asks for no bookmarks and has no time limit for
silence, and its delete takes no preconditions. Imports httpx2, so it is imported late.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import httpx2 as httpx
import msgspec

from openshell_compute_k8s._failures import ApiRefusal, read_refusal
from openshell_compute_k8s._kubeconfig import UNREADABLE
from openshell_drivers import Unavailable
from openshell_drivers.token_file import TokenFile

JSON: Final = "application/json"

_LARGEST: Final = 64 * 2**20


class Interrupted(Unavailable):
    """The connection broke; whether the API server acted is not known."""


class TooLarge(Unavailable):
    """The answer is larger than is read."""


class Request(msgspec.Struct, frozen=True):
    """What is asked."""

    method: str
    path: str
    query: dict[str, str]
    content: bytes | None = None
    media: str = JSON


class Transport:
    """The way to one API server."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        request_timeout: float,
        connect_timeout: float,
        token_file: TokenFile | None,
    ) -> None:
        self._client = client
        self._timeout = request_timeout
        self._connect = connect_timeout
        self._token_file = token_file

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def send(self, request: Request, *, refreshed: bool = False) -> bytes:
        """Ask, and give the whole answer. After a 401 a token file is read anew, once.

        Raises `ApiRefusal`, `Interrupted`, `TooLarge`, `Unavailable` if nothing was sent.
        """
        try:
            timeout = httpx.Timeout(self._timeout, connect=self._connect)
            response = await self._client.send(self._built(request, timeout), stream=True)
            try:
                if response.is_success:
                    return await _body(response, _LARGEST)
                refusal = await _refusal(response)
            finally:
                await response.aclose()
        except httpx.RequestError as error:
            broken: Exception = _broken(error)
        except UNREADABLE:
            broken = Unavailable("the kubeconfig's plug-in gives no credential")
        else:
            if refusal.code == httpx.codes.UNAUTHORIZED and self._token_file and not refreshed:
                self._token_file.refresh()
                return await self.send(request, refreshed=True)
            broken = refusal
        raise broken

    @asynccontextmanager
    async def lines(
        self, request: Request, *, silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Ask, and give the answer's lines as they come, as long as one does every `silence`
        seconds.

        Raises `ApiRefusal` if it is refused, `Unavailable` or `Interrupted` when it breaks.
        """
        timeout = httpx.Timeout(self._timeout, connect=self._connect, read=silence)
        try:
            with anyio.fail_after(self._timeout):
                response = await self._client.send(self._built(request, timeout), stream=True)
            try:
                if response.status_code != httpx.codes.OK:
                    raise await _refusal(response)
                yield _lines(response)
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                    await response.aclose()
        except (httpx.RequestError, TimeoutError) as error:
            broken = _broken(error)
        except UNREADABLE:
            broken = Unavailable("the kubeconfig's plug-in gives no credential")
        else:
            return
        raise broken

    def _built(self, request: Request, timeout: httpx.Timeout) -> httpx.Request:
        headers = {"Content-Type": request.media, "Accept": JSON}
        if self._token_file is not None:
            headers.update(self._token_file.headers())
        return self._client.build_request(
            request.method,
            request.path,
            params=request.query,
            content=request.content,
            headers=headers,
            timeout=timeout,
        )


def quiet() -> None:
    """Have the HTTP libraries log nothing of ordinary requests."""
    for name in ("httpx2", "httpcore2", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


async def _refusal(response: httpx.Response) -> ApiRefusal:
    body = await _body(response, 2**20)
    return read_refusal(response.status_code, body, response.headers.get("Retry-After"))


def _broken(error: Exception) -> Unavailable:
    """What a broken connection means, without a word of the library's."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return Unavailable("the API server cannot be reached")
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return Interrupted("the API server has fallen silent")
    return Interrupted("the connection to the API server broke")


async def _body(response: httpx.Response, most: int) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > most:
            raise TooLarge("the API server's answer is too large")
        parts.append(part)
    return b"".join(parts)


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    rest: list[bytes] = []
    async for part in response.aiter_bytes():
        *whole, last = part.split(b"\n")
        for each in whole:
            rest.append(each)
            line = b"".join(rest)
            rest.clear()
            if line:
                yield line
        if last:
            rest.append(last)
            if sum(map(len, rest)) > _LARGEST:
                raise TooLarge("a line of the API server's watch is too large")
