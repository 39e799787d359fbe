"""`TokenFile`: a bearer token that somebody else rotates in a file, read once per rotation.

For a driver's own way into its backend, such as a projected Kubernetes service-account token, which
the kubelet replaces by swapping a symbolic link. Adapters give it to gRPC and to HTTP clients.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from openshell_drivers._faults import WrongValue, describe
from openshell_drivers.errors import Unavailable
from openshell_drivers.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Generator

    import grpc
    import httpx

__all__ = ["TokenFile", "grpc_call_credentials", "http_auth"]

_log: Final = logging.getLogger("openshell_drivers.token_file")
_LOOK_SECONDS: Final = 1.0
_LONGEST: Final = 64 * 1024
#: What a header can hold; a token has no white space either (RFC 6750).
_TOKEN: Final = re.compile(rb"[!-~]+")
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class _Unusable(Exception):
    """Why a file has no token. The text is ours and holds none of the file's."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A token in hand; instants of the monotonic clock."""

    token: Secret
    identity: tuple[int, ...]
    read_at: float
    look_at: float


class TokenFile:
    """Give out the token in a file, however often it is rotated.

    `token()` touches no file for a second after it has looked. Then it looks whether the file is
    another one, and reads it if so, or if `reread_seconds` have passed since it was read, for file
    systems that hide a change. A token that cannot be read again stays in use, and a warning is
    logged once. May be used by many threads: one of them looks, the others go on with the token at
    hand. A look or a read of a local file is short enough for an event loop.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        reread_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Touch no file yet. Raises `ValueError` unless `reread_seconds` is more than zero."""
        if not reread_seconds > 0:
            raise WrongValue("reread_seconds must be more than zero")
        self._path: Final = Path(path)
        self._reread: Final = reread_seconds
        self._look: Final = min(_LOOK_SECONDS, reread_seconds)
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._held: _Held | None = None  # replaced whole, so that it can be read without the lock
        self._warned = False

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r})"

    def token(self) -> Secret:
        """Give the current token. Raises `Unavailable` while there has never been one."""
        held = self._held
        if held is not None and (self._clock() < held.look_at or self._lock.locked()):
            return held.token
        with self._lock:
            return self._looked(force=False)

    def refresh(self) -> Secret:
        """Give the token after a look at the file: for a caller whose token was just refused.

        Reads an unchanged file at most once a second, however often it is called. Raises as
        `token` does.
        """
        with self._lock:
            return self._looked(force=True)

    def headers(self) -> dict[str, str]:
        """Make the HTTP header with the current token, for any client. Raises as `token` does."""
        return _headers(self.token())

    def _looked(self, *, force: bool) -> Secret:
        now, held = self._clock(), self._held
        try:
            self._held = held = self._renewed(held, now, force=force)
        except (OSError, _Unusable) as error:
            problem = error
        else:
            self._warned = False
            return held.token
        return self._kept(held, now, problem)

    def _renewed(self, held: _Held | None, now: float, *, force: bool) -> _Held:
        look_at = now + self._look
        if held is not None:
            age = now - held.read_at
            unchanged = held.identity == _identity(self._path.stat())
            if unchanged and age < (self._look if force else self._reread):
                return _Held(held.token, held.identity, held.read_at, look_at)
        token, identity = _read(self._path)
        return _Held(token, identity, now, look_at)

    def _kept(self, held: _Held | None, now: float, problem: Exception) -> Secret:
        if not self._warned:
            self._warned = True
            rule = str(problem) if isinstance(problem, _Unusable) else describe(problem)
            use = "the last token stays in use" if held else "there is no token yet"
            _log.warning(
                "cannot read a token; %s", use, extra={"file": str(self._path), "fault": rule}
            )
        if held is None:
            raise Unavailable("the driver has no token for its backend yet")
        self._held = _Held(held.token, held.identity, held.read_at, now + self._look)
        return held.token


def grpc_call_credentials(token_file: TokenFile) -> grpc.CallCredentials:
    """Make gRPC send the token with every call: ``authorization: Bearer ...``.

    gRPC does so on secure channels only, and asks in a thread of its own. A call fails with
    ``UNAVAILABLE`` while there is no token. Needs grpcio.
    """
    import grpc

    class Bearer(grpc.AuthMetadataPlugin):
        def __call__(
            self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback
        ) -> None:
            try:
                token = token_file.token()
            except Unavailable as error:
                callback((), error)
            else:
                callback((("authorization", f"Bearer {token.reveal()}"),), None)

    return grpc.metadata_call_credentials(Bearer(), name="token-file")


def http_auth(token_file: TokenFile) -> httpx.Auth:
    """Make httpx send the token with every request.

    After a 401 the file is looked at, and the request is sent once more if the token is another
    one; not if its body was a stream, which is gone. Raises as `TokenFile.token` does. Needs httpx;
    other clients use `TokenFile.headers`.
    """
    import httpx

    class Bearer(httpx.Auth):
        def auth_flow(
            self, request: httpx.Request
        ) -> Generator[httpx.Request, httpx.Response, None]:
            sent = token_file.token()
            request.headers.update(_headers(sent))
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
            token = token_file.refresh()
            if token != sent and isinstance(request.stream, httpx.ByteStream):
                request.headers.update(_headers(token))
                yield request

    return Bearer()


def _headers(token: Secret) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.reveal()}"}


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)


def _read(path: Path) -> tuple[Secret, tuple[int, ...]]:
    # Before it is opened, too: to open a device can be to do something to it.
    _require_regular(path.stat())
    with open(path, "rb", opener=lambda name, _: os.open(name, _FLAGS)) as file:
        # Before the reading: what is written meanwhile makes it another file at the next look.
        status = os.fstat(file.fileno())
        _require_regular(status)
        raw = file.read(_LONGEST + 1)
    if len(raw) > _LONGEST:
        raise _Unusable(f"the file is longer than {_LONGEST} bytes")
    text = raw.strip(b" \t\r\n")
    if not text:
        raise _Unusable("the file is empty")
    if _TOKEN.fullmatch(text) is None:
        raise _Unusable("the file holds white space, control characters or more than ASCII")
    return Secret(text.decode("ascii")), _identity(status)


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _Unusable("it is not a regular file")
