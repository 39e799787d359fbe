"""`Api`: requests to one API server, each with an end: tried again where that is right, and read.

Imports the HTTP client and lightkube, so it is imported late.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

import anyio
import httpx2 as httpx
import msgspec

from openshell_compute_k8s import _kubeconfig
from openshell_compute_k8s._failures import ApiRefusal
from openshell_compute_k8s._objects import ObjectT, Page
from openshell_compute_k8s._transport import (
    JSON,
    Interrupted,
    Request,
    TooLarge,
    Transport,
    quiet,
)
from openshell_compute_k8s.config import KubernetesConfig
from openshell_drivers import Backoff, DeadlineExceeded, Unavailable
from openshell_drivers.token_file import TokenFile

__all__ = [
    "APPLY_PATCH",
    "FIELD_MANAGER",
    "JSON",
    "MERGE_PATCH",
    "Api",
    "Interrupted",
    "Query",
    "TooLarge",
]

AnyT = TypeVar("AnyT")
Query = Mapping[str, str]

MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"  # JSON is YAML
FIELD_MANAGER: Final = "openshell-driver-k8s"

_PAGE: Final = 250
_AGAIN: Final = Backoff(attempts=4, delay=0.2, factor=2.5, maximum=2.0, jitter=0.5)
_COUNTED: Final = Backoff(attempts=12, delay=0.1, factor=1.5, maximum=2.0, jitter=0.5)
_CONNECTIONS: Final = 100


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
        self._timeout = request_timeout
        self._transport = Transport(
            client,
            request_timeout=request_timeout,
            connect_timeout=connect_timeout,
            token_file=token_file,
        )

    @classmethod
    def connect(cls, config: KubernetesConfig) -> Api:
        """Read how to reach the cluster, without asking it anything. Blocks for a moment.

        Raises `FailedPrecondition` for a kubeconfig that cannot be used.
        """
        quiet()
        namespace, params = _kubeconfig.read(config)
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

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

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

        `again` is for what may be done twice: it is tried up to four times, unless refused. What
        was certainly not let in, at a quota that is counted anew or with a 429, is always tried
        again. Raises `ApiRefusal`, `Interrupted`, `Unavailable` if nothing was sent,
        `DeadlineExceeded`.
        """
        content = None if body is None else msgspec.json.encode(body)
        request = Request(method, path, dict(query or {}), content, media)
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

    def lines(
        self, path: str, query: Query, *, silence: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a watch and give its lines, as long as one comes every `silence` seconds.

        Raises `ApiRefusal` if it is refused, `Unavailable` or `Interrupted` when it breaks.
        """
        return self._transport.lines(Request("GET", path, dict(query)), silence=silence)

    async def _tried(self, request: Request, *, again: bool) -> bytes:
        delays, at_quota = iter(_AGAIN), iter(_COUNTED)
        while True:
            try:
                return await self._transport.send(request)
            except ApiRefusal as refusal:
                delay = next(at_quota if refusal.quota_conflict else delays, None)
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


def _passing(refusal: ApiRefusal, *, again: bool) -> bool:
    """Whether the same request may be let in a little later. One that found too much to do, or a
    quota that was counted anew meanwhile, was not let in at all."""
    broken = refusal.code >= 500 and not refusal.misshapen
    return refusal.code == 429 or refusal.quota_conflict or (again and broken)
