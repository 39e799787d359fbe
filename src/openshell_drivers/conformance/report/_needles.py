"""The forms in which a secret turns up elsewhere: encoded, escaped, in part.

Knows nothing of how they are searched for.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, quote_plus

#: A part of a secret's own bytes that is as good as the secret.
WINDOW: Final = 12
#: An encoding of fewer characters would be found where the secret is not.
_SHORTEST_ENCODING: Final = 8
#: Of a longer value, parts are looked for in its first and its last so many bytes.
_EDGE: Final = 1024
_SIGNED: Final = re.compile(r"eyJ[\w-]+\.[\w-]*\.([\w-]{16,})")


@dataclass(frozen=True, slots=True)
class Needle:
    """Something to look for: any run of at least `least` bytes of `data`."""

    secret: int
    """The index of the secret that it gives away."""
    data: bytes
    least: int

    @property
    def whole(self) -> bool:
        """Whether only all of it counts."""
        return self.least >= len(self.data)


def needles(index: int, secret: str) -> Iterator[Needle]:
    """Every form of one secret, as UTF-8; none for an empty one."""
    raw = secret.encode("utf-8", "surrogatepass")
    if not raw:
        return
    for data in dict.fromkeys([raw, *_encodings(secret, raw)]):
        yield Needle(index, data, len(data))
    for part in _parts(secret, raw):
        yield Needle(index, part, WINDOW)


def _encodings(secret: str, raw: bytes) -> Iterator[bytes]:
    forms = [raw.hex(), raw.hex().upper(), quote(raw, safe=""), quote(raw), quote_plus(raw)]
    forms += [json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]
    for data in [form.encode("utf-8", "surrogatepass") for form in forms]:
        if len(data) >= _SHORTEST_ENCODING:
            yield data
    for core in _base64(raw):
        if len(core) >= _SHORTEST_ENCODING:
            yield core
            yield core.translate(_URL_SAFE)


_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


def _base64(raw: bytes) -> Iterator[bytes]:
    """With padding and without, and what stays the same when it is part of something longer."""
    whole = base64.b64encode(raw)
    yield whole
    yield whole.rstrip(b"=")
    for before in range(3):
        shifted = base64.b64encode(bytes(before) + raw)
        head = (before * 8 + 5) // 6  # characters that also hold bits of what comes before
        tail = (before + len(raw)) * 8 // 6  # and those of what comes after
        yield shifted[head:tail]


def _parts(secret: str, raw: bytes) -> Iterator[bytes]:
    """What a part may be cut from. Of a signed token only the signature is its own: its head is
    that of every token, and its claims are no secret. A key's lines count, without its frame."""
    signed = _SIGNED.fullmatch(secret)
    if signed is not None:
        raw = signed.group(1).encode()
    for edge in [raw[:_EDGE], raw[-_EDGE:]] if len(raw) > 2 * _EDGE else [raw]:
        for line in edge.splitlines():
            if len(line) >= WINDOW and not line.startswith(b"-----"):
                yield line
