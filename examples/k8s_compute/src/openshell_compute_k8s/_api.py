"""`Api`: requests to one API server, each with an end, and what its refusals and silences mean.

lightkube says how to reach the cluster: in-cluster account, kubeconfig, exec plug-ins, TLS. The
requests are made here, on its HTTP client: lightkube's own watch asks for no bookmarks and has no
time limit for silence, and its delete takes no preconditions. Imports both, so it is imported late.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import httpx2 as httpx
import msgspec
import yaml
from lightkube.config.client_adapter import ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError as KubeconfigError

from openshell_compute_k8s._failures import ApiRefusal, read_refusal
from openshell_compute_k8s._objects import ObjectT, Page
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import (
    Backoff,
    DeadlineExceeded,
    FailedPrecondition,
    Unavailable,
)
from openshell_drivers.token_file import TokenFile

AnyT = TypeVar("AnyT")
Query = Mapping[str, str]

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"  # JSON is YAML
FIELD_MANAGER: Final = "openshell-driver-k8s"

_PAGE: Final = 250
_LARGEST: Final = 64 * 2**20
_AGAIN: Final = Backoff(attempts=4, delay=0.2, factor=2.5, maximum=2.0, jitter=0.5)
_CONNECTIONS: Final = 100
_UNREADABLE: Final = (KeyError, OSError, ValueError, TypeError)
_log: Final = logging.getLogger("openshell_compute_k8s")


class Interrupted(Unavailable):
    """The connection broke; whether the API server acted is not known."""


class TooLarge(Unavailable):
    """The answer is larger than is read."""


class Api:
    """One API server."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        namespace: str,
        request_timeout: float,
        connect_timeout: float,
        token_file: TokenFile | None,
    ) -> None:
        self.namespace = namespace
        """The pod's own namespace, or the context's."""
        self._client = client
        self._timeout = request_timeout
        self._connect = connect_timeout
        self._token_file = token_file

    @classmethod
    def connect(cls, config: KubernetesConfig) -> Api:
        """Read how to reach the cluster, without asking it anything. Blocks for a moment.

        Raises `FailedPrecondition` for a kubeconfig that cannot be used.
        """
        quiet()
        namespace, params = cls._read(config)
        token_file = params.pop("token_file") or None
        limits = httpx.Limits(
            max_connections=_CONNECTIONS, max_keepalive_connections=8, keepalive_expiry=15.0
        )
        return cls(
            httpx.AsyncClient(**params, limits=limits),
            namespace=namespace,
            request_timeout=config.request_timeout,
            connect_timeout=config.connect_timeout,
            token_file=None if token_file is None else TokenFile(token_file),
        )

    @classmethod
    def _read(cls, config: KubernetesConfig) -> tuple[str, dict[str, Any]]:
        """Read the namespace, and what an HTTP client needs."""
        try:
            if config.kubeconfig is None:
                found = KubeConfig.from_env()
            else:
                found = KubeConfig.from_file(config.kubeconfig)
            single = found.get(context_name=config.context or None)
            if single is not None:
                params = ConnectionParams(timeout=httpx.Timeout(config.request_timeout))
                wanted: dict[str, Any] = params.httpx_params(single)
                wanted["token_file"] = single.user and single.user.token_file
                wanted["headers"] = _impersonating(single)
                if wanted["token_file"]:
                    # lightkube reads it again only after a 401; `TokenFile` follows each rotation.
                    wanted["auth"] = None
                return single.namespace or "default", wanted
        except (KubeconfigError, yaml.YAMLError, AttributeError, *_UNREADABLE):
            pass
        # Out here what was read, which may hold credentials, is forgotten.
        where = "in $KUBECONFIG, in ~/.kube/config, nor by a pod's service account"
        if config.kubeconfig is not None:
            where = "in the file that kubeconfig names"
        context = ", or it lacks the context" if config.context else ""
        raise FailedPrecondition(f"there is no usable configuration of a cluster {where}{context}")

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def get(self, path: str, kind: type[AnyT], query: Query | None = None) -> AnyT:
        """Read. Tried again within the time of one request; raises as `call` does."""
        return await self.call("GET", path, kind, query=query, again=True)

    async def call(  # a request has that many sides
        self,
        method: str,
        path: str,
        kind: type[AnyT],
        *,
        query: Query | None = None,
        body: Any = None,
        media: str = JSON,
        again: bool = False,
    ) -> AnyT:
        """Ask, and read the answer as `kind`.

        `again` is for what may be done twice: it is tried up to four times, unless refused. Raises
        `ApiRefusal`, `Interrupted`, `Unavailable` if nothing was sent, `DeadlineExceeded`.
        """
        content = None if body is None else msgspec.json.encode(body)
        request = _Request(method, path, dict(query or {}), content, media)
        try:
            with anyio.fail_after(self._timeout):
                raw = await self._tried(request, again=again)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the API server did not answer in {self._timeout:g} s"
            ) from None
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError):
            pass
        raise Unavailable("the API server's answer cannot be read")

    async def pages(
        self, path: str, kind: type[ObjectT], query: Query
    ) -> AsyncIterator[Page[ObjectT]]:
        """List in parts, all of one moment. Raises as `call` does; 410 if it took too long."""
        limit, place = _PAGE, ""
        while True:
            asked = {**query, "limit": str(limit), **({"continue": place} if place else {})}
            try:
                page = await self.get(path, Page[kind], asked)  # type: ignore[valid-type]
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 4)
                continue
            yield page
            place = page.metadata.continue_
            if not place:
                return

    async def everything(self, path: str, kind: type[ObjectT], query: Query) -> list[ObjectT]:
        """List to the end. Raises as `pages` does."""
        return [item async for page in self.pages(path, kind, query) for item in page.items]

    @asynccontextmanager
    async def lines(
        self, path: str, query: Query, *, silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch and give its lines, as long as one comes every `silence` seconds.

        Raises `ApiRefusal` if it is refused, `Unavailable` or `Interrupted` when it breaks.
        """
        timeout = httpx.Timeout(self._timeout, connect=self._connect, read=silence)
        request = _Request("GET", path, dict(query), None, JSON)
        try:
            with anyio.fail_after(self._timeout):
                response = await self._client.send(self._built(request, timeout), stream=True)
            try:
                if response.status_code != httpx.codes.OK:
                    raise await self._refusal(response)
                yield _lines(response)
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                    await response.aclose()
        except (httpx.RequestError, TimeoutError) as error:
            broken = _broken(error)
        except (KubeconfigError, *_UNREADABLE):
            broken = Unavailable("the kubeconfig's plug-in gives no credential")
        else:
            return
        raise broken

    async def _tried(self, request: _Request, *, again: bool) -> bytes:
        delays = iter(_AGAIN)
        while True:
            try:
                return await self._send(request)
            except ApiRefusal as refusal:
                delay = next(delays, None)
                if delay is None or not _passing(refusal, again=again):
                    raise
                delay = max(delay, min(refusal.retry_after or 0.0, self._timeout))
            except Unavailable as error:
                delay = next(delays, None)
                never = isinstance(error, TooLarge) or (
                    isinstance(error, Interrupted) and not again
                )
                if delay is None or never:
                    raise
            await anyio.sleep(delay)

    async def _send(self, request: _Request, *, refreshed: bool = False) -> bytes:
        try:
            timeout = httpx.Timeout(self._timeout, connect=self._connect)
            response = await self._client.send(self._built(request, timeout), stream=True)
            try:
                if response.is_success:
                    return await _body(response, _LARGEST)
                refusal = await self._refusal(response)
            finally:
                await response.aclose()
        except httpx.RequestError as error:
            broken: Exception = _broken(error)
        except (KubeconfigError, *_UNREADABLE):
            broken = Unavailable("the kubeconfig's plug-in gives no credential")
        else:
            if refusal.code == httpx.codes.UNAUTHORIZED and self._token_file and not refreshed:
                self._token_file.refresh()
                return await self._send(request, refreshed=True)
            broken = refusal
        raise broken

    def _built(self, request: _Request, timeout: httpx.Timeout) -> httpx.Request:
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

    async def _refusal(self, response: httpx.Response) -> ApiRefusal:
        body = await _body(response, 2**20)
        return read_refusal(response.status_code, body, response.headers.get("Retry-After"))


class _Request(msgspec.Struct, frozen=True):
    method: str
    path: str
    query: dict[str, str]
    content: bytes | None
    media: str


def _impersonating(single: SingleConfig) -> list[tuple[str, str]]:
    """Read whom a kubeconfig's user acts as, which lightkube does not look at."""
    if single.fname is None:
        return []
    document = yaml.safe_load(Path(single.fname).read_text()) or {}
    for each in document.get("users", []):
        if each.get("name") == single.context.user:
            user = each.get("user") or {}
            groups = [("Impersonate-Group", str(group)) for group in user.get("as-groups") or ()]
            one = [
                (header, str(user[key]))
                for key, header in (("as", "Impersonate-User"), ("as-uid", "Impersonate-Uid"))
                if user.get(key)
            ]
            if user.get("as-user-extra"):
                raise ValueError("not supported")
            return [*one, *groups]
    return []


def quiet() -> None:
    """Have the HTTP libraries log nothing of ordinary requests."""
    for name in ("httpx2", "httpcore2", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _passing(refusal: ApiRefusal, *, again: bool) -> bool:
    """Whether the same request may be let in a little later. A 429 was not let in at all."""
    return refusal.code == 429 or (again and refusal.code >= 500)


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
