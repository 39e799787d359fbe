"""One HTTP request and its bounded answer. The one module that imports httpx2: 150 ms, so it is
imported in a thread after start.

Speaks to httpx2's transport, not its client: redirects, cookies, netrc and environment proxies are
not switched off but absent.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio
import httpx2

from openshell_credentials_keycloak._answers import Answer
from openshell_credentials_keycloak._faults import Fault
from openshell_drivers import DeadlineExceeded, DriverError, FailedPrecondition, Unavailable

BODY_LIMIT: Final = 64 * 1024
"""Bytes; a token response with a large JWT has 4 KiB."""

_HEADERS: Final = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # so that the limit holds for what is parsed, too
    "Connection": "close",
    "User-Agent": "openshell-credentials-keycloak",
}
_SHARE: Final = 0.45
_LIMITS: Final = httpx2.Limits(max_connections=1, max_keepalive_connections=0)

#: The first that fits decides.
_MEANING: Final[tuple[tuple[type[Exception], type[DriverError], str], ...]] = (
    (httpx2.ConnectTimeout, Unavailable, "the issuer cannot be reached in time"),
    (httpx2.TimeoutException, DeadlineExceeded, "the issuer did not answer in time"),
    (httpx2.ConnectError, Unavailable, "the issuer cannot be reached"),
    (httpx2.ProxyError, Unavailable, "the proxy refused the connection"),
    (httpx2.TransportError, Unavailable, "the connection to the issuer broke"),
    (httpx2.InvalidURL, FailedPrecondition, "the issuer's URL cannot be used"),
    (httpx2.RequestError, Unavailable, "the issuer's answer cannot be read"),
    # TLS alerts that come after the handshake pass httpcore untranslated.
    (OSError, Unavailable, "the connection to the issuer broke"),
)

#: OpenSSL's reasons when the other side does not take our certificate.
_CERTIFICATE_REFUSED: Final = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_UNKNOWN_CA",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request: GET without a body, POST of a form with one."""

    url: str
    context: ssl.SSLContext
    connect_timeout: float
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = None


async def call(request: Call) -> Answer:
    """Send a request on a connection of its own and read the answer, 64 KiB at most.

    Only connecting is limited in time here; the caller limits the whole. `Fault` if there is no
    answer, with nothing of httpx2's exceptions attached.
    """
    with _translated():
        async with httpx2.AsyncHTTPTransport(
            verify=request.context, limits=_LIMITS, proxy=request.proxy
        ) as transport:
            response = await transport.handle_async_request(_message(request))
            return Answer(response.status_code, await _body(response))


def _message(request: Call) -> httpx2.Request:
    headers = {**_HEADERS, **request.headers}
    if request.body is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    return httpx2.Request(
        "GET" if request.body is None else "POST",
        request.url,
        headers=headers,
        content=request.body,
        extensions={"timeout": {"connect": _time_to_connect(request.connect_timeout)}},
    )


def _time_to_connect(limit: float) -> float:
    """Bound connecting and the TLS handshake, which get this long each, below the whole's end.

    A handshake that is cancelled from outside leaves httpcore's socket open; one that runs into
    its own limit does not.
    """
    left = anyio.current_effective_deadline() - anyio.current_time()
    return min(limit, max(0.0, left) * _SHARE)


async def _body(response: httpx2.Response) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        return _unread(response, "the issuer's answer is compressed")
    body = bytearray()
    async with aclosing(response.aiter_raw()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > BODY_LIMIT:
                return _unread(response, "the issuer's answer is too large")
    return bytes(body)


def _unread(response: httpx2.Response, why: str) -> bytes:
    """Do without a body where the status says enough."""
    if response.status_code == 200:
        raise Fault(Unavailable, why)
    return b""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise _fault(error) from None


def _fault(error: Exception) -> Fault:
    tls = _tls_error(error)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return Fault(FailedPrecondition, "the issuer's certificate cannot be verified")
    if tls is not None and tls.reason in _CERTIFICATE_REFUSED:
        return Fault(FailedPrecondition, "the issuer refused the client certificate")
    for kind, status, what in _MEANING:
        if isinstance(error, kind):
            return Fault(status, what)
    return Fault(Unavailable, "the issuer cannot be asked")


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def warm() -> None:
    """Import what httpx2 itself imports late."""
    httpx2.AsyncHTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
