"""The rules that single values of the configuration obey. Messages never show the value.

Knows nothing of the keys the values belong to: pydantic names those.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

LONGEST_TIMEOUT: Final = 25.0
"""Seconds; a gateway gives up a credentials call after 30."""

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3


def check_url(url: str, *, allow_http: bool) -> str:
    """Refuse a URL that is not https (or http where that is allowed), or says more than a place."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL") from None
    if parts.scheme == "http" and not allow_http:
        raise ValueError("must be an https URL; allow_http: true permits http, unencrypted")
    if parts.scheme not in {"https", "http"} or not parts.hostname or port == 0:
        raise ValueError("must be an https URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password")
    if parts.fragment or not _printable(url) or " " in url:
        raise ValueError("must not hold a fragment, spaces or control characters")
    return url


def _printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _check_ref(ref: str) -> str:
    path = PurePosixPath(ref)
    if path.is_absolute() or ".." in path.parts or "\0" in ref or ref.strip() in {"", "."}:
        raise ValueError("must be the name of a file inside secrets_dir")
    return ref


def _check_absolute(path: str) -> str:
    if not PurePosixPath(path).is_absolute() or "\0" in path:
        raise ValueError("must be an absolute path")
    return path


def _check_scope(scope: str) -> str:
    if not _SCOPE.fullmatch(scope):
        raise ValueError("must be one scope: ASCII without spaces, quotes and backslashes")
    return scope


def _check_text(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be text without control characters, and not empty")
    return text


def _check_resource(uri: str) -> str:
    if not urlsplit(uri).scheme or "#" in uri or not _printable(uri) or " " in uri:
        raise ValueError("must be an absolute URI without a fragment")  # RFC 8707 section 2
    return uri


def _several(value: Any) -> Any:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _empty_for_none(value: Any) -> Any:
    return () if value is None else value


Text = Annotated[str, Field(max_length=1024), AfterValidator(_check_text)]
Name = Annotated[str, Field(max_length=253), AfterValidator(_check_text)]
Ref = Annotated[str, Field(max_length=1024), AfterValidator(_check_ref)]
AbsolutePath = Annotated[str, Field(max_length=4096), AfterValidator(_check_absolute)]
Scope = Annotated[str, Field(max_length=1024), AfterValidator(_check_scope)]
Scopes = Annotated[tuple[Scope, ...], BeforeValidator(_empty_for_none)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_several)]
Resource = Annotated[str, Field(max_length=2048), AfterValidator(_check_resource)]
Resources = Annotated[tuple[Resource, ...], BeforeValidator(_several)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT, allow_inf_nan=False)]
